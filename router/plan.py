"""One request's way through its attempts: the relay's `seam.Ticket`. Pure: time is given.

    next ─▶ Attempt ─┬─ answered: ok, client ──▶ None (passed on) ─▶ ended
                     ├─ answered: backpressure, broken ─▶ another? ─ yes ─▶ Attempt or Wait
                     │                                       └── no ──▶ None (passed on)
                     └─ failed ─▶ another? ─ yes ─▶ Attempt or Wait;  no ─▶ Problem

Another attempt, in this order: nothing was written to the client; the outcome is one that is
retried; what was sent may be sent twice; attempts are left; an upstream is left (never one twice
while another is left); the budget, which *unreachable* does not need.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from router import errors
from router.envelope import EMPTY, Envelope
from router.errors import Problem
from router.nodes import Node, NodeHealth
from router.outcome import RETRIED, Failure, Outcome, of_failure, of_status
from router.route import Route
from router.seam import Ask, Attempt, End, Step, Wait
from router.stats import ModelState

if TYPE_CHECKING:
    from router.brain import Brain

#: A backoff never takes longer.
BACKOFF_S_MAX = 1.0

_OK = Outcome.OK
_CLIENT = Outcome.CLIENT
_HEALTHY = NodeHealth.HEALTHY


class Plan:
    """Holds one in-flight count of its model, and one of an upstream while an attempt runs.

    What most requests never change stands in the class: setting it would cost each of them.
    """

    wake: Callable[[], None] | None = None
    answer_model: str | None = None
    answer_head: bytes = b""
    #: The upstream of the running attempt, and the name of the last one.
    node: Node | None = None
    service: str | None = None
    attempts = 0
    attempt_started = 0.0
    #: Nodes that were asked, in order.
    tried: tuple[Node, ...] = ()
    problem: Problem | None = None
    #: Time spent waiting between attempts.
    queued_s = 0.0
    _waits_since = 0.0
    _waits = False
    #: Gave a broken answer, and is not blamed yet.
    _broke: Node | None = None
    #: Two upstreams gave broken answers: it is the request.
    _request_blamed = False
    _was_slow = False
    _raced = False
    _streams = False
    _ended = False

    def __init__(
        self,
        brain: "Brain",
        ask: Ask,
        envelope: Envelope,
        capability: str | None,
        affinity_key: str | None,
        state: ModelState,
    ) -> None:
        self._brain = brain
        self.id = ask.id
        self.route: Route = ask.route
        self.started = ask.started
        self.envelope = envelope
        self.model = envelope.model
        self.capability = capability
        self.affinity_key = affinity_key
        self.state = state

    # --- what the relay calls -------------------------------------------------------------------

    def next(self, now: float) -> Step:
        if self._waits:
            self._waits = False
            self.state.queued -= 1
            self.queued_s += now - self._waits_since
        node = self._brain.pick(self, now)
        if node is None:
            if self.problem is None:
                self.problem = self._brain.nothing_fit(self.model)
            return self.problem
        return self._attempt(node, now)

    def answered(self, status: int, retry_after_s: float | None, now: float) -> Step | None:
        """A well-formed head came. None: pass the answer on, whatever its status."""
        if status < 400:
            if self._broke is not None:
                self._blame_upstream()
            if self.envelope.stream and not self._streams:
                self._streams = True
                self._brain.active_streams += 1
            return None
        outcome = of_status(status, retry_after_s is not None)
        if outcome is _CLIENT:
            return None
        node = self.node
        if node is not None and outcome is Outcome.BACKPRESSURE:
            self._brain.rest(node, retry_after_s, now)
        another = self._another(outcome, True, now)
        if another is None:
            return None
        self._attempt_ended(outcome)
        return self._take(another, now)

    def failed(self, failure: Failure, sent: bool, now: float) -> Step:
        """No answer that could be passed on. `sent`: bytes of the request had gone out."""
        outcome = of_failure(failure)
        node = self.node
        if outcome is Outcome.IDLE_RACE:
            if node is not None and not self._raced:
                self._raced = True
                node.outcomes[outcome] += 1
                return Attempt(node, self.attempts)
            outcome = Outcome.UNREACHABLE
        # Told to the node first: a failed connect takes it out of the choice that follows.
        self._attempt_ended(outcome, connect=failure is Failure.CONNECT)
        self.problem = errors.failed(outcome, self.service)
        another = self._another(outcome, sent, now)
        return self.problem if another is None else self._take(another, now)

    def ended(self, end: End) -> None:
        """Once per request; a second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        node = self.node
        if node is not None:
            outcome = end.outcome
            if outcome is _OK or outcome is _CLIENT:
                self.node = None
                node.in_flight -= 1
                node.outcomes[outcome] += 1
                node.answers.append(end.ended - self.attempt_started)
                if end.events and end.first_byte:
                    node.first_bytes.append(end.first_byte - self.attempt_started)
                if node.failures or node.health is not _HEALTHY:
                    self._brain.node_succeeded(node)
            elif outcome is Outcome.CANCELLED or outcome is Outcome.REFUSED:
                self.node = None
                node.in_flight -= 1
                node.outcomes[outcome] += 1
            else:
                self._attempt_ended(outcome, connect=end.failure is Failure.CONNECT)
        if self._broke is not None:
            self._blame_upstream()
        if self._waits:
            self._waits = False
            self.state.queued -= 1
        if self._streams:
            self._streams = False
            self._brain.active_streams -= 1
        self.envelope = EMPTY
        self._brain.count(self, end)

    # --- attempts -------------------------------------------------------------------------------

    def _attempt(self, node: Node, now: float) -> Attempt:
        self.node = node
        self.service = node.name
        self.attempt_started = now
        node.in_flight += 1
        node.request_count += 1
        if not self.attempts:
            self.attempts = 1
            self.tried = node.alone
            return node.first_attempt
        self.attempts += 1
        self.tried = (*self.tried, node)
        self._raced = False
        return Attempt(node, self.attempts)

    def _take(self, step: Node | Wait, now: float) -> Step:
        if isinstance(step, Wait):
            self._waits = True
            self._waits_since = now
            self.state.queued += 1
            return step
        return self._attempt(step, now)

    def _another(self, outcome: Outcome, sent: bool, now: float) -> Node | Wait | None:
        """The next upstream, or a backoff before the same one, or None: this was the last."""
        brain = self._brain
        retry = brain.config.retry
        if (
            outcome not in RETRIED
            or (sent and not self.route.retry_after_sent)
            or self.attempts >= min(retry.attempts_per_target, retry.attempts_max)
            or (outcome is Outcome.SLOW and self._was_slow)
        ):
            return None
        node = brain.pick(self, now)
        if node is None:
            return None
        again = node in self.tried
        if again and outcome in (Outcome.BACKPRESSURE, Outcome.SLOW):
            # It asked for rest, or has just shown that it does not answer: only another can help.
            return None
        if outcome is not Outcome.UNREACHABLE and not self.state.budget.take():
            return None
        self._was_slow = self._was_slow or outcome is Outcome.SLOW
        self.state.retries += 1
        return Wait(self._backoff_s()) if again else node

    def _backoff_s(self) -> float:
        """100·n ms, half of it by chance, so that those who failed together do not return so."""
        full = min(self._brain.config.retry.backoff_ms * self.attempts / 1000, BACKOFF_S_MAX)
        return full * (0.5 + 0.5 * self._brain.dice())

    def _attempt_ended(self, outcome: Outcome, *, connect: bool = False) -> None:
        """What was taken comes back, and the upstream is told how it did."""
        node = self.node
        if node is None:
            return
        self.node = None
        node.in_flight -= 1
        node.outcomes[outcome] += 1
        node.error_count += 1
        if outcome is Outcome.BROKEN:
            self._weigh_broken(node)
        elif outcome is not Outcome.BACKPRESSURE:
            self._brain.node_failed(node, connect=connect)

    # --- whose fault a broken answer was ----------------------------------------------------------

    def _weigh_broken(self, node: Node) -> None:
        """One broken answer waits for the next: when a second upstream breaks too, it is the
        request, and feeds neither."""
        if self._request_blamed:
            return
        if self._broke is None:
            self._broke = node
        elif self._broke is node:
            self._brain.node_failed(node)
        else:
            self._broke = None
            self._request_blamed = True

    def _blame_upstream(self) -> None:
        node, self._broke = self._broke, None
        if node is not None:
            self._brain.node_failed(node)
