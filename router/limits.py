"""How much may be asked in a minute, and at once: of a model, of a provider. Pure: time is given.

    a bucket of `limit`, full at first, refilled by limit/60 a second:
        the whole minute's allowance may be used at once; then it comes back evenly
    requests      cost 1
    tokens        cost their estimate while they run, and what they used once that is known
    concurrency   one place each, from `take` to `settle`

This is GCRA, the leaky bucket as a meter, in whole numbers: nothing is lost by rounding. In any
span of time no more is admitted than limit + limit/60 a second, and nothing is refused that the
bucket has room for.

What a running request holds leaks like everything else, the oldest first and after what is owed
for certain; when it settles, only what has not leaked is given back. (Given back whole, it would
open room that time had opened already: twice the limit could be used at once.)
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from math import ceil, inf

from msgspec import Struct

from router.named import Limits

REQUESTS, TOKENS, CONCURRENCY = "requests", "tokens", "concurrency"

_SECOND_NS = 1_000_000_000
#: What one request or token counts: then `limit` of them come back in a minute, `limit` a ns.
ONE = 60 * _SECOND_NS
#: A `usage` that is wrong by orders of magnitude shuts nobody out for longer.
OWED_MINUTES_MAX = 10
#: When a place comes free nobody knows: as long as a short answer takes.
_PLACE_S = 1.0


class Decision(Struct, frozen=True):
    """Whether one limit lets `cost` pass, and what its bucket holds then.

    `kind` is requests, tokens or concurrency. `retry_after_s`: inf where it can never pass, 0 where
    it passes. `reset_s`: until the bucket is full again, if nothing else comes.
    """

    kind: str
    allowed: bool
    cost: int
    remaining: int
    limit: int
    retry_after_s: float
    reset_s: float


#: What a client is told of one limit that let it pass: kind, limit, what is left, and the seconds
#: until all of it is back.
Told = tuple[str, int, int, float]


class Counted(Struct, frozen=True):
    """What others hold that count for the same limits, before one more came: in ns as a Meter has
    it, and how many run. None: not limited."""

    requests: int | None = None
    tokens: int | None = None
    running: int | None = None


def weigh(kind: str, limit: int, cost: int, used: int) -> Decision:
    """What a bucket says of `cost` that holds `used` already."""
    wanted = cost * ONE
    room = limit * ONE - used
    allowed = wanted <= room
    if allowed:
        used, room, retry_after_s = used + wanted, room - wanted, 0.0
    elif cost > limit:
        retry_after_s = inf
    else:
        retry_after_s = -((room - wanted) // limit) / _SECOND_NS
    remaining = max(room, 0) // ONE
    reset_s = used / limit / _SECOND_NS
    return Decision(kind, allowed, cost, remaining, limit, retry_after_s, reset_s)


def _place(most: int, running: int) -> Decision:
    free = most - running
    allowed = free > 0
    wait_s = 0.0 if allowed else _PLACE_S
    return Decision(CONCURRENCY, allowed, 1, max(free - 1, 0), most, wait_s, wait_s)


class Hold:
    """What one running request has reserved of a Meter."""

    __slots__ = ("cost", "left")

    def __init__(self, cost: int) -> None:
        self.cost = cost * ONE
        #: What has not leaked yet.
        self.left = self.cost


class Meter:
    """One bucket. Time that runs backwards is taken as standing still."""

    __slots__ = ("_at", "_held", "_holds", "_owed", "kind", "limit")

    def __init__(self, kind: str, limit: int) -> None:
        self.kind = kind
        #: A minute. May be changed after `decide` at the moment from which it counts.
        self.limit = limit
        self._at = 0
        #: By requests that ended, or cost what they cost at once.
        self._owed = 0
        #: By running ones, the oldest first; `_held` is the sum of what is left.
        self._holds: OrderedDict[Hold, None] = OrderedDict()
        self._held = 0

    def decide(self, cost: int, now: float) -> Decision:
        """Takes nothing."""
        self._leak(now)
        return weigh(self.kind, self.limit, cost, self._owed + self._held)

    def allows(self, cost: int, now: float) -> bool:
        """What `decide` says, for a fraction of its price."""
        self._leak(now)
        return cost * ONE <= self.limit * ONE - self._owed - self._held

    def pass_one(self, now: float) -> bool:
        """`allows`, and where it does, `charge`: of one."""
        self._leak(now)
        owed = self._owed + ONE
        if owed + self._held > self.limit * ONE:
            return False
        self._owed = owed
        return True

    def charge(self, cost: int) -> None:
        """Once allowed, at the same moment."""
        self._owed += cost * ONE

    def hold(self, cost: int) -> Hold:
        """Once allowed, at the same moment. It must be settled."""
        hold = Hold(cost)
        self._holds[hold] = None
        self._held += hold.left
        return hold

    def settle(self, hold: Hold, cost: int | None, now: float) -> None:
        """It cost so much. None: as much as it held."""
        self._leak(now)
        actual = hold.cost if cost is None else cost * ONE
        leaked = hold.cost - hold.left
        self._held -= hold.left
        self._holds.pop(hold, None)
        hold.left = 0
        if actual > leaked:
            most = OWED_MINUTES_MAX * self.limit * ONE
            self._owed = max(self._owed, min(self._owed + actual - leaked, most))

    def told(self) -> Told:
        """At the moment at which something was taken."""
        limit, used = self.limit, self._owed + self._held
        return self.kind, limit, (limit * ONE - used) // ONE, used / limit / _SECOND_NS

    def used(self, now: float) -> int:
        """Of `limit * ONE`."""
        self._leak(now)
        return self._owed + self._held

    def learn(self, used: int, now: float) -> None:
        """Elsewhere it is counted for all: so much. What is held here is in it, and will settle
        there."""
        self._leak(now)
        for hold in self._holds:
            hold.left = 0
        self._holds.clear()
        self._held = 0
        self._owed = used

    def _leak(self, now: float) -> None:
        at = int(now * _SECOND_NS)
        left = (at - self._at) * self.limit
        if left <= 0:
            return
        self._at = at
        if left <= self._owed:
            self._owed -= left
            return
        left -= self._owed
        self._owed = 0
        holds = self._holds
        while holds:
            oldest = next(iter(holds))
            if oldest.left > left:
                oldest.left -= left
                self._held -= left
                return
            left -= oldest.left
            self._held -= oldest.left
            oldest.left = 0
            del holds[oldest]


class Grant:
    """One request that may run. It must be settled, on every path."""

    __slots__ = ("_hold", "_limiter", "_meter", "told")

    def __init__(
        self,
        limiter: "Limiter",
        meter: Meter | None = None,
        hold: Hold | None = None,
        told: Sequence[Told] = (),
    ) -> None:
        self._limiter: Limiter | None = limiter
        self._meter = meter
        self._hold = hold
        self.told = told

    def settle(self, tokens: int | None, now: float) -> None:
        """It ended, and used so many tokens; None: nobody said. A second call changes nothing."""
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            return
        limiter.in_flight -= 1
        if self._meter is not None and self._hold is not None:
            self._meter.settle(self._hold, tokens, now)


class Limiter:
    """The limits of one model or one provider. Keep it as long as they are configured at all."""

    __slots__ = ("_requests", "_tokens", "in_flight", "limits", "name")

    def __init__(self, limits: Limits, name: str = "") -> None:
        self.limits = limits
        #: What it is called where several routers count together: `model:code`.
        self.name = name
        self.in_flight = 0
        self._requests = None if limits.rpm is None else Meter(REQUESTS, limits.rpm)
        self._tokens = None if limits.tpm is None else Meter(TOKENS, limits.tpm)

    @property
    def requests_alone(self) -> Meter | None:
        """Where nothing else is limited: then nothing has to be settled."""
        other = self.limits.tpm is not None or self.limits.max_concurrency is not None
        return None if other else self._requests

    @property
    def counts_tokens(self) -> bool:
        """Else it is of no account what a request will cost."""
        return self.limits.tpm is not None

    def decide(self, tokens: int, now: float) -> tuple[Decision, ...]:
        """What each limit says of one request with an estimate of `tokens`. Takes nothing."""
        found = []
        if self._requests is not None:
            found.append(self._requests.decide(1, now))
        if self._tokens is not None:
            found.append(self._tokens.decide(max(tokens, 1), now))
        most = self.limits.max_concurrency
        if most is not None:
            found.append(_place(most, self.in_flight))
        return tuple(found)

    def weigh(self, counted: Counted, tokens: int) -> tuple[Decision, ...]:
        """As `decide`, where what is used is counted elsewhere."""
        limits, found = self.limits, []
        if limits.rpm is not None and counted.requests is not None:
            found.append(weigh(REQUESTS, limits.rpm, 1, counted.requests))
        if limits.tpm is not None and counted.tokens is not None:
            found.append(weigh(TOKENS, limits.tpm, max(tokens, 1), counted.tokens))
        if limits.max_concurrency is not None and counted.running is not None:
            found.append(_place(limits.max_concurrency, counted.running))
        return tuple(found)

    def counted(self, now: float) -> Counted:
        """What is used as far as is known here."""
        return Counted(
            None if self._requests is None else self._requests.used(now),
            None if self._tokens is None else self._tokens.used(now),
            self.in_flight,
        )

    def learn(self, counted: Counted, now: float) -> None:
        """What is used, as it is counted elsewhere for all. What runs here is counted here."""
        if self._requests is not None and counted.requests is not None:
            self._requests.learn(counted.requests, now)
        if self._tokens is not None and counted.tokens is not None:
            self._tokens.learn(counted.tokens, now)

    def allows(self, tokens: int, now: float, *, places: int = 0) -> bool:
        """Whether `take` would grant it. `places`: so many come back before."""
        most = self.limits.max_concurrency
        return (
            (most is None or self.in_flight - places < most)
            and (self._requests is None or self._requests.allows(1, now))
            and (self._tokens is None or self._tokens.allows(max(tokens, 1), now))
        )

    def take(self, tokens: int, now: float) -> Grant | None:
        """Of every limit or of none. None: at least one refuses, `decide` says which."""
        if not self.allows(tokens, now):
            return None
        self.in_flight += 1
        requests, meter = self._requests, self._tokens
        if requests is not None:
            requests.charge(1)
        if meter is None:
            told = () if requests is None else (requests.told(),)
            return Grant(self, None, None, told)
        hold = meter.hold(max(tokens, 1))
        both = (meter.told(),) if requests is None else (requests.told(), meter.told())
        return Grant(self, meter, hold, both)

    def refusal(self, tokens: int, now: float, *, places: int = 0) -> str | None:
        """Why it is no candidate, as /explain shows it; None: it is. `places` as in `allows`."""
        if self.allows(tokens, now, places=places):
            return None
        return reason(worst(self.decide(tokens, now)))

    def change(self, limits: Limits, now: float) -> None:
        """After a reload. What was used stays used, and what runs is settled as ever."""
        self.limits = limits
        self._requests = _changed(self._requests, REQUESTS, limits.rpm, now)
        self._tokens = _changed(self._tokens, TOKENS, limits.tpm, now)


def _changed(meter: Meter | None, kind: str, limit: int | None, now: float) -> Meter | None:
    if limit is None:
        return None
    if meter is None:
        return Meter(kind, limit)
    meter.decide(0, now)  # what has leaked until now leaked at the old rate
    meter.limit = limit
    return meter


def limiter(limits: Limits) -> Limiter | None:
    """None where nothing is limited: then there is nothing to ask."""
    return None if limits == Limits() else Limiter(limits)


# --- in words -------------------------------------------------------------------------------------


def worst(decisions: Iterable[Decision]) -> Decision:
    """Of those that refuse (one must), the one that does so for longest."""
    return max((d for d in decisions if not d.allowed), key=lambda d: d.retry_after_s)


def lacks_place(decisions: Iterable[Decision]) -> bool:
    """Of those that refuse (one must), each lacks a place alone: that may be waited for."""
    return all(one.allowed or one.kind == CONCURRENCY for one in decisions)


def told(decisions: Iterable[Decision]) -> list[Told]:
    """What a client is told of them."""
    return [(one.kind, one.limit, one.remaining, one.reset_s) for one in decisions]


def describe(decision: Decision) -> str:
    """For /explain: `412 of 600 requests left this minute`."""
    if decision.kind == CONCURRENCY:
        return f"{decision.remaining} of {decision.limit} places free"
    return f"{decision.remaining} of {decision.limit} {decision.kind} left this minute"


def reason(refused: Decision) -> str:
    """Why it refuses, for /explain."""
    if refused.kind == CONCURRENCY:
        noun = "request" if refused.limit == 1 else "requests"
        return f"limit of {refused.limit} {noun} at once reached"
    limit = f"limit of {refused.limit} {refused.kind} a minute"
    if refused.retry_after_s == inf:
        return f"{limit} is below the request's {refused.cost}"
    return f"{limit} reached, room in {ceil(refused.retry_after_s)} s"
