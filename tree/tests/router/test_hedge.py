"""When a second upstream is asked for a stream that does not begin, and what comes back of both."""

from hypothesis import given
from hypothesis import strategies as st

from router.budget import HedgeBudget
from router.config import Config, Retry
from router.named import Limits, Model
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, Beside, Wait
from tests.router.making import begin, brain, cloud, end, in_flight, name_of, service, with_file

HEDGED = Config(models={"m": Model(hedge_after_ms=500)})
TWO = (service("a@h", "m"), service("b@h", "m"))


def streaming(config: Config = HEDGED, engines: int = 2) -> Plan:
    """A stream whose first upstream was asked at 0."""
    plan = begin(brain(*TWO[:engines], config=config), "m", stream=True)
    assert plan.hedge_after() in (0.0, 0.5)
    name_of(plan.next(0.0))
    return plan


def hedged() -> tuple[Plan, Attempt]:
    plan = streaming()
    step = plan.hedge(0.5)
    assert isinstance(step, Attempt)
    return plan, step


def outcomes(plan: Plan) -> list[list[str]]:
    """Of both upstreams, what their attempts came to; the first that was asked comes first."""
    nodes = [one.node for one in plan._brain.table.upstreams.values()]
    nodes.sort(key=plan.tried.index)
    return [[Outcome(at).name for at, n in enumerate(node.outcomes) if n] for node in nodes]


def test_a_second_upstream_is_asked_when_no_event_has_come_in_time() -> None:
    plan = streaming()
    assert isinstance(step := plan.hedge(0.2), Wait) and abs(step.seconds - 0.3) < 1e-9
    second = plan.hedge(0.5)
    assert isinstance(second, Attempt) and second.number == 2
    assert second.upstream is not plan.node
    assert in_flight(plan._brain) == 3, "the request, and two attempts"


def test_it_is_asked_for_once() -> None:
    plan, _ = hedged()
    assert plan.hedge(1.0) is None
    plan.hedge_failed(Failure.CLOSED, 1.0)
    assert plan.hedge(1.5) is None


def test_between_two_attempts_it_is_looked_for_again_later() -> None:
    plan = streaming()
    step = plan.failed(Failure.NO_ANSWER, True, 0.1)
    assert name_of(step) and plan.attempt_started == 0.1
    assert isinstance(later := plan.hedge(0.5), Wait) and abs(later.seconds - 0.1) < 1e-9
    assert plan.hedge(0.7) is None, "both were asked"


def test_with_one_upstream_nobody_is() -> None:
    plan = streaming(engines=1)
    assert plan.hedge(1.0) is None and plan.attempts == 1


def test_an_upstream_that_is_not_well_is_not_asked_for_it() -> None:
    for spoil in ("connect", "rest", "trial"):
        plan = streaming()
        second = next(u.node for u in plan._brain.table.upstreams.values() if u.node != plan.node)
        fitness = plan._brain.fitness
        if spoil == "connect":
            fitness.failed(second, 0, 0.0, connect=True)
        elif spoil == "rest":
            fitness.rest(second, 60.0, 0.0)
        else:
            for _ in range(5):
                fitness.failed(second, second.breaker.life, -100.0)
            fitness.probed(second)
        assert plan.hedge(1.0) is None, spoil


def test_off_no_stream_is_hedged() -> None:
    assert streaming(Config()).hedge(9.0) is None
    assert not brain(config=Config()).impatient and brain(config=HEDGED).impatient


def test_what_is_no_stream_of_events_is_not() -> None:
    plan = begin(brain(*TWO, config=HEDGED), "m", stream=True, path="/api/chat")
    assert plan.hedge_after() == 0.0


def test_the_second_wins_and_the_first_is_cancelled_without_blame() -> None:
    plan, _ = hedged()
    first = plan.node
    plan.hedge_won(0.7)
    assert plan.node is not None and plan.node is not first and plan.service == plan.node.name
    assert plan.answered(200, None, 0.7) is None
    plan.ended(end(now=1.0))
    assert outcomes(plan) == [["CANCELLED"], ["OK"]]
    assert (plan.hedged, plan.state.hedges) == ("won", {"won": 1})
    assert first is not None and (first.error_count, first.failures) == (0, 0)
    assert in_flight(plan._brain) == 0


def test_the_first_wins_and_the_second_is_cancelled_without_blame() -> None:
    plan, _ = hedged()
    assert plan.answered(200, None, 0.7) is None
    plan.hedge_lost(0.7)
    plan.ended(end(now=1.0))
    assert outcomes(plan) == [["OK"], ["CANCELLED"]]
    assert (plan.hedged, plan.state.hedges) == ("lost", {"lost": 1})
    assert in_flight(plan._brain) == 0


def test_the_first_fails_and_the_second_is_left() -> None:
    plan, second = hedged()
    assert isinstance(plan.failed(Failure.NO_ANSWER, True, 0.7), Beside)
    assert plan.node is second.upstream and plan.hedged == "won"
    plan.answered(200, None, 0.8)
    plan.ended(end(now=1.0))
    assert outcomes(plan) == [["SLOW"], ["OK"]]
    plan, _ = hedged()
    assert isinstance(plan.answered(500, None, 0.7), Beside)
    plan.ended(end(Outcome.CANCELLED, 499))
    assert outcomes(plan) == [["BROKEN"], ["CANCELLED"]]
    assert in_flight(plan._brain) == 0


def test_the_first_asks_for_rest_and_gets_it() -> None:
    plan, _ = hedged()
    first = plan.node
    assert isinstance(plan.answered(429, 7.0, 1.0), Beside)
    assert first is not None and first.rest_until == 8.0


def test_the_second_fails_and_the_first_goes_on() -> None:
    plan, second = hedged()
    first = plan.node
    plan.hedge_failed(Failure.CONNECT, 0.7)
    assert plan.node is first and second.upstream.set_aside  # type: ignore[attr-defined]
    plan.answered(200, None, 0.8)
    plan.ended(end(now=1.0))
    assert outcomes(plan) == [["OK"], ["UNREACHABLE"]]
    assert plan.hedged == "lost"


def test_what_the_second_declines_is_judged_by_its_answer() -> None:
    for status, outcome in ((400, "CLIENT"), (429, "BACKPRESSURE"), (500, "BROKEN")):
        plan, _ = hedged()
        plan.hedge_declined(status, None, 0.7)
        plan.ended(end(now=1.0))
        assert outcomes(plan) == [["OK"], [outcome]]
        assert in_flight(plan._brain) == 0


def test_a_client_that_leaves_gives_both_back() -> None:
    plan, _ = hedged()
    plan.ended(end(Outcome.CANCELLED, 499))
    assert outcomes(plan) == [["CANCELLED"], ["CANCELLED"]]
    assert in_flight(plan._brain) == 0


def test_a_provider_at_its_limit_is_not_asked_and_a_place_comes_back() -> None:
    one = Limits(max_concurrency=1)
    config = Config(
        models=HEDGED.models,
        providers={name: cloud(models=("m",), limits=one) for name in ("a", "b", "c")},
        retry=Retry(hedge_percent=100),
    )
    found = with_file(config)
    plans = [begin(found, "m", stream=True) for _ in range(2)]
    for plan in plans:
        plan.hedge_after()
        name_of(plan.next(0.0))
    second = plans[0].hedge(1.0)
    assert isinstance(second, Attempt)
    assert plans[1].hedge(1.0) is None, "every provider has its one request"
    plans[0].hedge_lost(1.0)
    assert isinstance(plans[1].hedge(1.0), Attempt)
    for plan in plans:
        plan.ended(end(Outcome.CANCELLED, 499))
    limiters = [one.node.limiter for one in found.table.upstreams.values()]
    assert [one.in_flight for one in limiters if one is not None] == [0, 0, 0]


def test_attempts_are_counted_and_their_limit_holds() -> None:
    plan = streaming(Config(models=HEDGED.models, retry=Retry(attempts_max=1)))
    assert plan.hedge(1.0) is None
    plan, _ = hedged()
    assert plan.attempts == 2


def test_the_budget_is_a_share_of_the_streams() -> None:
    budget = HedgeBudget(5)
    for _ in range(19):
        budget.earned()
    assert budget.any
    budget.take()
    assert not budget.any, "0.95 of the next"
    budget.earned()
    assert budget.any


@given(percent=st.floats(0, 100), asks=st.lists(st.booleans(), max_size=400))
def test_no_run_of_streams_has_more_hedges_than_its_share(percent: float, asks: list[bool]) -> None:
    budget = HedgeBudget(percent)
    hedges = 0
    for streams, slow in enumerate(asks, 1):
        budget.earned()
        if slow and budget.any:
            budget.take()
            hedges += 1
        assert hedges <= 1 + streams * percent / 100 + 1e-6
        assert percent or not hedges
