from collections import Counter

import pytest

from common.wire.registry import Health
from router import views
from router.config import Affinity, Config, Retry
from router.envelope import Envelope, read_json
from router.errors import Problem, RequestError
from router.outcome import Failure, Outcome
from router.seam import Attempt, Wait
from router.stats import totals
from tests.router.making import begin, brain, end, in_flight, name_of, serve, service


def test_an_unknown_models_text() -> None:
    found = brain(service("a@h", "known"))
    plan = begin(found, "typo")
    problem = plan.next(0.0)
    assert isinstance(problem, Problem)
    assert problem.status == 503
    assert problem.message == "No healthy services available for model 'typo'"
    assert problem.code == "model_not_found"
    assert problem.should_retry is False


def test_a_model_whose_engines_are_gone_may_come_back() -> None:
    found = brain(service("a@h", "m"))
    found.apply({"a@h": None})
    problem = begin(found, "m").next(0.0)
    assert isinstance(problem, Problem)
    assert problem.code == "no_healthy_services"
    assert problem.retry_after_s


def test_nothing_at_all() -> None:
    problem = begin(brain()).next(0.0)
    assert isinstance(problem, Problem)
    assert problem.message == "No healthy services available"


def test_no_model_goes_round_the_fit_services_with_the_capability() -> None:
    found = brain(
        service("a@h", "m"),
        service("b@h", "n"),
        service("c@h", "o", metadata={"capabilities": ["embed"]}),
    )
    assert Counter(serve(found) for _ in range(4)) == {"a@h": 2, "b@h": 2}
    served = {serve(found, path="/v1/embeddings") for _ in range(6)}
    assert served == {"a@h", "b@h", "c@h"}


def test_a_header_names_the_capability() -> None:
    found = brain(
        service("a@h", "m", metadata={"capabilities": ["generate"]}),
        service("b@h", "m", metadata={"capabilities": ["custom:ocr"]}),
    )
    assert serve(found, "m", headers={"x-creche-capability": "custom:ocr"}) == "b@h"
    with pytest.raises(RequestError):
        begin(found, "m", headers={"x-creche-capability": "nonsense"})
    assert in_flight(found) == 0


def test_counts_move_by_one() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    attempt = plan.next(0.0)
    assert isinstance(attempt, Attempt)
    assert in_flight(found) == 2  # the model's and the upstream's
    plan.answered(200, None, 0.5)
    plan.ended(end())
    plan.ended(end())
    assert in_flight(found) == 0
    assert totals(found.states()).total == totals(found.states()).successful == 1


def test_active_streams_return_to_zero() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m", stream=True)
    plan.next(0.0)
    assert found.active_streams == 0
    plan.answered(200, None, 0.0)
    assert found.active_streams == 1
    plan.ended(end(Outcome.CUT))
    assert found.active_streams == 0
    assert totals(found.states()).failed == 1


def test_no_services_and_one_request_is_one_failed() -> None:
    found = brain()
    plan = begin(found, "m")
    plan.next(0.0)
    plan.ended(end(Outcome.REFUSED, 503))
    assert totals(found.states()).total == totals(found.states()).failed == 1


def test_each_end_counts_once_in_its_place() -> None:
    found = brain(service("a@h", "m"))
    for outcome, status in (
        (Outcome.OK, 200),
        (Outcome.CLIENT, 404),
        (Outcome.CUT, 200),
        (Outcome.CANCELLED, 499),
        (Outcome.BROKEN, 500),
        (Outcome.BACKPRESSURE, 429),
    ):
        plan = begin(found, "m")
        plan.next(0.0)
        plan.ended(end(outcome, status))
    found.refused("id", Problem(400, "no"), 0.0, 1.0)
    found.refused("id", Problem(503, "no"), 0.0, 1.0)
    summed = totals(found.states())
    assert (summed.successful, summed.client_errors, summed.cancelled) == (1, 2, 1)
    assert summed.failed == 4
    assert summed.total == 8
    assert in_flight(found) == 0


# --- retries --------------------------------------------------------------------------------------


def test_unreachable_goes_to_another_and_is_set_aside() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m")
    first = name_of(plan.next(0.0))
    second = name_of(plan.failed(Failure.CONNECT, False, 0.0))
    assert {first, second} == {"a@h", "b@h"}
    plan.answered(200, None, 0.0)
    plan.ended(end())
    assert {serve(found, "m") for _ in range(6)} == {second}, "the other one is out of choice"


def test_one_that_is_out_is_tried_when_nothing_else_is_left() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.failed(Failure.CONNECT, False, 0.0), Wait)
    assert name_of(plan.next(0.1)) == "a@h"
    problem = plan.failed(Failure.CONNECT, False, 0.1)
    assert isinstance(problem, Problem) and problem.status == 502
    plan.ended(end(Outcome.UNREACHABLE, 502))
    assert serve(found, "m") == "a@h"
    assert not found.fitness.out, "its answer brought it back"


def test_backoff_only_where_there_is_no_other() -> None:
    config = Config(retry=Retry(attempts_per_target=3))
    found = brain(service("a@h", "m"), service("b@h", "m"), config=config)
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.failed(Failure.CLOSED, True, 0.0), Attempt)
    wait = plan.failed(Failure.CLOSED, True, 0.0)
    assert isinstance(wait, Wait)
    assert 0.1 <= wait.seconds <= 0.2, "100·n ms with jitter"
    assert isinstance(plan.next(0.2), Attempt)
    plan.ended(end(Outcome.CANCELLED, 499))
    assert in_flight(found) == 0


def test_at_most_two_attempts_per_target_and_six_in_all() -> None:
    services = [service(f"s{n}@h", "m") for n in range(10)]
    for config, most in (
        (Config(), 2),
        (Config(retry=Retry(attempts_per_target=10)), 6),
    ):
        found = brain(*services, config=config)
        plan = begin(found, "m")
        plan.next(0.0)
        attempts = 1
        while isinstance(plan.failed(Failure.CLOSED, True, 0.0), Attempt):
            attempts += 1
        assert attempts == most
        assert len(set(plan.tried)) == most, "never one twice while another is left"


@pytest.mark.parametrize(
    ("method", "path", "retried"),
    [
        ("POST", "/v1/chat/completions", True),
        ("GET", "/props", True),
        ("POST", "/api/pull", False),
        ("DELETE", "/api/delete", False),
    ],
)
def test_after_bytes_were_sent_only_what_may_run_twice(
    method: str, path: str, retried: bool
) -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m", method=method, path=path)
    plan.next(0.0)
    step = plan.failed(Failure.CLOSED, True, 0.0)
    assert isinstance(step, Attempt) is retried


def test_before_bytes_were_sent_anything_is_retried() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m", path="/api/pull")
    plan.next(0.0)
    assert isinstance(plan.failed(Failure.CONNECT, False, 0.0), Attempt)


def test_an_idle_race_costs_no_attempt_and_asks_the_same_once() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m")
    first = plan.next(0.0)
    again = plan.failed(Failure.REUSED_CLOSED, True, 0.0)
    assert isinstance(first, Attempt) and isinstance(again, Attempt)
    assert again.upstream is first.upstream and again.number == 1
    other = plan.failed(Failure.REUSED_CLOSED, True, 0.0)
    assert isinstance(other, Attempt) and other.upstream is not first.upstream
    plan.ended(end())
    assert in_flight(found) == 0


def test_slow_is_retried_once_and_elsewhere() -> None:
    config = Config(retry=Retry(attempts_per_target=5))
    found = brain(*(service(f"s{n}@h", "m") for n in range(5)), config=config)
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.failed(Failure.NO_ANSWER, True, 60.0), Attempt)
    last = plan.failed(Failure.NO_ANSWER, True, 120.0)
    assert isinstance(last, Problem) and last.status == 504
    alone = begin(brain(service("a@h", "m")), "m")
    alone.next(0.0)
    assert isinstance(alone.failed(Failure.NO_ANSWER, True, 60.0), Problem)


def test_a_broken_answer_without_another_attempt_is_passed_on() -> None:
    config = Config(retry=Retry(attempts_per_target=1))
    found = brain(service("a@h", "m"), service("b@h", "m"), config=config)
    plan = begin(found, "m")
    plan.next(0.0)
    assert plan.answered(500, None, 0.0) is None
    plan.ended(end(Outcome.BROKEN, 500))
    assert in_flight(found) == 0


def test_broken_answers_are_retried_from_the_budget_and_unreachable_is_not() -> None:
    config = Config(retry=Retry(budget_percent=0, budget_floor_per_s=1))
    found = brain(service("a@h", "m"), service("b@h", "m"), config=config)

    def broken() -> bool:
        plan = begin(found, "m")
        plan.next(0.0)
        retried = plan.answered(500, None, 0.0) is not None
        plan.answered(200, None, 0.0)
        plan.ended(end())
        return retried

    assert [broken(), broken()] == [True, False]
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.failed(Failure.CLOSED, True, 0.0), Attempt)


# --- whose fault ----------------------------------------------------------------------------------


def test_when_a_second_upstream_breaks_too_it_is_the_request() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    for _ in range(10):
        plan = begin(found, "m")
        plan.next(0.0)
        assert isinstance(plan.answered(500, None, 0.0), Attempt)
        assert plan.answered(500, None, 0.0) is None
        plan.ended(end(Outcome.BROKEN, 500))
    assert not found.fitness.out, "one poisonous request, ten times, and nobody is blamed"


def test_when_the_second_upstream_answers_the_first_is_blamed() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    blamed = None
    for _ in range(3):
        plan = begin(found, "m")
        first = plan.next(0.0)
        assert isinstance(first, Attempt)
        if first.upstream.name == "b@h":
            plan.answered(200, None, 0.0)
            plan.ended(end())
            continue
        blamed = first.upstream
        plan.answered(500, None, 0.0)
        plan.answered(200, None, 0.0)
        plan.ended(end())
    assert blamed is not None
    node = found.table.upstreams["a@h"].node
    assert node.failures == 2


def test_a_lone_engine_that_breaks_three_times_is_out_and_still_tried() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.answered(500, None, 0.0), Wait)
    plan.next(0.1)
    assert plan.answered(500, None, 0.1) is None
    plan.ended(end(Outcome.BROKEN, 500))
    assert found.table.upstreams["a@h"].node.failures == 2
    assert serve(found, "m") == "a@h"


def test_400s_blame_nobody() -> None:
    found = brain(service("a@h", "m"))
    for _ in range(10):
        plan = begin(found, "m")
        plan.next(0.0)
        assert plan.answered(400, None, 0.0) is None
        plan.ended(end(Outcome.CLIENT, 400))
    assert not found.fitness.out
    assert found.table.upstreams["a@h"].node.failures == 0


def test_a_client_that_leaves_blames_nobody() -> None:
    found = brain(service("a@h", "m"))
    for _ in range(5):
        plan = begin(found, "m")
        plan.next(0.0)
        plan.ended(end(Outcome.CANCELLED, 499))
    assert not found.fitness.out
    assert in_flight(found) == 0


# --- backpressure ---------------------------------------------------------------------------------


def test_429_goes_elsewhere_and_the_upstream_rests_as_long_as_it_said() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m", now=100.0)
    first = name_of(plan.next(100.0))
    second = name_of(plan.answered(429, 30.0, 100.0))
    plan.answered(200, None, 100.0)
    plan.ended(end(now=100.0))
    assert {serve(found, "m", now=129.0) for _ in range(6)} == {second}
    assert first in {serve(found, "m", now=131.0) for _ in range(6)}


def test_429_without_retry_after_rests_a_minute() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m", now=0.0)
    first = name_of(plan.next(0.0))
    plan.answered(429, None, 0.0)
    plan.ended(end())
    assert found.table.upstreams[first].node.rest_until == 60.0


def test_when_all_rest_they_are_asked_rather_than_refused() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    assert plan.answered(429, 30.0, 0.0) is None, "nobody else: its 429 is passed on"
    plan.ended(end(Outcome.BACKPRESSURE, 429))
    assert serve(found, "m", now=1.0) == "a@h"


def test_backpressure_feeds_no_health() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    for _ in range(5):
        plan = begin(found, "m")
        plan.next(0.0)
        plan.answered(503, 1.0, 0.0)
        plan.answered(503, 1.0, 0.0)
        plan.ended(end(Outcome.BACKPRESSURE, 503))
    assert not found.fitness.out


# --- the table ------------------------------------------------------------------------------------


def test_a_put_resets_neither_load_nor_health_but_a_new_life_does() -> None:
    found = brain(service("a@h", "m", instance_id="1"))
    plan = begin(found, "m")
    plan.next(0.0)
    node = found.table.upstreams["a@h"].node
    node.failed()
    found.apply({"a@h": service("a@h", "m", "n", instance_id="1", weight=3.0)}, fresh=True)
    assert found.table.upstreams["a@h"].node is node
    assert node.in_flight == 1 and node.failures == 1
    found.apply({"a@h": service("a@h", "m", instance_id="2")}, fresh=True)
    fresh = found.table.upstreams["a@h"].node
    assert fresh is not node and fresh.in_flight == 0
    plan.ended(end())
    assert node.in_flight == 0 and in_flight(found) == 0


def test_a_fresh_put_gives_one_set_aside_another_chance() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m")
    first = name_of(plan.next(0.0))
    plan.failed(Failure.CONNECT, False, 0.0)
    plan.ended(end())
    found.apply({first: service(first, "m")})
    assert found.table.upstreams[first].node.out, "a repetition says nothing new"
    found.apply({first: service(first, "m", revision=9)}, fresh=True)
    assert not found.table.upstreams[first].node.out


def test_suspects_serve_only_where_nothing_fit_is_left() -> None:
    found = brain(
        service("a@h", "m"),
        service("s@h", "m", is_healthy=False, health_status=Health.SUSPECT),
    )
    assert {serve(found, "m") for _ in range(4)} == {"a@h"}
    found.apply({"a@h": None})
    assert serve(found, "m") == "s@h"


def test_what_the_fleet_holds_back_is_suspect_too() -> None:
    found = brain(service("a@h", "m"))
    found.apply({"s@h": service("s@h", "m")}, suspect=["s@h"])
    assert {serve(found, "m") for _ in range(4)} == {"a@h"}


def test_an_upstream_removed_between_attempts_is_not_asked() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    plan = begin(found, "m")
    first = name_of(plan.next(0.0))
    other = "b@h" if first == "a@h" else "a@h"
    found.apply({other: None})
    assert isinstance(plan.failed(Failure.CLOSED, True, 0.0), Wait)
    found.apply({first: None})
    assert isinstance(plan.next(0.1), Problem)
    plan.ended(end(Outcome.UNREACHABLE, 502))
    assert in_flight(found) == 0


# --- affinity and cache type ----------------------------------------------------------------------


def test_same_prompt_cache_key_same_service() -> None:
    found = brain(*(service(f"s{n}@h", "m") for n in range(5)))
    envelope = read_json(b'{"model": "m", "prompt_cache_key": "ana"}')
    assert len({serve(found, envelope=envelope) for _ in range(10)}) == 1


def test_the_order_of_keys() -> None:
    config = Config(affinity=Affinity(user=True, client_address=True))
    found = brain(service("a@h", "m"), config=config)

    def key(envelope: Envelope, **headers: str) -> str | None:
        plan = begin(found, envelope=envelope, headers=headers)
        plan.ended(end())
        return plan.key

    whole = Envelope("m", affinity_key="body", user="user")
    headers = {"x-session-id": "session", "x-forwarded-for": "1.2.3.4, 5.6.7.8", "user-agent": "ua"}
    assert key(whole, **headers) == "body"
    assert key(Envelope("m", user="user"), **headers) == "session"
    del headers["x-session-id"]
    assert key(Envelope("m", user="user"), **headers) == "user"
    assert key(Envelope("m"), **headers) == "1.2.3.4 ua"


def test_by_default_neither_user_nor_address_bind() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, envelope=Envelope("m", user="user"), headers={"user-agent": "ua"})
    assert plan.key is None


def test_small_prompt_paged_large_static() -> None:
    found = brain(
        service("paged@h", "m", metadata={"cache_type": "paged"}),
        service("static@h", "m", metadata={"cache_type": "static"}),
    )
    small = read_json(b'{"model": "m", "prompt": "hi"}')
    large = read_json(b'{"model": "m", "prompt": "' + b"x" * 51_201 + b'"}')
    assert {serve(found, envelope=small) for _ in range(4)} == {"paged@h"}
    assert {serve(found, envelope=large) for _ in range(4)} == {"static@h"}
    found.apply({"static@h": None})
    assert serve(found, envelope=large) == "paged@h", "a preference, never a reason to fail"


def test_affinity_outranks_the_cache_type() -> None:
    found = brain(
        service("paged@h", "m", metadata={"cache_type": "paged"}),
        service("static@h", "m", metadata={"cache_type": "static"}),
    )
    served = {
        serve(found, envelope=Envelope("m", affinity_key=str(key), text=b"{}")) for key in range(40)
    }
    assert served == {"paged@h", "static@h"}


def test_states_of_models_that_are_gone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.brain.STATES_MAX", 10)
    found = brain()
    for at in range(50):
        found.apply({"a@h": service("a@h", f"m{at}")})
        serve(found, f"m{at}")
    assert len(found.models) <= 10
    assert totals(found.states()).total == 50, "what they counted stays"


def test_names_that_nothing_offers_get_no_state() -> None:
    found = brain(service("a@h", "m"))
    for at in range(100):
        plan = begin(found, f"nobody-{at}")
        plan.next(0.0)
        plan.ended(end(Outcome.REFUSED, 503))
    assert not found.models


def test_a_reported_load_lives_as_long_as_its_service() -> None:
    found = brain(service("a@h", "m", instance_id="1"))
    found.reported({"a@h": {"in_flight": 3}, "stranger@h": {"in_flight": 9}})
    loads = views.stats(found, now=1, started=0).services
    assert {name: one.load for name, one in loads.items()} == {"a@h": {"in_flight": 3}}
    found.apply({"a@h": service("a@h", "m", instance_id="2")})
    assert views.stats(found, now=1, started=0).services["a@h"].load == {}
