"""A request whose limits other routers share: it asks for them before each attempt. Pure.

    look ─▶ upstream ─ its caller's, its models', its provider's limits in one ask ─▶ Wait
        granted ─▶ Attempt
        refused ─▶ its caller's: 429       another's: look again, without what refused
        lost    ─▶ as `limits_without_redis` says: by this router's own limits, by none, or 503

What is granted for the caller and the models holds for all its attempts, a provider's for one. Of
what one ask wants all is granted or nothing is taken. While it is in the air its upstream counts
it already: many that ask at once must not all go to the same one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from router import toomany
from router.errors import Problem
from router.limit_terms import Asking, State
from router.limits import Grant, Limiter
from router.nodes import Node
from router.plan import Plan
from router.seam import Attempt, End, Step, Wait
from router.shares import Shares
from router.upstream import Upstream

#: By then the next probe of Redis has been answered.
_RETRY_AFTER_S = 1
#: What a request is told whose limits nobody counts.
UNCOUNTED = Problem(
    503,
    "The limits that apply can't be counted now: the store that routers share is away",
    "limits_unavailable",
    retry_after_s=_RETRY_AFTER_S,
)

T = TypeVar("T")


class SharedPlan(Plan):
    _asking: Asking | None = None
    #: Of its caller, with the words for who refuses, until they granted it.
    _callers: Sequence[tuple[str, Limiter]] = ()
    #: What the last ask was granted, by name.
    _granted: Mapping[str, Grant] | None = None
    #: It asks nobody any more: Redis is away, or must not be waited for.
    _alone = False
    #: An attempt is made without asking.
    _hurries = False
    #: No limit holds for it.
    _unlimited = False

    def meet(self, callers: Sequence[tuple[str, Limiter]]) -> None:
        """Its caller has limits."""
        self._callers = callers

    def next(self, now: float) -> Step:
        asking = self._asking
        if asking is None:
            if self.told is None and not self._alone:
                self.told = {}
            return super().next(now)
        if asking.state is State.IN_AIR and now < asking.until:
            return Wait(asking.until - now)
        self._asked(asking)
        if asking.state is State.GRANTED:
            grants = self._shares.grants(asking)
            self._granted = {
                limiter.name: grant for limiter, grant in zip(asking.limiters, grants, strict=True)
            }
            if self._callers:
                held = [self._granted[limiter.name] for _, limiter in self._callers]
                self._callers = ()
                self.hold_caller(held)
            attempt = self._attempt(asking.upstream, now)
            self._granted = None
            return attempt
        self._frees = asking.upstream
        if asking.state is State.REFUSED:
            return self._then(self._refused(asking, now), now)
        self._shares.leave(asking)
        return self._then(self._without(now), now)

    def resume(self, now: float) -> Attempt | Problem:
        """A stream that has begun waits for nobody."""
        return self._at_once(super().resume, now)

    def hedge(self, now: float) -> Attempt | Wait | None:
        """Nor does what is to make up for lost time."""
        return self._at_once(super().hedge, now)

    def _at_once(self, choose: Callable[[float], T], now: float) -> T:
        """What was heard last of limits must do. A provider is told of it afterwards."""
        if self._alone:
            return choose(now)
        told, self.told, self._hurries = self.told, None, True
        step = choose(now)
        self.told, self._hurries = told, False
        return step

    def _start(self, upstream: Upstream, now: float) -> Step:
        wanted = [] if self._alone else self._wanted(upstream)
        if not wanted:
            return self._attempt(upstream, now)
        counts = any(limiter.counts_tokens for limiter in wanted)
        tokens = self.envelope.prompt().tokens if counts else 1
        asking = self._shares.ask(upstream, wanted, tokens, self._woken, now)
        if asking is None:
            return self._without(now)
        upstream.node.in_flight += 1
        self._asking = asking
        self._eventful = True
        return Wait(asking.until - now)

    def _wanted(self, upstream: Upstream) -> list[Limiter]:
        """What an attempt there needs and the request does not hold."""
        wanted = [limiter for _, limiter in self._callers]
        target = self.target
        if target is not None and target.limited:
            held = self.grants
            of_target = self._brain.limiters.of_target(target)
            wanted += [limiter for name, limiter in of_target if name not in held]
        if upstream.limiter is not None:
            wanted.append(upstream.limiter)
        return wanted

    def _refused(self, asking: Asking, now: float) -> Step:
        told = self.told = {} if self.told is None else self.told
        for limiter, decisions in zip(asking.limiters, asking.decisions, strict=True):
            if not all(one.allowed for one in decisions):
                told[limiter.name] = decisions
        for who, limiter in self._callers:
            if limiter.name in told:
                self.problem = toomany.problem(told[limiter.name], who)
                return self.problem
        return super().next(now)

    def _without(self, now: float) -> Step:
        """Redis is away."""
        policy = self._brain.config.limits_without_redis
        if policy == "refuse":
            self.problem = UNCOUNTED
            return UNCOUNTED
        self._alone = True
        if policy == "open":
            self._unlimited = True
            self.told = {}
        else:
            self.told = None
            callers, self._callers = self._callers, ()
            if callers:
                self._brain.take_caller(self, callers, now)
                if self.problem is not None:
                    return self.problem
        return super().next(now)

    # --- what an attempt holds --------------------------------------------------------------------

    def _hold_provider(self, node: Node, limiter: Limiter, now: float) -> None:
        if self._unlimited:
            return
        granted = None if self._granted is None else self._granted.get(limiter.name)
        if granted is not None:
            self.grant = granted
        elif self._hurries:
            self.grant = self._shares.charge(limiter, self.envelope.prompt().tokens)
        else:
            super()._hold_provider(node, limiter, now)

    def _hold_target(self, now: float) -> None:
        if self._alone and not self._unlimited:
            super()._hold_target(now)
            return
        target, granted = self.target, self._granted or {}
        assert target is not None
        held = dict(self.grants)
        for name in held.keys() - {name for name, _ in target.limited}:
            held.pop(name).settle(None, now)
        for name, limiter in self._brain.limiters.of_target(target):
            if name not in held and limiter.name in granted:
                held[name] = granted[limiter.name]
        self.hold(held)

    def _asked(self, asking: Asking) -> None:
        """It is in the air no more, or nobody waits for it."""
        self._asking = None
        asking.upstream.node.in_flight -= 1
        if asking.upstream.node.slots is not None:
            self._frees = asking.upstream  # offered to others once it is known what it does next

    def _woken(self) -> None:
        if self.wake is not None:
            self.wake()

    def _settle(self, end: End) -> None:
        asking = self._asking
        if asking is not None:
            self._asked(asking)
            self._shares.leave(asking)
            self._frees = asking.upstream
        super()._settle(end)

    @property
    def _shares(self) -> Shares:
        shares = self._brain.shares
        assert shares is not None
        return shares
