"""The whole Brain under any interleaving: several models with chains, providers with limits,
breakers that trip and half-open, needs, departures in every phase, tables and files that change.

After every step: what is handed out is exactly what running requests hold, nobody was asked who may
not be, no breaker has two trials, and no request more attempts than it may have.
"""

from itertools import chain

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import needs, providers
from router.breaker import State
from router.config import Breaker, Config, Queue, Retry
from router.errors import Problem
from router.explain import explain
from router.fitness import NO_PERMIT, Tier, tier_of
from router.limits import Limiter
from router.named import Limits, Model, Pattern
from router.nodes import Node
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, Beside, Step, Wait
from router.stats import totals
from router.upstream import Upstream
from tests.router.making import ask, begin, cloud, end, reload, service, with_file

RETRY = Retry(attempts_per_target=2, attempts_max=4, error_cooldown=4)
BREAKER = Breaker(failures=2, open_s=10, trials=2, panic_upstreams=3)
NAMES = ("a@h", "b@h", "c@h")
MODELS = ("big", "small", "code", "gpt", "gpt-x", None, "nobody")
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"x-creche-privacy": "public"},
    {"x-creche-privacy": "confidential"},
    {"x-creche-gpu": "require"},
    {"x-session-id": "ana"},
    {"x-priority": "low", "x-request-timeout": "5"},
    {"x-priority": "high"},
)
FAILURES = [one for one in Failure if one is not Failure.CLIENT_LEFT]
AT = st.integers(0, 7)
STATUSES = (200, 200, 400, 429, 500, 503)

CODE = Model(
    targets={"big": 2, "small": 1},
    fallbacks=("gpt",),
    limits=Limits(max_concurrency=2, rpm=600),
    hedge_after_ms=100,
)
HEDGED = Model(fallbacks=("small",), strategy="prefix", hedge_after_ms=100)
CLOUDS = {
    "one": cloud(models=("gpt",), limits=Limits(max_concurrency=1)),
    "two": cloud(models=("gpt",), limits=Limits(rpm=30, tpm=10_000)),
    "public": cloud(models=("gpt",), privacy="public"),
}
FILES = (
    Config(
        models={"code": CODE, "big": HEDGED, "gpt": Model(hedge_after_ms=100)},
        patterns=(Pattern(match="gpt-.*", provider="one", rewrite="gpt"),),
        providers=CLOUDS,
        expect=("big", "small"),
        retry=RETRY,
        breaker=BREAKER,
        queue=Queue(waiting_max=3, waiting_in_all_max=5, wait_max_s=20),
    ),
    Config(
        strategy="score",
        models={"code": Model(backend_model="small")},
        providers={"one": CLOUDS["one"], "two": cloud(models=("gpt",), limits=Limits(rpm=60))},
        default_fallbacks=("gpt",),
        expect=("small",),
        retry=RETRY,
        breaker=BREAKER,
    ),
    Config(retry=RETRY, breaker=BREAKER, strategy="round_robin"),
)


class Requests(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        engines = [service(name, "big", "small") for name in NAMES]
        self.brain = with_file(FILES[0], *engines)
        #: Those that run, and what each was told last.
        self.plans: list[tuple[Plan, Step]] = []
        self.begun = 0
        self.now = 1.0
        #: Trials that run, with their permits.
        self.trials: list[tuple[Plan, Node, int]] = []
        self.nodes: set[Node] = set()
        self.limiters: set[Limiter] = set()
        #: Those that waited for a place, and may go on.
        self.woken: list[Plan] = []
        self.offered: list[Plan] = []

    # --- requests -----------------------------------------------------------------------------

    @rule(model=st.sampled_from(("small", "big", "code", "gpt", "gpt-x")), count=st.integers(1, 3))
    def plain_requests(self, model: str, count: int) -> None:
        for _ in range(count):
            self.request(model, {}, True)

    @rule(model=st.sampled_from(MODELS), headers=st.sampled_from(HEADERS), stream=st.booleans())
    def request(self, model: str | None, headers: dict[str, str], stream: bool) -> None:
        plan = begin(self.brain, model, now=self.now, headers=headers, stream=stream)
        self.begun += 1
        self._told(plan, plan.next(self.now))

    @rule(at=AT, status=st.sampled_from(STATUSES), rest=st.booleans())
    def answer(self, at: int, status: int, rest: bool) -> None:
        found = self._pop(at, Attempt)
        if found is not None:
            plan, step = found
            after = plan.answered(status, 3.0 if rest else None, self.now)
            if after is not None:
                self._told(plan, after)
            elif plan.broke_off and status != 200:
                plan.declined(status, self.now)
                self._told(plan, plan.resume(self.now))
            else:
                self.plans.append((plan, step))

    @rule(at=AT)
    def break_off(self, at: int) -> None:
        """A stream that began ends early, and goes on elsewhere if it may."""
        found = self._pop(at, Attempt)
        if found is not None:
            plan, _ = found
            plan.answered(200, None, self.now)
            if plan.beside is not None:
                plan.hedge_lost(self.now)
            if plan._streams:
                plan.lost(self.now)
                self._told(plan, plan.resume(self.now))
            else:
                self.plans.append(found)

    @rule(at=AT)
    def break_twice(self, at: int) -> None:
        """As an engine does that is broken: its breaker opens."""
        self.answer(at, 500, False)
        self.go_on(-1)
        self.answer(-1, 500, False)

    @rule(count=st.integers(1, 5))
    def serve(self, count: int) -> None:
        """The oldest are answered well."""
        for _ in range(count):
            found = self._pop(0, Attempt)
            if found is not None:
                plan, _ = found
                plan.answered(200, None, self.now)
                plan.ended(end(now=self.now))

    @rule(at=AT, failure=st.sampled_from(FAILURES), sent=st.booleans())
    def fail(self, at: int, failure: Failure, sent: bool) -> None:
        found = self._pop(at, Attempt)
        if found is not None:
            plan, _ = found
            before = plan.upstream
            step = plan.failed(failure, sent, self.now)
            if isinstance(step, Attempt) and plan.node is not None and plan._raced:
                assert plan.upstream is before, "an idle race is the same attempt"
                self.plans.append((plan, step))
            else:
                self._told(plan, step)

    @rule(at=AT, seconds=st.sampled_from([0.0, 0.1, 1.0]))
    def hedge(self, at: int, seconds: float) -> None:
        """No event has come: a second upstream is asked too, if it may be."""
        found = self._pop(at, Attempt)
        if found is not None:
            plan, _ = found
            self.now += seconds
            plan.state.hedging.earned()
            first = plan.node
            step = plan.hedge(self.now)
            self.plans.append(found)
            assert plan.node is first, "the first goes on"
            if isinstance(step, Attempt):
                self._hedged(plan, step)

    @rule(
        models=st.lists(st.sampled_from(("big", "big", "gpt", "code")), min_size=1, max_size=3),
        failure=st.none() | st.sampled_from(FAILURES),
    )
    def streams_that_do_not_begin(self, models: list[str], failure: Failure | None) -> None:
        for model in models:
            self.request(model, {}, True)
            if isinstance(self.plans[-1][1], Attempt):
                plan = self.plans[-1][0]
                self.plans.insert(0, self.plans.pop())
                for _ in range(20):
                    plan.state.hedging.earned()
                self.hedge(0, 1.0)
                if failure is not None:
                    self.plans.insert(0, self.plans.pop())
                    self.fail(0, failure, True)

    @rule(
        at=AT,
        how=st.sampled_from(("won", "won", "won", "lost", *FAILURES, *STATUSES[1:])),
        rest=st.booleans(),
    )
    def hedge_ends(self, at: int, how: str | Failure | int, rest: bool) -> None:
        found = [plan for plan, _ in self.plans if plan.beside is not None]
        if found:
            plan = found[at % len(found)]
            if how == "won":
                plan.hedge_won(self.now)
            elif how == "lost":
                plan.hedge_lost(self.now)
            elif isinstance(how, Failure):
                plan.hedge_failed(how, self.now)
            elif isinstance(how, int):
                plan.hedge_declined(how, 3.0 if rest else None, self.now)
            assert plan.beside is None

    @rule(at=AT)
    def go_on(self, at: int) -> None:
        found = self._pop(at, Wait)
        if found is not None:
            self._told(found[0], found[0].next(self.now))

    @rule(at=AT, outcome=st.sampled_from(list(Outcome)))
    def finish(self, at: int, outcome: Outcome) -> None:
        found = self._pop(at, object)
        if found is not None:
            plan, step = found
            went_on = isinstance(step, Attempt) or outcome is Outcome.CANCELLED
            plan.ended(end(outcome if went_on else Outcome.REFUSED, 503, now=self.now))
            plan.ended(end(Outcome.CUT, 200, now=self.now))

    # --- the world ----------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        there=st.sampled_from([True, True, True, False]),
        life=st.sampled_from([1, 1, 1, 2]),
        draining=st.sampled_from([False, False, False, True]),
        privacy=st.sampled_from([None, None, "public", "confidential"]),
        models=st.sampled_from([("big",), ("small",), ("big", "small")]),
        cap=st.sampled_from([None, None, 1, 2]),
    )
    def change(
        self,
        name: str,
        there: bool,
        life: int,
        draining: bool,
        privacy: str | None,
        models: tuple[str, ...],
        cap: int | None,
    ) -> None:
        metadata = {
            "privacy": privacy,
            "gpu": "L4" if privacy else None,
            "max_concurrency": cap,
        }
        record = service(name, *models, instance_id=str(life), draining=draining, metadata=metadata)
        self.brain.apply({name: record if there else None}, fresh=True)

    @rule(names=st.sets(st.sampled_from((*NAMES, "one", "two")), min_size=1))
    def trip(self, names: set[str]) -> None:
        for name in sorted(names):
            upstream = self.brain.table.upstreams.get(name)
            while upstream is not None and upstream.node.breaker.state is State.CLOSED:
                self.brain.fitness.failed(upstream.node, upstream.node.breaker.life, self.now)

    @rule(model=st.sampled_from(("small", "gpt")))
    def recover(self, model: str) -> None:
        """Breakers let trials through."""
        self.wait(BREAKER.open_s)
        self.probe(False)
        self.plain_requests(model, 3)

    @rule(file=st.sampled_from((FILES[0], FILES[0], FILES[1], FILES[2])), count=st.integers(0, 3))
    def reload(self, file: Config, count: int) -> None:
        """And what was asked before fails after it."""
        reload(self.brain, file, self.now)
        for _ in range(count):
            self.break_twice(0)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.brain.tick(self.now)

    @rule(slow=st.booleans())
    def probe(self, slow: bool) -> None:
        for node in list(self.brain.fitness.out):
            self.brain.fitness.probed(node, slow=slow)

    @rule(model=st.sampled_from(MODELS), headers=st.sampled_from(HEADERS))
    def explain(self, model: str | None, headers: dict[str, str]) -> None:
        before = self._counts()
        explain(self.brain, ask(model, headers=headers, now=self.now), self.now)
        assert self._counts() == before

    # --- what must hold -----------------------------------------------------------------------

    @invariant()
    def what_is_handed_out_is_what_running_requests_hold(self) -> None:
        self._go_on_woken()
        plans = [plan for plan, _ in self.plans]
        self.nodes |= {one.node for one in self.brain.table.upstreams.values()}
        self.limiters |= {one.limiter for one in self.nodes if one.limiter is not None}
        self.limiters |= set(self.brain.limiters._models.values())
        for node in self.nodes:
            assert node.in_flight == sum((plan.node, _beside(plan)).count(node) for plan in plans)
        for state in self.brain.states():
            running = [plan for plan in plans if plan.state is state]
            assert state.in_flight == len(running)
            assert state.queued == sum(plan._waits for plan in running)
        assert self.brain.queues.waiting == sum(plan.place is not None for plan in plans)
        for limiter in self.limiters:
            assert limiter.in_flight == sum(_holds(plan, limiter) for plan in plans)
            most = limiter.limits.max_concurrency
            assert most is None or limiter.in_flight <= most
        assert self.brain.active_streams == sum(plan._streams for plan in plans)
        assert totals(self.brain.states()).total == self.begun - len(plans)

    @invariant()
    def a_breaker_has_one_trial_at_most_and_somebody_runs_it(self) -> None:
        self._go_on_woken()
        running = {plan for plan, _ in self.plans}
        self.trials = [
            (plan, node, permit)
            for plan, node, permit in self.trials
            if plan in running
            and ((plan.node is node and plan.permit == permit) or (node, permit) in plan._broke)
        ]
        for node in self.nodes:
            breaker = node.breaker
            trials = [permit for plan, of, permit in self.trials if of is node]
            assert trials == ([breaker.life] if breaker.trial else [])

    @invariant()
    def only_what_is_out_is_probed(self) -> None:
        there = {one.node for one in self.brain.table.upstreams.values()}
        assert self.brain.fitness.out == {node for node in there if node.out}

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        self.brain.freed(self.now)  # what time alone made free is offered once a second
        self._go_on_woken()
        for plan, _ in self.plans:
            if plan.place is not None:
                assert plan.look(self.now) is None
                assert plan.crowded, "there is somebody to wait for"
                plan.crowded = ()
                plan.restart(RETRY.attempts_per_target)

    def teardown(self) -> None:
        for plan, _ in self.plans:
            plan.ended(end(Outcome.CANCELLED, 499, now=self.now))
        self.plans = []
        assert self.brain.queues.waiting == 0 and not self.brain.queues.lines
        self.what_is_handed_out_is_what_running_requests_hold()
        assert not any(node.in_flight or node.breaker.trial for node in self.nodes)

    # --- small parts --------------------------------------------------------------------------

    def _pop(self, at: int, kind: type) -> tuple[Plan, Step] | None:
        """One of those that were told something of `kind`, taken off the list."""
        fit = [found for found in self.plans if isinstance(found[1], kind)]
        if not fit:
            return None
        found = fit[at % len(fit)]
        self.plans.remove(found)
        return found

    def _hedged(self, plan: Plan, step: Attempt) -> None:
        """A second one is asked that is well, once, within the budget."""
        second = _beside(plan)
        assert second is step.upstream and second is not plan.node and second is not None
        assert second.breaker.state is State.CLOSED and not second.out
        assert plan.tried.count(second) == 1
        assert step.number == plan.attempts <= RETRY.attempts_max
        assert plan.state.hedging._saved > -1e-6

    def _wakes(self, plan: Plan) -> None:
        """What it was offered it has taken: looked at now, as it was then."""
        self.woken.append(plan)
        if plan._ready is not None:
            self.offered.append(plan)
            self._asked(plan)

    def _go_on_woken(self) -> None:
        """As the relay does, in the next turn of its loop."""
        while self.woken:
            plan = self.woken.pop(0)
            for at, (one, step) in enumerate(self.plans):
                if one is plan and isinstance(step, Wait):
                    del self.plans[at]
                    plan.wake = None
                    self._told(plan, plan.next(self.now))
                    break

    def _told(self, plan: Plan, step: Step) -> None:
        if isinstance(step, Beside):
            assert plan.node is not None and plan.beside is None
            step = Attempt(plan.node, plan.attempts)
            self.plans.append((plan, step))
            return
        self.plans.append((plan, step))
        if isinstance(step, Wait):
            plan.wake = lambda: self._wakes(plan)
        assert plan.attempts <= RETRY.attempts_max
        hedges = plan.hedged is not None
        assert len(plan.tried) <= RETRY.attempts_per_target + plan.resumes + hedges
        if isinstance(step, Attempt):
            if plan in self.offered:
                self.offered.remove(plan)
            else:
                self._asked(plan)
        elif isinstance(step, Problem) and step.status == 503 and not plan.attempts:
            self._nobody(plan)

    def _asked(self, plan: Plan) -> None:
        """An upstream is asked that may be, and none twice while another is left."""
        target, upstream = plan.target, plan.upstream
        assert target is not None and upstream is not None and plan.node is upstream.node
        assert self.brain.table.upstreams[upstream.name] is upstream
        assert upstream.fit or upstream.suspect
        slots = upstream.node.slots
        assert slots is None or upstream.node.in_flight <= slots.cap
        if target.provider is not None:
            assert (upstream.name, upstream.source) == (target.provider, providers.SOURCE)
        else:
            assert not target.models or set(target.models) & set(upstream.models)
        assert needs.refusal(upstream, plan.needs, self.now) is None
        pool = self.brain.table.pool(target, plan.capability)
        everyone = (*pool.fit, *pool.suspect)
        breaker = upstream.node.breaker
        if plan.permit == NO_PERMIT:
            # It had chosen before its own trials, of whatever target, were given back.
            mine = {*plan.tried, *chain.from_iterable((plan._visits or {}).values())}
            open_ = [
                one for one in everyone if one.node in mine or not one.node.breaker.admits(self.now)
            ]
            assert plan.last_resort
            assert len(everyone) >= BREAKER.panic_upstreams and len(open_) * 2 > len(everyone)
        elif breaker.state is not State.CLOSED:
            assert breaker.trial and plan.permit == breaker.life
            self.trials.append((plan, upstream.node, plan.permit))
        if plan.tried.count(upstream.node) > 1 and self.brain.strategy_name(target) != "score":
            left = [one for one in everyone if self._could_be_asked(plan, one)]
            if any(self._is_busy(plan, one) for one in everyone):
                left = [one for one in left if not (one.node.out or self._rests(plan, one))]
            assert not left, "asked twice while another was left"

    def _nobody(self, plan: Plan) -> None:
        """Nobody was found for a first attempt, and indeed there is nobody."""
        for target in (*plan.resolution.targets, *plan.resolution.fallbacks):
            pool = self.brain.table.pool(target, plan.capability)
            if self.brain.strategy_name(target) != "score":
                left = [u for u in (*pool.fit, *pool.suspect) if self._could_be_asked(plan, u)]
                if any(self._is_busy(plan, u) for u in (*pool.fit, *pool.suspect)):
                    left = [u for u in left if not u.node.out]
                assert not left, "told that there is nobody"

    def _is_busy(self, plan: Plan, upstream: Upstream) -> bool:
        """It is waited for, rather than one that is out."""
        return not self.brain._has_room(plan, upstream.node, self.now)

    def _rests(self, plan: Plan, upstream: Upstream) -> bool:
        """It asked for that, and is left in peace while there is anybody to wait for."""
        return upstream.node.rest_until > self.now and plan.unplaced is None

    def _could_be_asked(self, plan: Plan, upstream: Upstream) -> bool:
        tier = tier_of(upstream, self.now)
        tokens = plan.envelope.prompt().tokens
        return (
            upstream.node not in plan.tried
            and needs.refusal(upstream, plan.needs, self.now) is None
            and not self._is_busy(plan, upstream)
            and (upstream.limiter is None or upstream.limiter.allows(tokens, self.now))
            and (tier in (Tier.WELL, Tier.SUSPECT) or (plan.last_resort and tier is not Tier.OPEN))
        )

    def _counts(self) -> list[object]:
        found: list[object] = []
        for node in self.nodes:
            breaker = node.breaker
            found += [node.in_flight, node.request_count, node.rest_until, node.health]
            found += [breaker.state, breaker.life, breaker.trial, breaker.failures]
        for state in self.brain.states():
            found += [state.name, state.in_flight, state.requests.count, state.rotation.cursor]
            found.append(sorted(state.rotation._standings.items()))
        found += [limiter.in_flight for limiter in self.limiters]
        return found


def _beside(plan: Plan) -> Node | None:
    return None if plan.beside is None else plan.beside.node


def _holds(plan: Plan, limiter: Limiter) -> int:
    grants = [*plan.grants.values(), plan.grant]
    if plan.beside is not None:
        grants.append(plan.beside.grant)
    return sum(grant is not None and grant._limiter is limiter for grant in grants)


Requests.TestCase.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestRequests = Requests.TestCase
