"""Limits that several routers share: what is asked of Redis, and what is done without it. Pure.

    ask ─▶ Asking ─ sent ─▶ granted | refused | lost ─▶ its request is woken
    granted ─▶ grants ─ settle ─▶ settlements ─ sent

    UP ──no answer in time──▶ AWAY: nobody waits for it       AWAY ──it answers a probe──▶ UP

What a router knows while Redis is UP it learns from every answer; when it is AWAY it goes on from
there alone. Coming back it adds what it granted alone, less what has drained since, and keeps the
places of what still runs. What was asked and never answered is given back, and an ask that reaches
Redis too late takes nothing: `waits` says by Redis' clock when nobody waits any more.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from router import limit_scripts as scripts
from router.limit_terms import Addition, Asking, Settlement, State
from router.limits import Counted, Decision, Grant, Limiter, told
from router.upstream import Upstream

#: A place of a router that died comes back after so long; its own renews it in a third of that.
LEASE_S = 30.0
RENEW_S = LEASE_S / 3
#: Requests that wait for one answer at once: more wait for the next.
ASKS_MAX = 256
#: Ends that are told in one script, and that wait to be told: what is more is forgotten, its places
#: lapse, its tokens stand as they were reserved.
SETTLED_MAX = 100
WAITING_MAX = 100_000
#: Names whose counts are remembered for an outage.
NAMES_MAX = 10_000
_NS = 1_000_000


class SharedGrant(Grant):
    """What one limiter granted, for all routers. It must be settled, on every path."""

    __slots__ = ("_cost", "_id", "_of", "_shares")

    def __init__(
        self,
        shares: "Shares",
        limiter: Limiter,
        id: str,
        cost: int,
        decisions: tuple[Decision, ...],
    ) -> None:
        Grant.__init__(self, limiter, told=told(decisions))
        limiter.in_flight += 1
        self._shares = shares
        self._of: Limiter | None = limiter
        self._id = id
        self._cost = cost

    def settle(self, tokens: int | None, now: float) -> None:
        limiter, self._of = self._of, None
        if limiter is not None:
            Grant.settle(self, None, now)
            self._shares.settled(limiter, self._id, self._cost, tokens)


class _Name:
    """One limited name as this router has it."""

    __slots__ = ("base", "limiter", "running", "strays")

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        #: Ids of its requests whose end Redis must hear of.
        self.running: dict[str, None] = {}
        #: What was counted when Redis went away, and when that was.
        self.base: tuple[Counted, float] | None = None
        #: Places announced for requests that this router granted alone.
        self.strays = 0


class Shares:
    """One owner: the loop. `origin` tells this router's ids from others'."""

    def __init__(self, origin: str, *, timeout_s: float) -> None:
        self.up = False
        self.asked = {State.GRANTED: 0, State.REFUSED: 0, State.LOST: 0}
        #: Times that Redis went away.
        self.outages = 0
        #: Called when there is something to send.
        self.asks_wait: Callable[[], None] = _nothing
        self.ends_wait: Callable[[], None] = _nothing
        #: What waits holds a place that another may want: it is not collected for long.
        self.hurry: Callable[[], None] = _nothing
        self._origin = origin
        self._timeout_s = timeout_s
        self._last_id = 0
        self._asks: deque[Asking] = deque()
        self._sent: dict[Asking, None] = {}
        self._settlements: deque[Settlement] = deque(maxlen=WAITING_MAX)
        self._additions: deque[Addition] = deque(maxlen=WAITING_MAX)
        self._names: dict[str, _Name] = {}
        #: Redis' clock less this one, in ms, as it was last heard.
        self._ahead_ms = 0.0

    # --- requests -------------------------------------------------------------------------------

    def ask(
        self,
        upstream: Upstream,
        limiters: Sequence[Limiter],
        tokens: int,
        wake: Callable[[], None],
        now: float,
    ) -> Asking | None:
        """None: Redis is away, and nobody waits for it."""
        if not self.up:
            return None
        for limiter in limiters:
            self._name(limiter)
        asking = Asking(self._id(), upstream, limiters, tokens, now + 2 * self._timeout_s, wake)
        self._asks.append(asking)
        self.asks_wait()
        return asking

    def grants(self, asking: Asking) -> list[SharedGrant]:
        """Of each of its limiters. It was granted."""
        return [
            SharedGrant(self, limiter, asking.id, asking.tokens, decisions)
            for limiter, decisions in zip(asking.limiters, asking.decisions, strict=True)
        ]

    def leave(self, asking: Asking) -> None:
        """Its request wants it no more: what was granted, or will be, comes back."""
        asking.left = True
        asking.wake = _nothing
        if asking.state is State.GRANTED:
            self._give_back(asking)

    def charge(self, limiter: Limiter, tokens: int) -> Grant:
        """Without asking, for what must not wait: it counts for what is asked later, as reserved
        and without a place."""
        limits, one = limiter.limits, scripts.ONE
        tokens = max(tokens, 1) * one
        self._additions.append(
            Addition(self._id(), limiter.name, limits.rpm or 0, limits.tpm or 0, one, tokens)
        )
        self.ends_wait()
        limiter.in_flight += 1
        return Grant(limiter)

    def settled(self, limiter: Limiter, id: str, cost: int, used: int | None) -> None:
        entry = self._name(limiter)
        limits = limiter.limits
        if id in entry.running:
            del entry.running[id]
            self._settlements.append(Settlement(limiter.name, id, limits.tpm or 0, cost, used))
            self.ends_wait()
            if limits.max_concurrency is not None:
                self.hurry()

    # --- what is sent ---------------------------------------------------------------------------

    def take_asks(self) -> list[Asking]:
        """The next to send, together."""
        batch: list[Asking] = []
        while self._asks and len(batch) < ASKS_MAX:
            asking = self._asks.popleft()
            if not asking.left:
                batch.append(asking)
                self._sent[asking] = None
        return batch

    def take_arguments(self, asking: Asking, prefix: str) -> tuple[int, list[str | int]]:
        """Of TAKE: how many keys, then keys and ARGV."""
        names = [key for one in asking.limiters for key in scripts.keys(prefix, one.name)]
        waits = int(asking.until * 1000 + self._ahead_ms)
        found: list[str | int] = [*names, asking.id, int(LEASE_S * 1000), waits]
        for limiter in asking.limiters:
            limits = limiter.limits
            found += [limits.rpm or 0, limits.tpm or 0, limits.max_concurrency or 0, asking.tokens]
        return len(names), found

    def answered(self, asking: Asking, answer: Sequence[int], now: float) -> None:
        """What TAKE said."""
        if self._sent.pop(asking, _GONE) is _GONE:
            return  # it was given up
        self.heard(answer[1], now)
        if answer[0] < 0:
            # Its clock went on without ours: it is asked again, by what it says now.
            if asking.left or now > asking.until:
                self._end(asking, State.LOST)
            else:
                self._asks.append(asking)
                self.asks_wait()
            return
        granted = answer[0] == 1
        decisions = []
        for at, limiter in enumerate(asking.limiters):
            requests, tokens, running = (
                None if value < 0 else value for value in answer[2 + 3 * at : 5 + 3 * at]
            )
            counted = Counted(
                None if requests is None else requests * _NS,
                None if tokens is None else tokens * _NS,
                running,
            )
            decisions.append(limiter.weigh(counted, asking.tokens))
            limiter.learn(_after(counted, asking.tokens) if granted else counted, now)
            limits = limiter.limits
            if granted and (limits.tpm is not None or limits.max_concurrency is not None):
                self._name(limiter).running[asking.id] = None
        asking.decisions = decisions
        self._end(asking, State.GRANTED if granted else State.REFUSED)

    def settlements(self) -> list[Settlement]:
        found: list[Settlement] = []
        while self._settlements and len(found) < SETTLED_MAX:
            found.append(self._settlements.popleft())
        return found

    def additions(self) -> list[Addition]:
        found = [*self._additions]
        self._additions.clear()
        return found

    def unsent(self, settlements: Sequence[Settlement], additions: Sequence[Addition] = ()) -> None:
        """They are sent again: a second time changes nothing."""
        self._settlements.extendleft(reversed(settlements))
        self._additions.extendleft(reversed(additions))

    def running(self) -> Iterator[tuple[str, list[str]]]:
        """Names with the ids whose places must not lapse."""
        for name, entry in self._names.items():
            ids = [*entry.running, *(self._stray(at) for at in range(entry.strays))]
            if ids:
                yield name, ids

    def heard(self, redis_ms: int, now: float) -> None:
        """What time it is there."""
        self._ahead_ms = redis_ms - now * 1000

    # --- away, and back -------------------------------------------------------------------------

    def lost(self, now: float) -> None:
        """No answer, or not in time. Whoever waits goes on without it."""
        if self.up:
            self.up = False
            self.outages += 1
            for entry in self._names.values():
                if entry.base is None:
                    entry.base = entry.limiter.counted(now), now
        waiting = [*self._sent, *self._asks]
        self._asks.clear()
        for asking in self._sent:
            # It may have been granted, unheard.
            for limiter in asking.limiters:
                limits = limiter.limits
                self._settlements.append(
                    Settlement(limiter.name, asking.id, limits.tpm or 0, asking.tokens, 0)
                )
        self._sent.clear()
        for asking in waiting:
            self._end(asking, State.LOST)

    def back(self, redis_ms: int, now: float, *, alone: bool) -> None:
        """It answers again. `alone`: limits were held here meanwhile, and it must be told."""
        self.heard(redis_ms, now)
        self.up = True
        for entry in self._names.values():
            base, entry.base = entry.base, None
            limiter = entry.limiter
            if base is None or not alone:
                continue
            limits, counted = limiter.limits, limiter.counted(now)
            took_s = now - base[1]
            requests_before = _rest(base[0].requests, limits.rpm, took_s)
            tokens_before = _rest(base[0].tokens, limits.tpm, took_s)
            more = Addition(
                self._id(),
                limiter.name,
                limits.rpm or 0,
                limits.tpm or 0,
                _units(max((counted.requests or 0) - requests_before, 0)),
                _units(max((counted.tokens or 0) - tokens_before, 0)),
                _units(requests_before),
                _units(tokens_before),
            )
            if more.requests or more.tokens or more.requests_before or more.tokens_before:
                self._additions.append(more)
            if limits.max_concurrency is not None:
                entry.strays = max(limiter.in_flight - len(entry.running), 0)
        self.asks_wait()
        self.ends_wait()

    def tidy(self) -> bool:
        """Give back places announced for what was granted alone and has ended. Whether any is
        left: then this must be called again."""
        left = False
        for name, entry in self._names.items():
            if not entry.strays:
                continue
            runs = max(entry.limiter.in_flight - len(entry.running), 0)
            while entry.strays > runs:
                entry.strays -= 1
                self._settlements.append(Settlement(name, self._stray(entry.strays), 0, 0, 0))
            left = left or entry.strays > 0
        return left

    # --- small parts ----------------------------------------------------------------------------

    def _end(self, asking: Asking, state: State) -> None:
        asking.state = state
        self.asked[state] += 1
        if asking.left:
            if state is State.GRANTED:
                self._give_back(asking)
            return
        asking.wake()

    def _give_back(self, asking: Asking) -> None:
        for limiter in asking.limiters:
            self.settled(limiter, asking.id, asking.tokens, 0)

    def _name(self, limiter: Limiter) -> _Name:
        entry = self._names.get(limiter.name)
        if entry is None:
            if len(self._names) >= NAMES_MAX:
                self._forget()
            entry = self._names[limiter.name] = _Name(limiter)
        elif entry.limiter is not limiter:
            entry.limiter = limiter  # it was taken out of the configuration, and came back
        return entry

    def _forget(self) -> None:
        """Half of those that nothing runs for, the oldest first."""
        idle = [n for n, one in self._names.items() if not (one.running or one.strays)]
        for name in idle[: NAMES_MAX // 2]:
            del self._names[name]

    def _id(self) -> str:
        self._last_id += 1
        return f"{self._origin}:{self._last_id}"

    def _stray(self, at: int) -> str:
        return f"{self._origin}:alone:{at}"


def _after(counted: Counted, tokens: int) -> Counted:
    """With what was granted."""
    one = scripts.ONE * _NS
    return Counted(
        None if counted.requests is None else counted.requests + one,
        None if counted.tokens is None else counted.tokens + tokens * one,
        counted.running,
    )


def _rest(used: int | None, limit: int | None, took_s: float) -> int:
    """What has not drained since."""
    if used is None or limit is None:
        return 0
    return max(used - int(took_s * 1_000_000_000) * limit, 0)


def _units(ns: int) -> int:
    """As the scripts count, rounded up."""
    return -(-ns // _NS)


def _nothing() -> None:
    pass


_GONE = object()
