"""Which fault, on whom, when, for how long: all from a seed. Pure.

Every kind comes once before any comes again, so that a short run sees them all. One thing has one
fault at a time; different things may be broken at once (an engine dies while its babysitter is
dead).
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from random import Random

from msgspec import Struct


class Kind(StrEnum):
    KILL_ENGINE = "kill-engine"
    KILL_SHIM = "kill-shim"
    KILL_BABYSITTER = "kill-babysitter"
    KILL_ROUTER = "kill-router"
    KILL_REGISTRY = "kill-registry"
    FORGET_REGISTRY = "forget-registry"
    STOP_ENGINE = "stop-engine"
    STOP_SHIM = "stop-shim"
    STOP_BABYSITTER = "stop-babysitter"
    STOP_ROUTER = "stop-router"
    STOP_REGISTRY = "stop-registry"
    EXIT_0 = "exit-0"
    CRASH_AT_START = "crash-at-start"
    CRASH_LOOP = "crash-loop"
    STEAL_PORT = "steal-port"
    DEAD_ENGINE = "dead-engine"
    ERROR_ENGINE = "error-engine"
    FULL_DISK = "full-disk"
    STALL_REGISTRY = "stall-registry"
    CUT_REGISTRY = "cut-registry"
    STALL_PEER = "stall-peer"
    DRIP_PEER = "drip-peer"
    CUT_PEER = "cut-peer"
    KILL_REDIS = "kill-redis"
    FORGET_REDIS = "forget-redis"
    STOP_REDIS = "stop-redis"
    STALL_REDIS = "stall-redis"
    CUT_REDIS = "cut-redis"


#: What is broken by a kind: the role of its target.
ROLES: Mapping[Kind, str] = {
    Kind.KILL_ENGINE: "engine",
    Kind.KILL_SHIM: "engine",
    Kind.KILL_BABYSITTER: "babysitter",
    Kind.KILL_ROUTER: "router",
    Kind.KILL_REGISTRY: "registry",
    Kind.FORGET_REGISTRY: "sqlite",
    Kind.STOP_ENGINE: "engine",
    Kind.STOP_SHIM: "engine",
    Kind.STOP_BABYSITTER: "babysitter",
    Kind.STOP_ROUTER: "router",
    Kind.STOP_REGISTRY: "registry",
    Kind.EXIT_0: "engine",
    Kind.CRASH_AT_START: "engine",
    Kind.CRASH_LOOP: "engine",
    Kind.STEAL_PORT: "engine",
    Kind.DEAD_ENGINE: "engine",
    Kind.ERROR_ENGINE: "engine",
    Kind.FULL_DISK: "disk",
    Kind.STALL_REGISTRY: "link",
    Kind.CUT_REGISTRY: "link",
    Kind.STALL_PEER: "peer",
    Kind.DRIP_PEER: "peer",
    Kind.CUT_PEER: "peer",
    Kind.KILL_REDIS: "redis",
    Kind.FORGET_REDIS: "redis",
    Kind.STOP_REDIS: "redis",
    Kind.STALL_REDIS: "to-redis",
    Kind.CUT_REDIS: "to-redis",
}

#: Seconds a fault lasts. A babysitter may be away for longer than a lease, and for less.
LASTS_S: Mapping[str, tuple[float, float]] = {
    "engine": (0.3, 6.0),
    "babysitter": (0.3, 12.0),
    "router": (0.3, 2.5),
    "registry": (0.3, 5.0),
    "sqlite": (0.3, 5.0),
    "redis": (0.3, 6.0),
    "to-redis": (0.5, 6.0),
    "disk": (1.0, 5.0),
    "link": (0.5, 6.0),
    "peer": (0.3, 4.0),
}

#: What was broken is left alone for so long, so that it can be well in between.
REST_S = 4.0


class Fault(Struct, frozen=True):
    """Times in seconds; `at_s` from the beginning of the load."""

    at_s: float
    kind: Kind
    target: str
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.at_s:7.2f} s  {self.kind:<16} {self.target:<10} for {self.lasts_s:.2f} s"


def schedule(
    seed: int,
    seconds: float,
    targets: Mapping[str, Collection[str]],
    *,
    every_s: float = 2.0,
) -> list[Fault]:
    """Faults within `seconds`, about one every `every_s`. A role without targets has no faults."""
    chance = Random(seed)
    kinds = [kind for kind in Kind if targets.get(ROLES[kind])]
    if not kinds:
        return []
    found: list[Fault] = []
    bag: list[Kind] = []
    free: dict[str, float] = {}
    now = every_s * chance.uniform(0.2, 0.8)
    while now < seconds:
        if not bag:
            bag = chance.sample(kinds, len(kinds))
        picked = _next(bag, targets, free, now, chance)
        if picked is not None:
            kind, target = picked
            bag.remove(kind)
            lasts = chance.uniform(*LASTS_S[ROLES[kind]])
            lasts = round(min(lasts, max(0.3, seconds - now)), 2)
            found.append(Fault(round(now, 2), kind, target, lasts))
            free[target] = now + lasts + REST_S
        now += every_s * chance.uniform(0.4, 1.6)
    return found


def _next(
    bag: list[Kind],
    targets: Mapping[str, Collection[str]],
    free: Mapping[str, float],
    now: float,
    chance: Random,
) -> tuple[Kind, str] | None:
    """The first kind left that has somebody to break."""
    for kind in bag:
        open_now = [one for one in sorted(targets[ROLES[kind]]) if free.get(one, 0.0) <= now]
        if open_now:
            return kind, chance.choice(open_now)
    return None
