"""Limits of models and providers, on a Brain with numbers: who is let through, what is counted, and
what a client is told."""

from typing import Any

import pytest

from router.brain import Brain
from router.config import Config, Queue, Retry
from router.envelope import Envelope, read_json
from router.errors import Problem
from router.limits import Limiter
from router.named import Limits, Model
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, End, Wait
from tests.router.making import begin, brain, cloud, end, in_flight, name_of, service, with_file

ENGINES = ("big", "small")
#: What is refused is told at once.
NO_QUEUE = Queue(waiting_max=0)


def _fleet(*names: str, attempts_per_target: int = 2, **models: Model) -> Brain:
    retry = Retry(attempts_per_target=attempts_per_target)
    config = Config(models=models, expect=ENGINES, retry=retry, queue=NO_QUEUE)
    return brain(*(service(f"{name}@h", name) for name in names or ENGINES), config=config)


def _served(found: Brain, model: str = "big", now: float = 0.0, **more: Any) -> str:
    """Who was asked; the request goes on."""
    return name_of(begin(found, model, now=now, **more).next(now))


def _refused(found: Brain, model: str = "big", now: float = 0.0, **more: Any) -> Problem:
    plan = begin(found, model, now=now, **more)
    step = plan.next(now)
    assert isinstance(step, Problem), step
    plan.ended(end(Outcome.REFUSED, step.status, now))
    return step


def _prompt(tokens: int, model: str = "big") -> Envelope:
    return read_json(b'{"model": "%b", "prompt": "%b"}' % (model.encode(), b"x" * 4 * tokens))


def _used(tokens: int, now: float = 1.0) -> End:
    found = end(now=now)
    found.tokens_in, found.tokens_out = tokens, 0
    return found


def _limiter(found: Brain, provider: str) -> Limiter:
    limiter = found.table.upstreams[provider].limiter
    assert limiter is not None
    return limiter


# --- of models ------------------------------------------------------------------------------------


def test_one_request_too_many_is_told_when_to_come_back() -> None:
    found = _fleet(big=Model(limits=Limits(rpm=2)))
    for _ in range(2):
        plan = begin(found, "big")
        plan.next(0.0)
        plan.ended(end(now=0.0))
    problem = _refused(found)
    assert problem.status == 429
    assert problem.code == "rate_limit_exceeded"
    assert problem.type == "requests"
    assert problem.retry_after_s == 30
    assert problem.message == (
        "Rate limit reached for model 'big' on requests per minute: limit 2, 0 left, 1 asked for. "
        "Try again in 30 s"
    )
    assert dict(problem.headers) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "retry-after-ms": "30000",
    }
    assert _served(found, now=30.0) == "big@h", "as it was told"
    assert _refused(found, now=30.0).status == 429


def test_an_answer_says_what_is_left() -> None:
    found = _fleet(big=Model(limits=Limits(rpm=60, tpm=1_000)))
    plan = begin(found, envelope=_prompt(100))
    plan.next(0.0)
    lines = plan.answer_head.decode().splitlines()
    assert lines == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-reset-requests: 1s",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 900",
        "x-ratelimit-reset-tokens: 6s",
    ]


def test_a_model_without_limits_says_nothing_of_them() -> None:
    found = _fleet()
    plan = begin(found, "big")
    plan.next(0.0)
    assert plan.answer_head == b""


def test_tokens_count_as_estimated_while_a_request_runs_and_as_used_once_it_ended() -> None:
    found = _fleet(big=Model(limits=Limits(tpm=1_000)))
    first = begin(found, envelope=_prompt(600))
    first.next(0.0)
    assert _refused(found, envelope=_prompt(600)).type == "tokens"
    first.ended(_used(100, now=0.0))
    second = begin(found, envelope=_prompt(600))
    assert isinstance(second.next(0.0), Attempt), "the first used less than was thought"
    second.ended(_used(900, now=0.0))
    assert _refused(found, envelope=_prompt(10)).status == 429, "the second more"


def test_what_an_engine_does_not_tell_is_taken_from_what_it_said() -> None:
    """A client chooses whether its stream tells usage; a limit it may not choose away."""
    found = _fleet(big=Model(limits=Limits(tpm=1_000)))
    plan = begin(found, "big", now=0.0, envelope=_prompt(10))
    plan.next(0.0)
    ended = end(now=0.0)
    ended.events, ended.upstream_spoke = 900, True
    plan.ended(ended)
    assert _refused(found, envelope=_prompt(100)).type == "tokens"
    assert _served(found, envelope=_prompt(90)) == "big@h"


def test_a_request_that_can_never_pass_is_told_so() -> None:
    found = _fleet(big=Model(limits=Limits(tpm=100)))
    problem = _refused(found, envelope=_prompt(500))
    assert problem.should_retry is False
    assert problem.retry_after_s is None


def test_only_so_many_run_at_once_and_each_end_lets_another_in() -> None:
    found = _fleet(big=Model(limits=Limits(max_concurrency=2)))
    plans = [begin(found, "big") for _ in range(2)]
    for plan in plans:
        plan.next(0.0)
    assert _refused(found).message.startswith(
        "Rate limit reached for model 'big': 2 requests at once are allowed"
    )
    for plan, outcome in zip(plans, (Outcome.CANCELLED, Outcome.CUT), strict=True):
        plan.ended(end(outcome, 200))
        assert _served(found) == "big@h"


def test_a_model_over_its_limit_is_answered_by_its_chain() -> None:
    found = _fleet(big=Model(limits=Limits(max_concurrency=1), fallbacks=("small",)))
    assert [_served(found), _served(found)] == ["big@h", "small@h"]


def test_the_tries_of_one_request_count_once() -> None:
    found = _fleet(attempts_per_target=3, big=Model(limits=Limits(rpm=60)))
    plan = begin(found, "big")
    plan.next(0.0)
    for _ in range(2):
        assert isinstance(plan.answered(500, None, 0.0), Wait)
        assert isinstance(plan.next(0.0), Attempt)
    assert b"remaining-requests: 59" in plan.answer_head
    plan.ended(end(Outcome.BROKEN, 500, now=0.0))
    another = begin(found, "big")
    another.next(0.0)
    assert b"remaining-requests: 58" in another.answer_head


def test_an_entry_with_several_targets_counts_a_request_once_and_never_stands_in_its_way() -> None:
    code = Model(targets={"big": 9, "small": 1}, limits=Limits(rpm=60, max_concurrency=1))
    found = _fleet(code=code)
    plan = begin(found, "code")
    first = name_of(plan.next(0.0))
    other = {"big@h": "small@h", "small@h": "big@h"}[first]
    assert name_of(plan.failed(Failure.CONNECT, False, 0.0)) == other
    assert b"remaining-requests: 59" in plan.answer_head
    assert _refused(found, "code").status == 429, "it runs still"
    plan.ended(end(now=0.0))
    assert _served(found, "code") == other


def test_a_place_comes_back_when_the_request_has_gone_on_to_the_chain() -> None:
    big = Model(limits=Limits(max_concurrency=1), fallbacks=("small",))
    found = _fleet("big", "small", big=big)
    plan = begin(found, "big")
    assert name_of(plan.next(0.0)) == "big@h"
    assert name_of(plan.answered(429, 1.0, 0.0)) == "small@h"
    assert b"x-ratelimit" not in plan.answer_head, "the limits are those of who answers"
    assert _served(found, now=2.0) == "big@h"


def test_what_is_used_counts_where_it_was_used() -> None:
    big = Model(limits=Limits(tpm=1_000), fallbacks=("small",))
    found = _fleet(big=big, small=Model(limits=Limits(tpm=1_000)))
    plan = begin(found, envelope=_prompt(10))
    plan.next(0.0)
    assert name_of(plan.failed(Failure.CONNECT, False, 0.0)) == "small@h"
    plan.ended(_used(900, now=0.0))
    assert _refused(found, "small", envelope=_prompt(101, "small")).status == 429
    assert _served(found, envelope=_prompt(100, "small")) == "small@h"
    found.apply({"big@h": service("big@h", "big", instance_id="again")})
    assert _served(found, envelope=_prompt(990)) == "big@h", "it has the estimate of 10 alone"


def test_nothing_is_charged_where_nobody_could_be_asked() -> None:
    big = Model(limits=Limits(rpm=1), fallbacks=("small",))
    found = _fleet("small", big=big)
    assert _served(found) == "small@h"
    found.apply({"big@h": service("big@h", "big")})
    assert _served(found) == "big@h"


def test_nothing_is_charged_where_the_retry_budget_forbids_to_ask() -> None:
    small = Model(limits=Limits(rpm=1))
    config = Config(
        models={"big": Model(fallbacks=("small",)), "small": small},
        expect=ENGINES,
        queue=NO_QUEUE,
        retry=Retry(budget_percent=0, budget_floor_per_s=0, attempts_per_target=1),
    )
    found = brain(*(service(f"{name}@h", name) for name in ENGINES), config=config)
    plan = begin(found, "big")
    plan.next(0.0)
    assert plan.answered(500, None, 0.0) is None
    assert plan.target is not None and plan.target.name == "big", "whose answer it is"
    plan.ended(end(Outcome.BROKEN, 500))
    assert _served(found, "small") == "small@h"


def test_limits_on_the_way_hold_all_each_under_its_own_name() -> None:
    found = _fleet(
        code=Model(backend_model="big", limits=Limits(max_concurrency=1)),
        big=Model(limits=Limits(max_concurrency=2)),
    )
    assert _served(found, "code") == "big@h"
    assert _refused(found, "code").status == 429
    assert _served(found, "big") == "big@h"
    assert _refused(found, "big").status == 429


# --- of providers ---------------------------------------------------------------------------------


def _clouds(*, fallbacks: tuple[str, ...] | None = None, **limits: Limits) -> Brain:
    """Providers that have gpt, and an engine with small."""
    config = Config(
        providers={name: cloud(models=("gpt",), limits=one) for name, one in limits.items()},
        models={"gpt": Model(fallbacks=fallbacks)},
        expect=("small",),
        queue=NO_QUEUE,
    )
    return with_file(config, service("small@h", "small"))


ONE = Limits(max_concurrency=1)


def test_a_provider_at_its_limit_is_no_candidate() -> None:
    found = _clouds(one=ONE, two=Limits(max_concurrency=2))
    assert sorted(_served(found, "gpt") for _ in range(3)) == ["one", "two", "two"]
    assert _refused(found, "gpt").status == 429


def test_a_provider_at_its_limit_leaves_requests_to_the_chain() -> None:
    found = _clouds(fallbacks=("small",), one=ONE)
    assert [_served(found, "gpt"), _served(found, "gpt")] == ["one", "small@h"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_providers_place_comes_back_whatever_became_of_the_request(outcome: Outcome) -> None:
    found = _clouds(one=ONE)
    plan = begin(found, "gpt")
    plan.next(0.0)
    assert _limiter(found, "one").in_flight == 1
    plan.ended(end(outcome, 200, now=0.0))
    assert _limiter(found, "one").in_flight == 0
    assert in_flight(found) == 0


@pytest.mark.parametrize("status", [408, 500, 503])
def test_a_provider_with_one_place_is_asked_again_by_the_request_that_has_it(status: int) -> None:
    found = _clouds(one=ONE)
    plan = begin(found, "gpt")
    plan.next(0.0)
    assert isinstance(plan.answered(status, None, 0.0), Wait)
    assert name_of(plan.next(0.1)) == "one"
    assert _limiter(found, "one").in_flight == 1
    plan.ended(end(now=0.2))
    assert _limiter(found, "one").in_flight == 0


def test_a_place_that_another_took_during_a_backoff_is_gone() -> None:
    found = _clouds(one=ONE)
    plan = begin(found, "gpt")
    plan.next(0.0)
    assert isinstance(plan.answered(500, None, 0.0), Wait)
    assert _served(found, "gpt") == "one"
    problem = plan.next(0.1)
    assert isinstance(problem, Problem) and problem.status == 429
    plan.ended(end(Outcome.REFUSED, 429, now=0.1))


def test_a_provider_whose_answer_is_passed_on_keeps_its_place_until_that_ends() -> None:
    found = _clouds(one=ONE)
    plan = begin(found, "gpt")
    plan.next(0.0)
    assert plan.answered(404, None, 0.0) is None
    assert _refused(found, "gpt").status == 429
    plan.ended(end(Outcome.CLIENT, 404))
    assert _limiter(found, "one").in_flight == 0


def test_the_soonest_of_several_limits_is_what_clients_wait_for() -> None:
    found = _clouds(one=Limits(rpm=1), two=ONE, three=Limits(rpm=1))
    assert sorted(_served(found, "gpt") for _ in range(3)) == ["one", "three", "two"]
    assert _refused(found, "gpt").retry_after_s == 1, "a place at two; the others have none for 60"


def test_a_limit_is_told_only_where_it_is_what_stands_in_the_way() -> None:
    found = _fleet("big", big=Model(limits=Limits(rpm=1)))
    assert _served(found) == "big@h"
    found.apply({"big@h": None})
    problem = _refused(found)
    assert (problem.status, problem.code) == (503, "no_healthy_services")


def test_everything_that_was_granted_comes_back() -> None:
    found = _clouds(fallbacks=("small",), one=ONE, two=ONE)
    plans: list[Plan] = []
    for at in range(12):
        plan = begin(found, "gpt")
        step = plan.next(0.0)
        if at % 3 == 1:
            assert isinstance(step, Attempt)
            plan.failed(Failure.CLOSED, True, 0.0)
        elif at % 3 == 2:
            plan.answered(200, None, 0.0)
        plans.append(plan)
    for plan in plans:
        plan.ended(end(Outcome.CANCELLED, 499))
        plan.ended(end(Outcome.OK))
    assert in_flight(found) == 0
    assert {_limiter(found, name).in_flight for name in ("one", "two")} == {0}
