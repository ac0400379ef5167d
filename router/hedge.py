"""When a stream that does not begin is asked of a second upstream, and of whom. Pure.

    asked ─ hedge_after_ms, no event ─▶ another of the target's upstreams ─┬─ begins first: won
                                                                          └─ does not: lost

Whoever begins first answers; the other attempt is cancelled, and nobody is blamed. Where the first
one fails, the second is the one that is left; where the second fails, it is judged as any other.

Once per request; never of an upstream that was asked already, that is not well, or whose limits
are reached; and not more often than `hedge_percent` of the model's streams.
"""

from typing import TYPE_CHECKING

from router.awaiting import Awaiting
from router.breaker import State
from router.limits import Grant
from router.nodes import Node
from router.outcome import Failure, Outcome, of_failure, of_status
from router.route import Route
from router.seam import Attempt, Beside, Wait
from router.stats import ModelState
from router.upstream import Upstream

if TYPE_CHECKING:
    from router.brain import Brain


class Side:
    """One of two attempts that run at the same time, as its Plan would have it."""

    __slots__ = (
        "answer_head",
        "answer_model",
        "attempt_started",
        "grant",
        "node",
        "permit",
        "service",
        "upstream",
    )
    node: Node | None
    permit: int
    grant: Grant | None
    upstream: Upstream | None
    service: str | None
    attempt_started: float
    answer_model: str | None
    answer_head: bytes


class Hedging(Awaiting):
    """The part of a Plan that may have two attempts at once: its own, and one beside it."""

    node: Node | None
    permit: int
    grant: Grant | None
    upstream: Upstream | None
    service: str | None
    attempt_started: float
    answer_model: str | None
    answer_head: bytes
    attempts: int
    now: float
    broke_off: bool
    route: Route
    state: ModelState
    _brain: "Brain"
    #: The second attempt, while both run.
    beside: Side | None = None
    #: A second upstream was asked: won or lost.
    hedged: str | None = None

    def _attempt(self, upstream: Upstream, now: float) -> Attempt:
        raise NotImplementedError

    def _attempt_ended(self, outcome: Outcome, now: float, *, connect: bool = False) -> None:
        raise NotImplementedError

    def _release(self, node: Node, outcome: Outcome, now: float) -> None:
        raise NotImplementedError

    # --- what the relay calls -------------------------------------------------------------------

    def hedge_after(self) -> float:
        """Once per stream. After so many seconds `hedge` should be called; 0: never."""
        target = self.resolution.first
        if target is None or not target.hedge_after_s or not self.route.events:
            return 0.0
        self.state.hedging.earned()
        return target.hedge_after_s

    def hedge(self, now: float) -> Attempt | Wait | None:
        """No event has come. An attempt to make beside the one that runs, or when to ask again."""
        target = self.target
        if target is None or not target.hedge_after_s or self.hedged is not None or self.broke_off:
            return None
        if self.node is None:
            return Wait(target.hedge_after_s)
        left = self.attempt_started + target.hedge_after_s - now
        if left > 0:
            return Wait(left)
        if self.attempts >= self._brain.config.retry.attempts_max or not self.state.hedging.any:
            return None
        self.now = now
        found = self._brain.pick(self, target, now)  # type: ignore[arg-type]
        self.full = False
        if found is None or found.node in self.tried or not _is_well(found.node, now):
            return None
        self.state.hedging.take()
        self.hedged = "lost"
        first = self._leave()
        self.grant = None
        attempt = self._attempt(found, now)
        self.beside = self._leave()
        self._enter(first)
        return attempt

    def hedge_won(self, now: float) -> None:
        """The second began first: it is the one that answers."""
        second, self.beside = self.beside, None
        assert second is not None
        self._cancel(now)
        self._enter(second)
        self.hedged = "won"
        self._offer(now)

    def hedge_lost(self, now: float) -> None:
        """The first began, or nobody is to begin any more."""
        first = self._turn()
        self._cancel(now)
        self._enter(first)
        self._offer(now)

    def hedge_failed(self, failure: Failure, now: float) -> None:
        """The second gave no answer that could be passed on. The first goes on."""
        first = self._turn()
        self._attempt_ended(of_failure(failure), now, connect=failure is Failure.CONNECT)
        self._enter(first)
        self._offer(now)

    def hedge_declined(self, status: int, retry_after_s: float | None, now: float) -> None:
        """The second answered this, and no stream. The first goes on, and may do better."""
        first, node = self._turn(), self.node
        assert node is not None
        fitness = self._brain.fitness
        outcome = of_status(status, retry_after_s is not None, our_key=node.key is not None)
        if outcome is Outcome.OK or outcome is Outcome.CLIENT:
            self._release(node, outcome, now)
            fitness.succeeded(node, self.permit)
        else:
            if outcome is Outcome.BACKPRESSURE:
                fitness.rest(node, retry_after_s, now)
            self._attempt_ended(outcome, now)
        self._enter(first)
        self._offer(now)

    # --- two sides ------------------------------------------------------------------------------

    def _go_on_beside(self) -> Beside:
        """The first has failed, and was told so: the second is the one that is left."""
        second, self.beside = self.beside, None
        assert second is not None
        self._enter(second)
        self.hedged = "won"
        return Beside()

    def _turn(self) -> Side:
        """The second becomes the one that runs. What did is returned, to be entered again."""
        first, second, self.beside = self._leave(), self.beside, None
        assert second is not None
        self._enter(second)
        return first

    def _cancel(self, now: float) -> None:
        node = self.node
        assert node is not None
        self._release(node, Outcome.CANCELLED, now)
        self._brain.fitness.abandoned(node, self.permit)

    def _leave(self) -> Side:
        side = Side()
        for name in Side.__slots__:
            setattr(side, name, getattr(self, name))
        return side

    def _enter(self, side: Side) -> None:
        for name in Side.__slots__:
            setattr(self, name, getattr(side, name))


def _is_well(node: Node, now: float) -> bool:
    """No trial of a breaker, no last resort: those are for requests that have nothing better."""
    return node.breaker.state is State.CLOSED and not node.out and node.rest_until <= now
