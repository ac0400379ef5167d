"""registry.toml, every key with its default. Pure: shapes, ranges and what must agree.

An empty file is valid on loopback.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from common import address, redis_url
from common.config import Document, Problem
from registry.changes import LINE_BYTES_MAX
from registry.state import Terms

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1)]

MEMORY = "memory:"


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every table of the file: unknown keys are refused."""


class Lease(_Table, frozen=True, kw_only=True):
    """Registrations kept alive by heartbeats. Babysitters are told these numbers, and obey."""

    #: How often a service beats.
    beat_s: Positive = 5
    #: Without a beat for this long a service is unfit.
    lease_s: Positive = 15
    #: Without a beat for this many leases it is removed. Retired lives are kept as long.
    removed_after_leases: Annotated[int, Meta(ge=2, le=1000)] = 5
    #: A mass expiry is suspected to be the network's: such services stay this long without a beat.
    suspect_max_s: Positive = 600
    #: Fewer leases than this are never suspected: half of three is no mass.
    suspect_leases_min: Annotated[int, Meta(ge=2)] = 4


class Legacy(_Table, frozen=True, kw_only=True):
    """Records of older clients, which ask for no lease."""

    #: Without a beat for this long such a service is unfit.
    unfit_s: Positive = 120
    #: Without a beat for this long it is removed.
    removed_s: Positive = 300


class Probe(_Table, frozen=True, kw_only=True):
    """GET /health of records without a lease, where `allow_hosts` lets it."""

    #: How often each is probed.
    every_s: Positive = 10
    #: How long one may take in all.
    timeout_s: Positive = 5
    #: Failures in a row that make a service unhealthy: one lost packet is no failure.
    failures: Annotated[int, Meta(ge=1, le=100)] = 2
    #: Probes on their way at once.
    concurrent_max: Annotated[int, Meta(ge=1, le=1000)] = 32


class Limits(_Table, frozen=True, kw_only=True):
    """What one registry holds. Everything here is a bound on memory."""

    #: Services. Each takes about 4 KB and a line in every router.
    services_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    #: One request's body.
    body_bytes_max: Bytes = 1 << 20
    #: One service's metadata, as JSON. Its record travels as one line, which readers bound too.
    metadata_bytes_max: Annotated[int, Meta(ge=1024, le=LINE_BYTES_MAX // 2)] = 65_536
    #: Consumers of /watch.
    watchers_max: Count = 1_000
    #: Connections in all, watchers included.
    connections_max: Count = 4_000
    #: Changes kept for consumers that reconnect; one that missed more starts anew.
    changes_max: Count = 20_000
    changes_bytes_max: Bytes = 64 << 20
    #: A consumer of /watch that takes no byte for this long is cut.
    watch_stall_s: Positive = 30
    #: Changes waiting for the store; more are refused with 503.
    pending_max: Count = 10_000


class Config(_Table, frozen=True, kw_only=True):
    #: Address and port.
    listen: str = "127.0.0.1:18000"
    #: File with the cluster token. Wanted off loopback, or auth = "none".
    token_file: str | None = None
    #: "none": anyone who reaches the port may register services and be routed to.
    auth: Literal["none"] | None = None
    #: Where the table is kept: "" is SQLite in state_dir, "memory:" forgets it on exit. Registries
    #: with the same "redis://HOST:PORT/DB", "rediss://…" or "redis+sentinel://H1,H2/MASTER/DB" are
    #: one registry.
    state: str = ""
    #: File with Redis' password. Default: $CRECHE_STATE_PASSWORD, else none.
    state_password_file: str | None = None
    #: File with the sentinels' own password, where they have one.
    state_sentinel_password_file: str | None = None
    #: Certificate authority of rediss://. Default: the system's.
    state_ca_file: str | None = None
    #: What the names of all keys in Redis begin with. Registries with another are another fleet.
    state_prefix: Annotated[str, Meta(min_length=1, max_length=64)] = "creche:"
    #: One command to Redis may take this long; then it counts as away.
    state_timeout_s: Annotated[float, Meta(gt=0, le=4)] = 2
    #: Folder of the SQLite file. Default: $STATE_DIRECTORY, else ~/.local/state/creche/registry.
    state_dir: str | None = None
    #: Whose URLs may be fetched: addresses, networks, exact names; loopback always. Default: also
    #: the address that a registration bearing the token came from.
    allow_hosts: tuple[str, ...] | None = None
    #: A comment this often shows consumers of /watch that the registry lives. They give up at 40 s.
    keep_alive_s: Annotated[float, Meta(gt=0, le=30)] = 15
    lease: Lease = Lease()
    legacy: Legacy = Legacy()
    probe: Probe = Probe()
    limits: Limits = Limits()


def terms(config: Config) -> Terms:
    """The table's numbers."""
    return Terms(
        lease_s=config.lease.lease_s,
        beat_s=config.lease.beat_s,
        removed_after_leases=config.lease.removed_after_leases,
        suspect_max_s=config.lease.suspect_max_s,
        suspect_leases_min=config.lease.suspect_leases_min,
        legacy_unfit_s=config.legacy.unfit_s,
        legacy_removed_s=config.legacy.removed_s,
        services_max=config.limits.services_max,
    )


def tick_s(config: Config) -> float:
    """How often time is looked at: 30 times a lease, so that a lapse is seen at once."""
    return min(0.5, max(0.01, _shortest_s(config) / 30))


def stall_s(config: Config) -> float:
    """A longer gap between two looks at the time was a stall: no beat could be heard in it.

    A quarter of a lease: with beats every third, none is missed in a gap that counts.
    """
    return max(3 * tick_s(config), _shortest_s(config) / 4)


def _shortest_s(config: Config) -> float:
    return min(config.lease.lease_s, config.legacy.unfit_s)


def problems(config: Config, document: Document) -> list[Problem]:
    """What is wrong across fields."""
    return [
        *_addresses(config, document),
        *_times(config, document),
        *_state(config, document),
    ]


def _addresses(config: Config, document: Document) -> list[Problem]:
    found: list[Problem] = []
    try:
        address.parse(config.listen)
    except ValueError as why:
        found.append(document.problem(("listen",), str(why), fix='listen = "127.0.0.1:18000"'))
    if config.token_file is not None and config.auth is not None:
        found.append(
            document.problem(
                ("auth",),
                'token_file and auth = "none" contradict each other',
                effect="With this file the daemon does not start: it can't tell which you mean.",
                fix="keep one of the two lines",
            )
        )
    for index, entry in enumerate(config.allow_hosts or ()):
        try:
            address.Networks([entry])
        except ValueError as why:
            found.append(
                document.problem(
                    ("allow_hosts", index), str(why), fix='allow_hosts = ["10.0.0.0/24"]'
                )
            )
    return found


def _third(lease_s: float) -> float:
    """A third, at most, as a person would write it: 5, 0.3, 40."""
    third = lease_s / 3
    step = 10.0 ** math.floor(math.log10(third))
    return round(math.floor(third / step + 1e-9) * step, 12)


def _times(config: Config, document: Document) -> list[Problem]:
    found: list[Problem] = []
    lease, legacy = config.lease, config.legacy
    if lease.beat_s * 2 > lease.lease_s:
        found.append(
            document.problem(
                ("lease", "beat_s"),
                f"a beat every {lease.beat_s:g} s is too rare for a lease of {lease.lease_s:g} s",
                effect="One lost or late beat would take a healthy service out of rotation.",
                fix=f"beat_s = {_third(lease.lease_s):g}   a third of lease_s",
            )
        )
    if legacy.removed_s <= legacy.unfit_s:
        found.append(
            document.problem(
                ("legacy", "removed_s"),
                f"removed_s ({legacy.removed_s:g}) is not above unfit_s ({legacy.unfit_s:g})",
                effect="Services of older clients would vanish without ever having been unfit.",
                fix=f"removed_s = {legacy.unfit_s * 2.5:g}",
            )
        )
    if config.probe.timeout_s > config.probe.every_s:
        found.append(
            document.problem(
                ("probe", "timeout_s"),
                f"a probe may take {config.probe.timeout_s:g} s, "
                f"the next begins after {config.probe.every_s:g} s",
                effect="Probes of a service that hangs would pile up.",
                fix=f"timeout_s = {config.probe.every_s / 2:g}",
            )
        )
    return found


def _state(config: Config, document: Document) -> list[Problem]:
    if config.state in {"", MEMORY}:
        return []
    if not redis_url.is_redis(config.state):
        return [
            document.problem(
                ("state",),
                f'state = "{config.state}" is no store that this version has',
                effect="With this file the daemon does not start: "
                "registrations would be kept nowhere.",
                fix='remove the line (SQLite in state_dir), or state = "memory:", '
                'or state = "redis://HOST:6379/0"',
            )
        ]
    try:
        redis_url.parse(config.state)
    except ValueError as why:
        has_password = "password" in str(why)
        return [
            document.problem(
                ("state",),
                f"the URL in state can't be used: {why}",
                effect="With this file the daemon does not start.",
                fix='state_password_file = "/etc/creche/redis.password", and the URL without it'
                if has_password
                else 'state = "redis://HOST:6379/0"',
            )
        ]
    return []


def describe(config: Config) -> str:
    """What `check` prints when nothing is wrong."""
    where = "kept in memory only" if config.state == MEMORY else "SQLite"
    if redis_url.is_redis(config.state):
        where = f"shared in {redis_url.parse(config.state)}"
    lease = config.lease
    return f"listen {config.listen}, {where}, beat {lease.beat_s:g} s, lease {lease.lease_s:g} s"
