"""A service's record, its lease, and what the registry concludes about it. Pure.

Whether a service is fit follows from four facts, each with one owner:

    its lease      HELD ─no beat for one lease─▶ LAPSED ─five leases─▶ removed
                   HELD, LAPSED ─lapsed together with most others─▶ SUSPECT ─a beat─▶ HELD
    its status     what its babysitter says; only `running` is fit
    a probe        of records without a lease only: they say little themselves
    a drain mark   the operator's will, by name
"""

from enum import Enum, auto
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from common.wire.registry import Health, Reason, Service, Status


class Phase(Enum):
    HELD = auto()
    LAPSED = auto()
    SUSPECT = auto()


class Moment(Struct, frozen=True):
    """`at` in seconds on the lease clock (decides), `wall` as wire text (is only shown)."""

    at: float
    wall: str


class Record(Struct, frozen=True, kw_only=True):
    """What is durable of a service. `registrant`: where a POST that bore the token came from."""

    name: str
    host: str
    port: int
    hostname: str
    url: str
    status: str
    weight: float = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)
    timestamp: str
    instance_id: str | None = None
    lease_s: float | None = None
    registrant: str | None = None
    revision: int = 0


class Verdict(Struct, frozen=True):
    """What probing a record without a lease has shown; `text` says why it is unhealthy."""

    health: Health = Health.UNKNOWN
    text: str = ""


NOT_PROBED = Verdict()


class Entry(Struct, frozen=True, kw_only=True):
    """A record with what only memory knows of it. Replaced whole, never edited.

    `beat_at` is the lease time of the last beat, `since` that of the last change of `phase`.
    `view` is the record as served, but for `last_heartbeat`: see `served`.
    """

    record: Record
    beat_at: float
    beat_wall: str
    phase: Phase = Phase.HELD
    since: float = 0.0
    verdict: Verdict = NOT_PROBED
    draining: bool = False
    view: Service

    @property
    def address(self) -> tuple[str, int]:
        return address_key(self.record.host, self.record.port)

    @property
    def holds(self) -> bool:
        """Whether its lease keeps others off its name and address. A suspect may well be alive."""
        return self.record.lease_s is not None and self.phase is not Phase.LAPSED


def address_key(host: str, port: int) -> tuple[str, int]:
    """Host names are compared without case."""
    return host.lower(), port


def served(entry: Entry) -> Service:
    """The record as it is served now."""
    return replace(entry.view, last_heartbeat=entry.beat_wall)


def is_same_view(one: Service, other: Service) -> bool:
    """Whether nothing differs that bumps the revision: times are not part of what is watched."""
    return one == replace(
        other,
        timestamp=one.timestamp,
        last_heartbeat=one.last_heartbeat,
        revision=one.revision,
    )


def entry_of(
    record: Record,
    now: Moment,
    *,
    beat_at: float | None = None,
    beat_wall: str | None = None,
    phase: Phase = Phase.HELD,
    since: float | None = None,
    verdict: Verdict = NOT_PROBED,
    draining: bool = False,
) -> Entry:
    """An entry, its conclusion drawn. Times default to `now`."""
    wall = now.wall if beat_wall is None else beat_wall
    return Entry(
        record=record,
        beat_at=now.at if beat_at is None else beat_at,
        beat_wall=wall,
        phase=phase,
        since=now.at if since is None else since,
        verdict=verdict,
        draining=draining,
        view=_view(record, wall, phase, verdict, draining),
    )


def changed(entry: Entry, now: Moment, **what: Any) -> Entry:
    """`entry` with some fields replaced and the conclusion drawn anew."""
    kept = {
        "record": entry.record,
        "beat_at": entry.beat_at,
        "beat_wall": entry.beat_wall,
        "phase": entry.phase,
        "since": entry.since,
        "verdict": entry.verdict,
        "draining": entry.draining,
    }
    return entry_of(now=now, **{**kept, **what})


def conclude(
    status: str, lease_s: float | None, phase: Phase, verdict: Verdict, draining: bool
) -> tuple[Health, bool, tuple[Reason, ...]]:
    """Health, whether it is routable, and why not."""
    health, reasons = _from_lease(lease_s, phase, verdict)
    if status != Status.RUNNING:
        reasons.append(Reason("status", f"it says that it is {status}"))
        if status != Status.DRAINING:  # an engine that ends its streams is well, only not for more
            health = Health.UNHEALTHY
    if draining:
        reasons.append(Reason("draining", "drained by the operator"))
    routable = health in {Health.HEALTHY, Health.UNKNOWN}
    return health, routable and not draining and status == Status.RUNNING, tuple(reasons)


def _from_lease(
    lease_s: float | None, phase: Phase, verdict: Verdict
) -> tuple[Health, list[Reason]]:
    if phase is Phase.SUSPECT:
        text = "its lease lapsed together with most others: the network may be at fault, not it"
        return Health.SUSPECT, [Reason("suspect", text)]
    if phase is Phase.LAPSED and lease_s is not None:
        text = f"no heartbeat within its lease of {lease_s:g} s"
        return Health.UNHEALTHY, [Reason("lease_lapsed", text)]
    if phase is Phase.LAPSED:
        return Health.UNHEALTHY, [Reason("heartbeat_old", "no heartbeat for too long")]
    if lease_s is not None:
        return Health.HEALTHY, []
    if verdict.health is Health.UNHEALTHY:
        return Health.UNHEALTHY, [Reason("probe_failed", verdict.text)]
    return verdict.health, []


def _view(record: Record, wall: str, phase: Phase, verdict: Verdict, draining: bool) -> Service:
    health, fit, reasons = conclude(record.status, record.lease_s, phase, verdict, draining)
    return Service(
        name=record.name,
        host=record.host,
        port=record.port,
        hostname=record.hostname,
        url=record.url,
        status=record.status,
        timestamp=record.timestamp,
        last_heartbeat=wall,
        health_status=health,
        is_healthy=fit,
        weight=record.weight,
        metadata=record.metadata,
        instance_id=record.instance_id,
        lease_s=record.lease_s,
        revision=record.revision,
        reasons=reasons,
        draining=draining,
    )
