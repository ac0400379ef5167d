"""What other routers are known to get wrong, each by name, on a Brain with numbers."""

from router.breaker import State
from router.config import Breaker, Config, Retry
from router.errors import Problem
from router.outcome import Failure, Outcome
from router.seam import Attempt
from tests.router.making import begin, brain, end, in_flight, name_of, serve, service


def _names(count: int) -> list[str]:
    return [f"{letter}@h" for letter in "abcdefgh"[:count]]


def test_400s_do_not_open_a_breaker() -> None:
    found = brain(service("a@h", "m"))
    node = found.table.upstreams["a@h"].node
    for _ in range(50):
        plan = begin(found, "m")
        plan.next(0.0)
        assert plan.answered(400, None, 0.0) is None
        plan.ended(end(Outcome.CLIENT, 400))
    assert node.breaker.state is State.CLOSED
    assert node.breaker.failures == 0
    assert not node.out


def test_one_poisonous_request_does_not_open_every_breaker() -> None:
    """It makes whoever reads it answer 500: that is the request's fault, however often it comes."""
    found = brain(*(service(name, "m") for name in _names(4)))
    for _ in range(50):
        found.tick()  # no more than the budget allows: what it does not is for others to answer
        plan = begin(found, "m")
        plan.next(0.0)
        assert isinstance(plan.answered(500, None, 0.0), Attempt)
        assert plan.answered(500, None, 0.0) is None, "the client is told, after two tries"
        plan.ended(end(Outcome.BROKEN, 500))
    nodes = [found.table.upstreams[name].node for name in _names(4)]
    assert all(node.breaker.state is State.CLOSED and not node.out for node in nodes)
    assert in_flight(found) == 0


def test_a_poisonous_request_among_good_ones_harms_nobody() -> None:
    found = brain(*(service(name, "m") for name in _names(4)))
    for at in range(200):
        found.tick()
        if at % 5 == 0:
            plan = begin(found, "m")
            plan.next(0.0)
            plan.answered(500, None, 0.0)
            plan.answered(500, None, 0.0)
            plan.ended(end(Outcome.BROKEN, 500))
        else:
            serve(found, "m")
    nodes = [found.table.upstreams[name].node for name in _names(4)]
    assert all(node.breaker.state is State.CLOSED and not node.out for node in nodes)


def test_an_instantly_failing_node_attracts_no_least_requests_traffic() -> None:
    """It never has anything in flight, so it always looks the least loaded."""
    found = brain(service("bad@h", "m"), service("good@h", "m"))
    busy = [begin(found, "m") for _ in range(10)]
    for plan in busy:
        if name_of(plan.next(0.0)) == "bad@h":
            plan.answered(500, None, 0.0)
    asked = 0
    for at in range(200):
        found.tick()
        plan = begin(found, "m")
        if name_of(plan.next(at / 100)) == "bad@h":
            asked += 1
            assert name_of(plan.answered(500, None, at / 100)) == "good@h"
        plan.answered(200, None, at / 100)
        plan.ended(end(now=at / 100))
    assert asked <= 3


def test_cooling_again_does_not_shorten_a_cooldown() -> None:
    found = brain(service("a@h", "m"))
    node = found.table.upstreams["a@h"].node
    found.fitness.rest(node, 300.0, 0.0)
    found.fitness.rest(node, 1.0, 10.0)
    found.fitness.rest(node, None, 20.0)
    assert node.rest_until == 300.0


def test_a_trip_in_the_open_does_not_lengthen_the_cooldown() -> None:
    found = brain(service("a@h", "m"))
    node = found.table.upstreams["a@h"].node
    late = [begin(found, "m") for _ in range(8)]
    for plan in late:
        plan.next(0.0)
    for at, plan in enumerate(late):
        plan.failed(Failure.CLOSED, True, float(at))
        plan.ended(end(Outcome.UNREACHABLE, 502, now=float(at)))
    assert node.breaker.state is State.OPEN
    assert node.breaker.until == 4.0 + 30.0, "as the fifth failure had it"


def test_all_cooling_down_is_no_503_while_one_has_recovered() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    for name in ("a@h", "b@h"):
        found.fitness.rest(found.table.upstreams[name].node, 3_600.0, 0.0)
    assert serve(found, "m", now=1.0) in ("a@h", "b@h"), "rest is a wish, not a wall"


def test_all_breakers_open_lets_a_trial_through_as_soon_as_one_may() -> None:
    config = Config(breaker=Breaker(failures=1, open_s=30), retry=Retry(attempts_per_target=1))
    found = brain(service("a@h", "m"), service("b@h", "m"), config=config)
    for now in (0.0, 10.0):
        plan = begin(found, "m", now=now)
        plan.next(now)
        plan.failed(Failure.CLOSED, True, now)
        plan.ended(end(Outcome.UNREACHABLE, 502, now=now))
    refused = begin(found, "m", now=20.0)
    problem = refused.next(20.0)
    assert isinstance(problem, Problem) and problem.status == 503
    assert problem.retry_after_s == 10, "when the first trial may be"
    refused.ended(end(Outcome.REFUSED, 503, now=20.0))
    assert serve(found, "m", now=30.0)
    assert in_flight(found) == 0


def test_429_from_one_upstream_does_not_become_many_to_clients() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    asked = {"a@h": 0, "b@h": 0}
    seen = []
    for at in range(100):
        now = at / 10
        plan = begin(found, "m", now=now)
        name = name_of(plan.next(now))
        asked[name] += 1
        if name == "a@h":
            step = plan.answered(429, None, now)
            assert name_of(step) == "b@h"
        assert plan.answered(200, None, now) is None
        seen.append(200)
        plan.ended(end(now=now))
    assert asked["a@h"] == 1, "it rests for the minute that it did not name"
    assert set(seen) == {200}
