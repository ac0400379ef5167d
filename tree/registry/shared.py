"""What registries that share one store tell each other, and what of a service lies there. Pure.

    Kept      a service as it lies in the store: its record, and what every registry must conclude
    News      one batch, as the others learn of it: they take it without deciding anything anew
    Whole     all there is, where news alone can't tell

Times in them are milliseconds of the store's clock: no two registries share another.
"""

from collections.abc import Iterable

from msgspec import Struct

from common.wire.registry import Service
from registry.records import Entry, Moment, Phase, Record, Verdict, address_key, entry_of
from registry.state import Batch, Change, Gone, Life, Put


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`since_ms` is when its phase began, `beat_wall` the last beat that was worth a batch."""

    record: Record
    phase: str = Phase.HELD.name
    verdict: Verdict = Verdict()
    draining: bool = False
    since_ms: int = 0
    beat_wall: str = ""


class Told(Struct, frozen=True, array_like=True):
    """One change as watchers learn it. No `service`: it is gone."""

    revision: int
    name: str
    instance_id: str | None = None
    service: Service | None = None


class News(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`retired` has its lives as [name, instance_id, lease_s or null]."""

    revision: int
    entries: dict[str, Kept | None] = {}
    retired: tuple[tuple[str, str, float | None], ...] = ()
    drained: dict[str, bool] = {}
    changes: tuple[Told, ...] = ()
    beaten: frozenset[str] = frozenset()
    new_lives: tuple[str, ...] = ()
    loads: dict[str, dict[str, float]] = {}


class Whole(Struct, frozen=True, kw_only=True):
    """`silent_s` tells how long each service has not been heard, by the store's clock."""

    epoch: str
    revision: int
    entries: tuple[Kept, ...]
    silent_s: dict[str, float]
    retired: dict[Life, float]
    drained: frozenset[str]


def merged(one: Whole, other: Whole) -> Whole:
    """What two tables of one origin know together, where each was told things the other was not.

    Of two records that can't both be, the one that was changed later counts; a life that either
    knows to be over is over. What was let go without being retired may come back for a lease.
    """
    retired = {**one.retired, **other.retired}
    found: dict[str, Kept] = {}
    leased: set[tuple[str, int]] = set()
    for kept in sorted((*one.entries, *other.entries), key=_revision, reverse=True):
        record = kept.record
        if record.name in found or (record.name, record.instance_id) in retired:
            continue
        where = address_key(record.host, record.port)
        if record.lease_s is not None and kept.phase != Phase.LAPSED.name:
            if where in leased:
                continue
            leased.add(where)
        found[record.name] = kept
    marks = {name for name in one.drained | other.drained if name not in found}
    return Whole(
        epoch=one.epoch,
        revision=max(one.revision, other.revision),
        entries=tuple(found.values()),
        silent_s={},
        retired=retired,
        drained=frozenset(marks | {name for name, kept in found.items() if kept.draining}),
    )


def _revision(one: Kept) -> int:
    return one.record.revision


class Clocks(Struct, frozen=True):
    """One moment on the lease clock of a registry and on the store's."""

    at: float
    store_ms: int


def kept(entry: Entry, clocks: Clocks) -> Kept:
    return Kept(
        record=entry.record,
        phase=entry.phase.name,
        verdict=entry.verdict,
        draining=entry.draining,
        since_ms=clocks.store_ms - round((clocks.at - entry.since) * 1000),
        beat_wall=entry.beat_wall,
    )


def entry(one: Kept, now: Moment, clocks: Clocks) -> Entry:
    """As of `now`. It counts as heard now: who else heard less of it asks the store first."""
    passed_s = max(0.0, (clocks.store_ms - one.since_ms) / 1000)
    return entry_of(
        one.record,
        now,
        beat_wall=one.beat_wall or one.record.timestamp,
        phase=Phase[one.phase],
        since=min(now.at, clocks.at - passed_s),
        verdict=one.verdict,
        draining=one.draining,
    )


def news_of(batch: Batch, clocks: Clocks) -> News:
    return News(
        revision=batch.revision,
        entries={n: kept(e, clocks) if e else None for n, e in batch.entries.items()},
        retired=tuple((*life, lease_s) for life, lease_s in batch.retired.items()),
        drained={name: bool(on) for name, on in batch.drained.items()},
        changes=tuple(_told(batch.changes)),
        beaten=batch.beaten,
        new_lives=tuple(sorted(batch.new_lives)),
        loads=batch.loads,
    )


def _told(changes: Iterable[Change]) -> Iterable[Told]:
    for change in changes:
        match change:
            case Put(revision=revision, service=service):
                yield Told(revision, service.name, service.instance_id, service)
            case Gone(revision=revision, name=name, instance_id=instance_id):
                yield Told(revision, name, instance_id)


def change(told: Told) -> Change:
    if told.service is not None:
        return Put(told.revision, told.service)
    return Gone(told.revision, told.name, told.instance_id)
