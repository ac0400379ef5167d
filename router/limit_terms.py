"""What a router and the Redis that it shares say to each other of limits. Pure.

Asking is what a request wants; Settlement, what one used that was granted; Addition, what a router
granted alone while Redis was away. The last two are sent until they are acknowledged.
"""

from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct

from router.limits import Decision, Limiter
from router.upstream import Upstream


class State(Enum):
    IN_AIR = "in the air"
    GRANTED = "granted"
    REFUSED = "refused"
    LOST = "lost"


class Asking:
    """One request asks for what all its limits together must grant."""

    __slots__ = (
        "decisions",
        "id",
        "left",
        "limiters",
        "state",
        "tokens",
        "until",
        "upstream",
        "wake",
    )

    def __init__(
        self,
        id: str,
        upstream: Upstream,
        limiters: Sequence[Limiter],
        tokens: int,
        until: float,
        wake: Callable[[], None],
    ) -> None:
        self.id = id
        #: Who is asked next, if it is granted.
        self.upstream = upstream
        self.limiters = limiters
        self.tokens = max(tokens, 1)
        #: Nobody waits for longer.
        self.until = until
        self.wake = wake
        self.state = State.IN_AIR
        #: Of each limiter, once it was answered.
        self.decisions: Sequence[tuple[Decision, ...]] = ()
        #: Its request went on without it.
        self.left = False


class Settlement(Struct, frozen=True):
    name: str
    id: str
    tpm: int
    cost: int
    #: None: as much as it reserved.
    used: int | None


class Addition(Struct, frozen=True):
    """What a router granted alone, in units of the scripts."""

    id: str
    name: str
    rpm: int
    tpm: int
    requests: int
    tokens: int
    #: What all routers had granted before, as far as it has not drained.
    requests_before: int = 0
    tokens_before: int = 0
