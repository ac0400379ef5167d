"""One request's way through its attempts: the relay's `seam.Ticket`. Pure: time is given.

    next ─▶ Attempt ─┬─ answered: ok, client ──▶ None (passed on) ─▶ ended
                     ├─ answered: backpressure, broken ─▶ another? ─ yes ─▶ Attempt or Wait
                     │                                       └── no ──▶ None (passed on)
                     └─ failed ─▶ another? ─ yes ─▶ Attempt or Wait;  no ─▶ Problem

Another attempt, in this order: nothing was written to the client; the outcome is one that is
retried; what was sent may be sent twice; attempts are left; an upstream is left (never one twice
for a target while another is left), of this target or of one that follows it; the budget, which
*unreachable* does not need. A target without candidates costs no attempt.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from router import errors, toomany
from router.breaker import State
from router.choose.rotation import Rotation
from router.envelope import EMPTY, Envelope
from router.errors import Problem
from router.hedge import Hedging
from router.hooks import Request
from router.limits import Decision, Grant, Limiter
from router.names.target import Resolution, Target
from router.needs import Needs
from router.nodes import Node
from router.outcome import RETRIED, Failure, Outcome, of_failure, of_status
from router.prompt import CHARACTERS_PER_TOKEN
from router.route import GENERATE, Route
from router.seam import Ask, Attempt, Collector, End, Step, Wait
from router.stats import ModelState
from router.upstream import Upstream

if TYPE_CHECKING:
    from router.brain import Brain
    from router.head import AnswerHead

#: A stream goes on elsewhere so often: what breaks three engines is likely the request.
RESUMES_MAX = 2
#: A backoff never takes longer.
BACKOFF_S_MAX = 1.0

_OK = Outcome.OK
_CLIENT = Outcome.CLIENT
_CLOSED = State.CLOSED
_FALLBACK_LINE = b"x-creche-fallback: 1\r\n"
_NO_GRANTS: Mapping[str, Grant] = {}


class Plan(Hedging):
    """Holds one in-flight count of its model, and one of an upstream while an attempt runs.

    What most requests never change stands in the class: setting it would cost each of them.
    A strategy is told it as `choose.asked.Asked`.
    """

    answer_model: str | None = None
    answer_head: bytes = b""
    #: Header lines that every answer to it carries.
    lines: bytes = b""
    #: The cache may want its answer; and whether it came from there: hit or miss. None: it may
    #: neither come from there nor go there.
    keeps = False
    cache: str | None = None
    #: Each attempt is made for it alone, since its answer says more than others'.
    special = False
    #: The answer says how it was chosen.
    explains = False
    #: What keeps its requests together; None for most.
    key: str | None = None
    #: As an operator's hooks saw it, where there are any.
    request: Request | None = None
    #: The upstream of the running attempt, and its breaker's permit.
    node: Node | None = None
    permit = 0
    #: The last one that was asked, and its name.
    upstream: Upstream | None = None
    service: str | None = None
    attempts = 0
    attempt_started = 0.0
    #: When an upstream was last looked for.
    now = 0.0
    problem: Problem | None = None
    #: What a strategy that learns keeps of it: nobody else's business.
    note: object = None
    #: More became of it than one attempt that needed nothing but an upstream.
    _eventful = False
    #: What it holds of the limits on the way to the target that is asked, by entry, and of the
    #: running attempt's provider.
    grants: Mapping[str, Grant] = _NO_GRANTS
    grant: Grant | None = None
    #: Of the limits of its caller, for as long as it runs.
    caller_grants: Sequence[Grant] = ()
    #: What limits said that refused it, by their names, where other routers share them. None: this
    #: router's own say it.
    told: dict[str, tuple[Decision, ...]] | None = None
    #: Why candidates were refused, by name: for explanations.
    refusals: dict[str, str] | None = None
    #: Broken answers that nobody was blamed for yet: all of one upstream, with its permits.
    _broke: tuple[tuple[Node, int], ...] = ()
    #: Two upstreams gave broken answers: it is the request.
    _request_blamed = False
    #: Attempts that were made for the rest of a stream that broke off.
    resumes = 0
    #: It broke off, whatever became of the rest.
    broke_off = False
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
        key: str | None,
        state: ModelState,
        resolution: Resolution,
        needs: Needs,
    ) -> None:
        self.resolution = resolution
        self.target = resolution.first
        if len(resolution.all) > 1:
            self.last_resort = False
        self._brain = brain
        self.id = ask.id
        self.client = ask.client
        self.route: Route = ask.route
        self.started = ask.started
        self.envelope = envelope
        #: As the body says it.
        self.model = envelope.model
        self.capability = capability
        if key is not None:
            self.key = key
        self.state = state
        self.rotation: Rotation = state.rotation
        self.needs = needs

    @property
    def dice(self) -> Callable[[], float]:
        return self._brain.dice

    @property
    def comment_every_s(self) -> float:
        """How often its client hears a comment until the first event; 0: never."""
        if not self.route.events:
            return 0.0
        first = self.resolution.first
        own = None if first is None else first.timeouts.comment_every_s
        return self._brain.config.timeouts.comment_every_s if own is None else own

    # --- what the relay calls -------------------------------------------------------------------

    def next(self, now: float) -> Step:
        if self._waits:
            step = self._after_wait(now)
            if step is not None:
                return step
        upstream = self.look(now) if self.problem is None or self.attempts else None
        return self._nobody(now) if upstream is None else self._start(upstream, now)

    def answered(self, status: int, retry_after_s: float | None, now: float) -> Step | None:
        """A well-formed head came. None: pass the answer on, whatever its status."""
        if status < 400:
            if self._broke:
                self._blame_upstream(now)
            if self.envelope.stream and not self._streams:
                self._streams = self._eventful = True
                self._brain.active_streams += 1
            return None
        node = self.node
        our_key = node is not None and node.key is not None
        outcome = of_status(status, retry_after_s is not None, our_key=our_key)
        if outcome is _CLIENT:
            return None
        if node is not None and outcome is Outcome.BACKPRESSURE:
            self._brain.fitness.rest(node, retry_after_s, now)
        if self.beside is not None:
            self._attempt_ended(outcome, now)
            self._offer(now)
            return self._go_on_beside()
        another = None if self.broke_off else self._another(outcome, True, now)
        if another is None:
            return None
        self._attempt_ended(outcome, now)
        return self._then(self._take(another, now), now)

    def failed(self, failure: Failure, sent: bool, now: float) -> Step:
        """No answer that could be passed on. `sent`: bytes of the request had gone out."""
        outcome = of_failure(failure)
        if outcome is Outcome.IDLE_RACE:
            node, upstream = self.node, self.upstream
            if node is not None and upstream is not None and not self._raced:
                self._raced = True
                node.outcomes[outcome] += 1
                return self._made(upstream)
            outcome = Outcome.UNREACHABLE
        # Told to the node first: a failed connect takes it out of the choice that follows.
        self._attempt_ended(outcome, now, connect=failure is Failure.CONNECT)
        self.problem = errors.failed(outcome, self.service)
        if self.beside is not None:
            self._offer(now)
            return self._go_on_beside()
        if self.broke_off:
            self._offer(now)
            return self.resume(now)
        another = self._another(outcome, sent, now)
        return self.problem if another is None else self._then(self._take(another, now), now)

    def lost(self, now: float) -> None:
        """A stream that may be resumed broke off, or stalled, after its first byte."""
        self.broke_off = True
        self.problem = errors.failed(Outcome.CUT, self.service)
        self._attempt_ended(Outcome.CUT, now)
        self._offer(now)

    def resume(self, now: float) -> Attempt | Problem:
        """Who may say the rest: another upstream of the same target, for the same model."""
        target, last, problem = self.target, self.upstream, self.problem
        assert target is not None and last is not None and problem is not None
        if self.resumes >= RESUMES_MAX or self.attempts >= self._brain.config.retry.attempts_max:
            return problem
        self.now = now
        found = self._brain.pick(self, target, now)
        self.full = False  # nobody waits with half an answer
        if found is None or found.node in self.tried:
            return problem
        if found.model_of(target) != last.model_of(target) or not self.state.budget.take():
            return problem
        self.resumes += 1
        self.state.retries += 1
        return self._attempt(found, now)

    def declined(self, status: int, now: float) -> None:
        """Asked for the rest, an upstream answered this, and no stream."""
        node = self.node
        outcome = of_status(status, our_key=node is not None and node.key is not None)
        if outcome is not _OK and outcome is not _CLIENT:
            self._attempt_ended(outcome, now)
        elif node is not None:
            # It answered: that it cannot continue what another began is no fault.
            self._release(node, outcome, now)
            self._brain.fitness.succeeded(node, self.permit)
        self._offer(now)

    def collect(self, head: "AnswerHead") -> Collector | None:
        """Nobody wants its answer but its client."""
        return None

    def ended(self, end: End) -> None:
        """Once per request; a second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        node = self.node
        if node is not None and end.outcome is _OK and not self._eventful:
            self.node = None
            node.in_flight -= 1
            node.outcomes[_OK] += 1
            node.answered(end, self.attempt_started)
            if self.caller_grants:
                self._settle_caller(end)
            if not node.steady:
                self._brain.fitness.succeeded(node, self.permit)
                if node.slots is not None:
                    node.slots.served(node.in_flight + 1)
                    self._brain.freed(end.ended, self.upstream)
        else:
            self._settle(end)
        self._brain.count(self, end)
        self.envelope = EMPTY

    def _settle(self, end: End) -> None:
        """All that it may hold comes back."""
        if self.beside is not None:
            self.hedge_lost(end.ended)
        if self.hedged is not None:
            self.state.hedged(self.hedged)
        node = self.node
        if node is not None:
            outcome = end.outcome
            if outcome is _CLIENT and node.key is not None:
                outcome = end.outcome = of_status(end.status, our_key=True)
            if outcome is _OK or outcome is _CLIENT:
                self._release(node, outcome, end.ended, end)
                if outcome is _OK:
                    if not self.resumes:  # two engines' answer tells nothing of either's pace
                        node.answered(end, self.attempt_started)
                    if self.target is not None and self.target.fallback:
                        self.state.fallbacks += 1
                if not node.steady:
                    self._brain.fitness.succeeded(node, self.permit)
            elif outcome is Outcome.CANCELLED or outcome is Outcome.REFUSED:
                self._release(node, outcome, end.ended, end)
                self._brain.fitness.abandoned(node, self.permit)
            else:
                self._attempt_ended(outcome, end.ended, connect=end.failure is Failure.CONNECT)
        if self._broke:
            self._blame_upstream(end.ended)
        if self.broke_off:
            self.state.resumed(_became(end, self.resumes))
        if self.caller_grants:
            self._settle_caller(end)
        if self.grants:
            used = self._used(end)
            for grant in self.grants.values():
                grant.settle(used, end.ended)
        self._waited(end.ended)
        self._leave_queue()
        if self.grants:
            self._brain.freed(end.ended)
        self._offer(end.ended)
        if self._streams:
            self._streams = False
            self._brain.active_streams -= 1

    def _used(self, end: End) -> int | None:
        """Tokens, as its engine says, else as is likely: nobody evades a limit by not being told.
        None: nothing was answered."""
        if end.tokens_in is not None or end.tokens_out is not None:
            return (end.tokens_in or 0) + (end.tokens_out or 0)
        if not end.upstream_spoke and not end.events:
            return None
        said = end.events
        if not said and self.route.capability == GENERATE:
            said = end.bytes_out // CHARACTERS_PER_TOKEN
        return self.envelope.prompt().tokens + said

    def _settle_caller(self, end: End) -> None:
        used = self._used(end)
        for grant in self.caller_grants:
            grant.settle(used, end.ended)

    # --- limits ---------------------------------------------------------------------------------

    def hold(self, grants: Mapping[str, Grant]) -> None:
        """What the limits on the way to its target granted, for all tries there."""
        self.grants = grants
        self.special = True
        self._tell_limits()

    def hold_caller(self, grants: Sequence[Grant]) -> None:
        """What the limits of its key and its tenant granted."""
        self.caller_grants = grants
        first = grants[0].told if grants else ()
        self.lines = self.answer_head = toomany.headers(
            first if len(grants) < 2 else [one for grant in grants for one in grant.told]
        )

    def _hold_provider(self, node: Node, limiter: Limiter, now: float) -> None:
        tokens = self.envelope.prompt().tokens if limiter.counts_tokens else 1
        self.grant = limiter.take(tokens, now)

    def _hold_target(self, now: float) -> None:
        self._brain.hold(self, now)

    def _tell_limits(self) -> None:
        held = (*self.caller_grants, *self.grants.values())
        self.lines = toomany.headers([one for grant in held for one in grant.told])

    # --- attempts -------------------------------------------------------------------------------

    def look(self, now: float) -> Upstream | None:
        """The upstream to ask now: of the present target, else of those that follow."""
        self.now = now
        brain, target = self._brain, self.target
        full: tuple[Target, ...] = ()
        while target is not None:
            found = brain.pick(self, target, now)
            if found is not None:
                return found
            if self.full:
                self.full = False
                full = (*full, target)
            last_resort = self.last_resort
            target = self.advance(brain.config.retry.attempts_per_target)
            # Others of the same name may have it, but it waits rather than fall back.
            on = target is not None and not target.fallback and self.last_resort is last_resort
            if full and not on and self.unplaced is None:
                self.crowded = full
                return None
        return None

    def _nobody(self, now: float) -> Step:
        """It waits, or hears the last word: what became of the attempts, or why there was none."""
        if self.crowded:
            found = self._place(now)
            if found is not None:
                return self._take(found, now)
        if self.problem is None:
            self.problem = self._why_nobody(now)
            if self.explains:
                self.problem = self._brain.explained(self, self.problem)
        return self.problem

    def _attempt(self, upstream: Upstream, now: float) -> Attempt:
        node = self.node = upstream.node
        self.upstream = upstream
        self.service = node.name
        self.attempt_started = now
        node.in_flight += 1
        node.request_count += 1
        breaker = node.breaker
        if breaker.state is _CLOSED:
            self.permit = breaker.life
        else:
            self.permit = self._brain.fitness.admit(node, now)
        if node.limiter is not None:
            self._hold_provider(node, node.limiter, now)
            self._eventful = True
        if self._brain.learns:
            self._brain.took(self, upstream)
        target = self.target
        assert target is not None
        if self.attempts:
            self.attempts += 1
            self.tried = (*self.tried, node)
        else:
            self.attempts = 1
            self.tried = node.alone
            if target.plain and target.name == self.model and not self.special:
                return node.first_attempt
        if target.limited or self.grants:
            self._hold_target(now)
        self._eventful = True
        self._raced = False
        return self._made(upstream)

    def _start(self, upstream: Upstream, now: float) -> Step:
        """Where it may wait for what others must say of it first."""
        return self._attempt(upstream, now)

    def _made(self, upstream: Upstream) -> Attempt:
        """What is particular: another name upstream, a fallback, time limits of its own."""
        target = self.target
        assert target is not None
        served = upstream.model_of(target)
        edit = None
        self.answer_model = None
        if served is not None and self.model is not None and served != self.model:
            self.answer_model = served
            edit = self.envelope.edit(served)
        self.answer_head = self.lines + _FALLBACK_LINE if target.fallback else self.lines
        if self.explains:
            said = self._brain.compact(self, upstream).encode("ascii", "replace")
            self.answer_head += b"x-creche-explain: %b\r\n" % said
        timeouts = target.timeouts
        return Attempt(
            upstream.node,
            self.attempts,
            edit,
            first_event_s=timeouts.first_event_s,
            chunk_s=timeouts.between_chunks_s,
            total_s=timeouts.total_s,
            resume=target.resume if self.envelope.stream else False,
        )

    def _take(self, step: Upstream | Wait, now: float) -> Step:
        if isinstance(step, Wait):
            self._begin_wait(now)
            return step
        return self._start(step, now)

    def _another(self, outcome: Outcome, sent: bool, now: float) -> Upstream | Wait | None:
        """The next upstream, or a backoff before the same one, or None: this was the last."""
        asked = self.target
        found = self._look_again(outcome, sent, now)
        if found is None:
            self.target = asked  # whatever was looked for elsewhere
        return found

    def _look_again(self, outcome: Outcome, sent: bool, now: float) -> Upstream | Wait | None:
        retry = self._brain.config.retry
        if (
            outcome not in RETRIED
            or (sent and not self.route.retry_after_sent)
            or self.attempts >= retry.attempts_max
            or (outcome is Outcome.SLOW and self._was_slow)
        ):
            return None
        most = retry.attempts_per_target
        if len(self.tried) >= most and self.advance(most) is None:
            return None
        found = self.look(now)
        while found is not None and self._useless(found, outcome, now):
            found = None if self.advance(most) is None else self.look(now)
        if found is None and not self.crowded:
            return None
        if outcome is not Outcome.UNREACHABLE and not self.state.budget.take():
            self.crowded = ()
            return None
        if found is None:
            step = self._place(now)
            if step is None or isinstance(step, Wait):
                return step
            if self._useless(step, outcome, now):
                return None
            found = step
        self._was_slow = self._was_slow or outcome is Outcome.SLOW
        self.state.retries += 1
        return Wait(self._backoff_s()) if found.node in self.tried else found

    def _useless(self, found: Upstream, outcome: Outcome, now: float) -> bool:
        """It was tried. It does not answer, will not have our key, or asked for rest (and not for
        fewer at once, which it has by now): only another can help."""
        if found.node not in self.tried:
            return False
        if outcome is Outcome.BACKPRESSURE:
            return found.node.rest_until > now
        return outcome is Outcome.SLOW or outcome is Outcome.DENIED

    def _backoff_s(self) -> float:
        """100·n ms, half of it by chance, so that those who failed together do not return so."""
        full = min(self._brain.config.retry.backoff_ms * self.attempts / 1000, BACKOFF_S_MAX)
        return full * (0.5 + 0.5 * self._brain.dice())

    def _attempt_ended(self, outcome: Outcome, now: float, *, connect: bool = False) -> None:
        """What was taken comes back, and the upstream is told how it did."""
        node = self.node
        if node is None:
            return
        self._release(node, outcome, now)
        node.error_count += 1
        if outcome is Outcome.BROKEN:
            self._weigh_broken(node, now)
        elif outcome is Outcome.BACKPRESSURE:
            self._brain.fitness.abandoned(node, self.permit)
        else:
            self._brain.fitness.failed(node, self.permit, now, connect=connect)

    def _release(self, node: Node, outcome: Outcome, now: float, end: End | None = None) -> None:
        """The running attempt's load and its provider's place come back.

        Without an `end` it failed: what was answered before that is not known."""
        self.node = None
        if node.slots is not None:
            self._frees = self.upstream
            if outcome is _OK:
                node.slots.served(node.in_flight)
        node.in_flight -= 1
        node.outcomes[outcome] += 1
        if outcome is Outcome.CANCELLED:
            node.left_at = now
        grant, self.grant = self.grant, None
        if grant is not None:
            grant.settle(None if end is None else self._used(end), now)

    # --- whose fault a broken answer was ----------------------------------------------------------

    def _weigh_broken(self, node: Node, now: float) -> None:
        """One broken answer waits for the next: when a second upstream breaks too, it is the
        request, and feeds neither."""
        fitness, permit = self._brain.fitness, self.permit
        if self._request_blamed:
            fitness.abandoned(node, permit)
        elif not self._broke or self._broke[0][0] is node:
            self._broke = (*self._broke, (node, permit))
        else:
            for one, admitted in (*self._broke, (node, permit)):
                fitness.abandoned(one, admitted)
            self._broke = ()
            self._request_blamed = True

    def _blame_upstream(self, now: float) -> None:
        broke, self._broke = self._broke, ()
        for node, permit in broke:
            self._brain.fitness.failed(node, permit, now)


def _became(end: End, resumes: int) -> str:
    """What became of a stream that broke off."""
    if end.outcome is _OK or end.outcome is Outcome.CANCELLED:
        return "ok" if end.outcome is _OK else "cancelled"
    if end.unresumable:
        return "refused"
    return "failed" if resumes else "no_upstream"
