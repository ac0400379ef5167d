"""How an upstream does, as this router's own traffic and probes show it. Pure: time is given.

    UNKNOWN ──2 successes in a row──▶ HEALTHY ──a failure, a probe over 1 s──▶ DEGRADED
    any ──3 failures in a row──▶ UNHEALTHY        any ──one failed connect──▶ UNHEALTHY, set aside
    UNHEALTHY ──a probe succeeds──▶ DEGRADED, one failure from UNHEALTHY ──2 successes──▶ HEALTHY

A Node outlives table swaps: a `put` resets neither counts nor health. A new instance_id is a new
Node. Unhealthy ones leave the choice and are still asked when nothing else is left.
"""

from enum import Enum
from math import inf
from ssl import SSLContext

from router.breaker import Breaker, State
from router.cooldown import Errors
from router.endpoint import Key, Paths
from router.limits import Limiter
from router.outcome import Outcome
from router.seam import Attempt, End
from router.waiting.slots import Slots
from router.window import Pace, Samples

HEALTHY_AFTER = 2
UNHEALTHY_AFTER = 3
#: An engine hears that a client left by the connection's end: within milliseconds, if it listens.
LEFT_S = 1.0
#: How much the last answer counts in the tokens a second.
_NEWEST = 0.2


class NodeHealth(Enum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Node:
    """One life of a service at one address: the relay's `seam.Upstream`. One owner: the Brain.

    Where it is never changes; how it does always. `in_flight` counts attempts that began and did
    not end. `rest_until` is monotonic time.
    """

    __slots__ = (
        "alone",
        "answered_at",
        "answers",
        "breaker",
        "connect_timeout_s",
        "error_count",
        "errors",
        "failures",
        "first_attempt",
        "first_bytes",
        "gone",
        "head",
        "health",
        "host",
        "in_flight",
        "key",
        "left_at",
        "limiter",
        "load",
        "name",
        "outcomes",
        "path_prefix",
        "paths",
        "port",
        "probe_path",
        "request_count",
        "rest_until",
        "set_aside",
        "slots",
        "steady",
        "successes",
        "tls",
        "tokens",
        "tokens_per_s",
    )

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        path_prefix: str = "",
        paths: Paths | None = None,
        probe_path: str = "",
        key: Key | None = None,
        tls: SSLContext | None = None,
        connect_timeout_s: float = 1.0,
        breaker: Breaker | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.tls = tls
        #: How requests' paths become its own; None for most: they are.
        self.paths = Paths(path_prefix) if paths is None and path_prefix else paths
        self.path_prefix = self.paths.prefix if self.paths is not None else ""
        #: Sent with every request and probe: never show it.
        self.key = key
        #: Whole header lines for every request to it.
        self.head = f"Host: {_host_header(host, port, tls is not None)}\r\n".encode("latin-1")
        if key is not None:
            self.head += f"{key.header}: {key.value}\r\n".encode("latin-1")
        #: What a probe asks for once it has failed.
        self.probe_path = probe_path or f"{self.path_prefix}/health"
        self.connect_timeout_s = connect_timeout_s
        self.in_flight = 0
        #: As the engine last reported it, through the registry.
        self.load: dict[str, float] = {}
        self.health = NodeHealth.UNKNOWN
        self.successes = 0
        self.failures = 0
        #: A connect failed: out of choice until a connect or a fresh `put` says otherwise.
        self.set_aside = False
        self.rest_until = 0.0
        #: When a request was last broken off there. The engine hears of it a moment later.
        self.left_at = -inf
        #: Another life has its name, or none: what still runs on it may end.
        self.gone = False
        self.request_count = 0
        self.error_count = 0
        self.outcomes = [0] * len(Outcome)
        self.answers = Samples()
        self.first_bytes = Samples()
        #: Monotonic seconds of the last good answer; 0 before the first.
        self.answered_at = 0.0
        #: Tokens, prompt and answer, as `usage` said.
        self.tokens = Pace()
        #: Answered tokens a second of one request, smoothed. None: nothing is known.
        self.tokens_per_s: float | None = None
        self.breaker = Breaker() if breaker is None else breaker
        #: Of a provider with limits of its own.
        self.limiter = limiter
        #: How much it takes at once. None: nothing is known of it, and nothing is asked.
        self.slots: Slots | None = None
        #: Nothing speaks against it: a good answer need not be told to anybody.
        self.steady = False
        #: Its errors of late, where those make it rest.
        self.errors: Errors | None = None
        #: What a first attempt on it looks like: made once, since nothing in it changes.
        self.first_attempt = Attempt(self, 1)
        self.alone = (self,)

    @property
    def out(self) -> bool:
        return self.set_aside or self.health is NodeHealth.UNHEALTHY

    @property
    def is_steady(self) -> bool:
        healthy = self.health is NodeHealth.HEALTHY and not self.failures
        sound = self.breaker.state is State.CLOSED and not self.breaker.failures
        return healthy and sound and self.slots is None

    def declares(self, max_concurrency: int | None) -> None:
        """How many requests it takes at once, as its record says."""
        if self.slots is not None:
            self.slots.declare(max_concurrency)
            if not self.slots.known:
                self.slots = None
        elif max_concurrency is not None and max_concurrency > 0:
            self.slots = Slots(max_concurrency)
            self.steady = False  # each end makes room for one that waits

    def refused(self, now: float) -> bool:
        """It asked for less, with the refused request in flight still. True where it had others, or
        may not have heard yet of one that left: so that fewer at once is an answer to it."""
        slots = self.slots
        if slots is None:
            slots = Slots()
        slots.refused(self.in_flight, now)
        if slots.known:
            self.slots = slots
            self.steady = False
        return self.in_flight > 1 or now - self.left_at < LEFT_S

    def forget(self, now: float) -> bool:
        """What was learnt too long ago of how much it takes. True if by this nothing is known."""
        slots = self.slots
        if slots is None:
            return False
        slots.forget(now)
        if slots.known:
            return False
        self.slots = None
        self.steady = self.is_steady
        return True

    def answered(self, end: End, started: float) -> None:
        """A good answer. Those that failed, however fast, teach nothing of how long it takes."""
        ended = end.ended
        took = ended - started
        self.answers.append(took)
        self.answered_at = ended
        if end.events and end.first_byte:  # a plain answer's first byte tells nothing of its token
            self.first_bytes.append(end.first_byte - started)
        out = end.tokens_out
        if out is None:
            return
        self.tokens.count += out + (end.tokens_in or 0)
        if out and took > 0:
            pace, before = out / took, self.tokens_per_s
            self.tokens_per_s = pace if before is None else before + _NEWEST * (pace - before)

    def succeeded(self) -> bool:
        """True if it came back into choice by this."""
        was_out = self.set_aside or self.health is NodeHealth.UNHEALTHY
        self.failures = 0
        self.set_aside = False
        self.successes += 1
        if self.successes >= HEALTHY_AFTER:
            self.health = NodeHealth.HEALTHY
        elif self.health is NodeHealth.UNHEALTHY:
            self.health = NodeHealth.DEGRADED
        return was_out

    def failed(self) -> bool:
        """True if it left the choice by this."""
        was_out = self.out
        self.successes = 0
        self.failures += 1
        if self.failures >= UNHEALTHY_AFTER:
            self.health = NodeHealth.UNHEALTHY
        elif self.health is not NodeHealth.UNHEALTHY:
            self.health = NodeHealth.DEGRADED
        return self.out and not was_out

    def connect_failed(self) -> bool:
        """True if it left the choice by this. One failed connect is enough."""
        was_out = self.out
        self.successes = 0
        self.failures += 1
        self.health = NodeHealth.UNHEALTHY
        self.set_aside = True
        return not was_out

    def rest(self, until: float) -> None:
        """A later, shorter rest never shortens an earlier one."""
        self.rest_until = max(self.rest_until, until)

    def came_back(self, *, slow: bool = False) -> None:
        """A probe succeeded, or a fresh `put` vouches for it: back in choice, on probation."""
        self.set_aside = False
        if self.health is NodeHealth.UNHEALTHY:
            self.health = NodeHealth.DEGRADED
            self.successes = 0
            self.failures = UNHEALTHY_AFTER - 1
        elif slow and self.health is not NodeHealth.UNKNOWN:
            self.health = NodeHealth.DEGRADED


def _host_header(host: str, port: int, tls: bool) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == (443 if tls else 80) else f"{shown}:{port}"
