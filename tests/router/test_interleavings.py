"""Any interleaving of requests, failures, departures and table changes: what was handed out comes
back, limits hold, and nobody is asked twice while another is left."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.config import Config, Retry
from router.errors import Problem
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, Step, Wait
from router.stats import totals
from tests.router.making import begin, brain, end, in_flight, service

NAMES = ["a@h", "b@h", "c@h"]
MODELS = ["m", "n", None, "nobody"]
FAILURES = [one for one in Failure if one is not Failure.CLIENT_LEFT]


class Requests(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = Config(retry=Retry(attempts_per_target=3, attempts_max=4))
        self.brain = brain(*(service(name, "m") for name in NAMES), config=config)
        self.plans: list[tuple[Plan, Step]] = []
        self.begun = 0
        self.now = 0.0

    def _took(self, plan: Plan, step: Step | None) -> None:
        """A step as it is decided: later the fleet may be another."""
        if isinstance(step, Attempt):
            fresh = step.upstream
            if plan.attempts > 1 and plan.tried.count(fresh) > 1:
                pool = self.brain.table.pool(plan.target, plan.capability)
                left = {one.node for one in (*pool.fit, *pool.suspect)} - set(plan.tried)
                assert not left, "asked twice while another was left"
        if step is not None:
            self.plans.append((plan, step))

    def _pop(self, at: int) -> tuple[Plan, Step] | None:
        return self.plans.pop(at % len(self.plans)) if self.plans else None

    @rule(model=st.sampled_from(MODELS), stream=st.booleans(), get=st.booleans())
    def request(self, model: str | None, stream: bool, get: bool) -> None:
        plan = begin(self.brain, model, stream=stream, method="GET" if get else "POST")
        self.begun += 1
        self._took(plan, plan.next(self.now))

    @rule(at=st.integers(0), status=st.sampled_from([200, 400, 429, 500, 503]), rest=st.booleans())
    def answer(self, at: int, status: int, rest: bool) -> None:
        found = self._pop(at)
        if found is None:
            return
        plan, step = found
        if isinstance(step, Attempt):
            after = plan.answered(status, 3.0 if rest else None, self.now)
            if after is not None:
                self._took(plan, after)
                return
        self.plans.append(found)

    @rule(at=st.integers(0), failure=st.sampled_from(FAILURES), sent=st.booleans())
    def fail(self, at: int, failure: Failure, sent: bool) -> None:
        found = self._pop(at)
        if found is None:
            return
        plan, step = found
        if isinstance(step, Attempt):
            self._took(plan, plan.failed(failure, sent, self.now))
        else:
            self.plans.append(found)

    @rule(at=st.integers(0))
    def go_on(self, at: int) -> None:
        found = self._pop(at)
        if found is None:
            return
        plan, step = found
        if isinstance(step, Wait):
            self._took(plan, plan.next(self.now))
        else:
            self.plans.append(found)

    @rule(at=st.integers(0), outcome=st.sampled_from(list(Outcome)))
    def finish(self, at: int, outcome: Outcome) -> None:
        found = self._pop(at)
        if found is not None:
            plan, step = found
            plan.ended(end(Outcome.REFUSED if isinstance(step, Problem) else outcome, 503))

    @rule(name=st.sampled_from(NAMES), there=st.booleans(), life=st.integers(1, 3))
    def change(self, name: str, there: bool, life: int) -> None:
        record = service(name, "m", "n", instance_id=str(life)) if there else None
        self.brain.apply({name: record}, fresh=True)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.brain.tick()
        for node in list(self.brain.fitness.out):
            self.brain.fitness.probed(node)

    @invariant()
    def limits_hold(self) -> None:
        assert all(plan.attempts <= 3 for plan, _ in self.plans)
        assert all(one.node.in_flight >= 0 for one in self.brain.table.upstreams.values())
        known = {one.node for one in self.brain.table.upstreams.values()}
        assert self.brain.fitness.out & known == {node for node in known if node.out}

    def teardown(self) -> None:
        nodes = {node for plan, _ in self.plans for node in plan.tried}
        for plan, _ in self.plans:
            plan.ended(end(Outcome.CANCELLED, 499))
        assert in_flight(self.brain) == 0
        assert all(node.in_flight == 0 for node in nodes)
        assert totals(self.brain.states()).total == self.begun


Requests.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRequests = Requests.TestCase
