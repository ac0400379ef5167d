"""Targets, fallbacks, breakers and panic, on a Brain with numbers."""

from collections.abc import Callable

import pytest

from common.wire.registry import Service
from router.brain import Brain
from router.breaker import State
from router.config import Breaker, Config, Retry
from router.endpoint import Key
from router.envelope import read_json
from router.errors import Problem, RequestError
from router.hooks import AFTER_RESPONSE, BEFORE_ROUTE, ON_ERROR, Hook, Hooks, Result
from router.lives import engine
from router.named import Model, ModelTimeouts, Pattern, Provider
from router.nodes import Node
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Attempt, Wait
from router.stats import totals
from tests.router.making import begin, brain, end, in_flight, name_of, serve, service

CHAIN = Config(models={"big": Model(fallbacks=("mid", "small"))}, expect=("big", "mid", "small"))


def _fleet(config: Config = CHAIN, *names: str):  # type: ignore[no-untyped-def]
    return brain(*(service(f"{n}@h", n) for n in names or ("big", "mid", "small")), config=config)


def _run(plan: Plan, *fates: Failure | int) -> list[str]:
    """Who was asked, until an answer passes or the last word is said."""
    asked = []
    now = 0.0
    step = plan.next(now)
    for fate in fates:
        while isinstance(step, Wait):
            now += step.seconds
            step = plan.next(now)
        if not isinstance(step, Attempt):
            break
        asked.append(name_of(step))
        if isinstance(fate, Failure):
            step = plan.failed(fate, True, now)
        else:
            another = plan.answered(fate, None, now)
            if another is None:
                return asked
            step = another
    return asked


def test_a_chain_really_runs() -> None:
    found = _fleet()
    plan = begin(found, "big")
    asked = _run(plan, 500, 500, 500, 500, 200)
    assert asked == ["big@h", "big@h", "mid@h", "mid@h", "small@h"]
    assert plan.answer_model == "small"
    assert b"x-creche-fallback: 1" in plan.answer_head
    plan.ended(end())
    assert in_flight(found) == 0
    assert found.models["big"].fallbacks == 1


def test_six_attempts_in_all() -> None:
    names = [f"m{at}" for at in range(5)]
    config = Config(models={"m0": Model(fallbacks=tuple(names[1:]))}, expect=tuple(names))
    found = brain(
        *(service(f"{side}-{name}@h", name) for name in names for side in ("a", "b")),
        config=config,
    )
    plan = begin(found, "m0")
    assert len(_run(plan, *[500] * 20)) == 6
    plan.ended(end(Outcome.BROKEN, 500))
    assert in_flight(found) == 0


def test_a_target_without_candidates_costs_no_attempt() -> None:
    found = _fleet(CHAIN, "small")
    plan = begin(found, "big")
    assert _run(plan, 200) == ["small@h"]
    assert plan.attempts == 1
    plan.ended(end())


def test_an_upstream_that_refuses_connections_is_left_for_the_fallback_at_once() -> None:
    found = _fleet()
    plan = begin(found, "big")
    assert _run(plan, Failure.CONNECT, 200) == ["big@h", "mid@h"]
    plan.ended(end())
    after = begin(found, "big")
    assert _run(after, 200) == ["mid@h"], "what is set aside is asked when nothing else is left"
    after.ended(end())


def test_a_429_goes_to_the_fallback_and_the_resting_one_serves_when_nothing_else_is_left() -> None:
    found = _fleet(CHAIN, "big", "mid")
    plan = begin(found, "big")
    assert _run(plan, 429, 200) == ["big@h", "mid@h"]
    plan.ended(end())
    found.apply({"mid@h": None})
    again = begin(found, "big")
    assert _run(again, 200) == ["big@h"]
    again.ended(end())


def test_a_chain_of_the_dead_is_gone_through_once_more_as_a_last_resort() -> None:
    found = _fleet()
    plan = begin(found, "big")
    fates = [Failure.CONNECT] * 6
    assert _run(plan, *fates) == ["big@h", "mid@h", "small@h", "big@h", "mid@h", "small@h"]
    assert plan.problem is not None and plan.problem.status == 502
    plan.ended(end(Outcome.UNREACHABLE, 502))
    assert in_flight(found) == 0


def test_the_last_answer_of_an_upstream_passes_when_the_chain_is_at_its_end() -> None:
    found = _fleet(CHAIN, "big")
    plan = begin(found, "big")
    assert isinstance(plan.next(0.0), Attempt)
    assert isinstance(plan.answered(500, None, 0.0), Wait)
    assert isinstance(plan.next(0.2), Attempt)
    assert plan.answered(500, None, 0.2) is None
    plan.ended(end(Outcome.BROKEN, 500))


def test_a_terminal_chain_ends_where_it_is() -> None:
    config = Config(
        models={"big": Model(fallbacks=())}, default_fallbacks=("small",), expect=("big", "small")
    )
    found = _fleet(config, "small")
    problem = begin(found, "big").next(0.0)
    assert isinstance(problem, Problem) and problem.status == 503


def test_default_fallbacks_serve_every_model_but_themselves() -> None:
    config = Config(default_fallbacks=("small",), expect=("big", "small"))
    found = _fleet(config, "small")
    assert serve(found, "big") == "small@h"
    assert serve(found, "small") == "small@h"


def test_an_alias_is_asked_by_the_name_its_upstream_knows() -> None:
    config = Config(models={"code": Model(backend_model="big")})
    found = _fleet(config, "big")
    plan = begin(found, "code")
    step = plan.next(0.0)
    assert name_of(step) == "big@h"
    assert plan.answer_model == "big"
    plan.ended(end())


def test_a_model_has_time_limits_of_its_own() -> None:
    config = Config(models={"big": Model(timeouts=ModelTimeouts(first_event_s=7, total_s=9))})
    step = begin(_fleet(config, "big"), "big").next(0.0)
    assert isinstance(step, Attempt)
    assert (step.first_event_s, step.chunk_s, step.total_s) == (7, None, 9)


# --- breakers -------------------------------------------------------------------------------------


def _break(found, name: str, times: int, now: float = 0.0) -> None:  # type: ignore[no-untyped-def]
    node = found.table.upstreams[name].node
    for _ in range(times):
        found.fitness.failed(node, node.breaker.life, now)


def test_five_failures_open_a_breaker_and_thirty_seconds_later_one_trial_goes_through() -> None:
    found = brain(service("a@h", "m"), config=Config(retry=Retry(attempts_per_target=1)))
    for _ in range(5):
        plan = begin(found, "m")
        plan.next(0.0)
        plan.failed(Failure.CLOSED, True, 0.0)
        plan.ended(end(Outcome.UNREACHABLE, 502, now=0.0))
    refused = begin(found, "m", now=29.9)
    assert isinstance(refused.next(29.9), Problem)
    refused.ended(end(Outcome.REFUSED, 503, now=29.9))
    trial = begin(found, "m", now=30.0)
    assert name_of(trial.next(30.0)) == "a@h"
    second = begin(found, "m", now=30.0)
    assert isinstance(second.next(30.0), Problem), "one trial at a time"
    second.ended(end(Outcome.REFUSED, 503, now=30.0))
    trial.ended(end(now=31.0))
    assert serve(found, "m", now=31.0) == "a@h"
    assert serve(found, "m", now=31.0) == "a@h"
    assert found.table.upstreams["a@h"].node.breaker.state is State.CLOSED


def test_a_trial_whose_client_left_is_given_to_the_next() -> None:
    found = brain(service("a@h", "m"))
    _break(found, "a@h", 5)
    trial = begin(found, "m", now=30.0)
    trial.next(30.0)
    trial.ended(end(Outcome.CANCELLED, 499, now=30.1))
    assert serve(found, "m", now=30.2) == "a@h"


def test_an_open_breaker_sends_its_requests_to_the_chain() -> None:
    found = _fleet()
    _break(found, "big@h", 5)
    assert serve(found, "big", now=1.0) == "mid@h"


def test_a_put_resets_no_breaker_and_a_new_life_does() -> None:
    found = brain(service("a@h", "m", instance_id="one"))
    _break(found, "a@h", 5)
    found.apply({"a@h": service("a@h", "m", "n", instance_id="one")}, fresh=True)
    assert found.table.upstreams["a@h"].node.breaker.state is State.OPEN
    found.apply({"a@h": service("a@h", "m", instance_id="two")}, fresh=True)
    assert found.table.upstreams["a@h"].node.breaker.state is State.CLOSED


# --- panic ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstreams", "tripped", "panics"), [(4, 3, True), (4, 2, False), (3, 3, False)]
)
def test_panic_where_more_than_half_of_at_least_four_are_out(
    upstreams: int, tripped: int, panics: bool
) -> None:
    names = [f"{letter}@h" for letter in "abcd"[:upstreams]]
    found = brain(*(service(name, "m") for name in names))
    for name in names[:tripped]:
        _break(found, name, 5)
    served = set()
    for _ in range(20):
        plan = begin(found, "m", now=1.0)
        step = plan.next(1.0)
        if isinstance(step, Attempt):
            served.add(name_of(step))
        plan.ended(end(now=1.0))
    assert served == (set(names) if panics else set(names[tripped:]))
    assert bool(found.panicking(1.0)) is panics


def test_no_panic_while_a_fallback_is_left() -> None:
    config = Config(models={"m": Model(fallbacks=("other",))}, expect=("other",))
    names = [f"{letter}@h" for letter in "abcd"]
    found = brain(*(service(name, "m") for name in names), service("o@h", "other"), config=config)
    for name in names:
        _break(found, name, 5)
    assert serve(found, "m", now=1.0) == "o@h"


def test_error_cooldown_rests_what_errs_often() -> None:
    retry = Retry(error_cooldown=3, attempts_per_target=1)
    config = Config(retry=retry, breaker=Breaker(failures=100))
    found = brain(service("a@h", "m"), service("b@h", "m"), config=config)
    node = found.table.upstreams["a@h"].node
    for now in (0.0, 10.0, 20.0):
        found.fitness.failed(node, node.breaker.life, now)
        found.fitness.succeeded(node, node.breaker.life)
    assert node.rest_until == 320.0
    assert {serve(found, "m", now=21.0) for _ in range(6)} == {"b@h"}


def test_errors_far_apart_rest_nobody() -> None:
    config = Config(retry=Retry(error_cooldown=3))
    found = brain(service("a@h", "m"), config=config)
    node = found.table.upstreams["a@h"].node
    for now in (0.0, 61.0, 122.0, 183.0):
        found.fitness.failed(node, node.breaker.life, now)
    assert node.rest_until == 0.0


# --- hooks and explanations on real requests ------------------------------------------------------


def _hook(group: str, function: Callable[..., object]) -> Hook:
    return Hook(group, "mine", function, lambda: 0.0, lambda report: None)


def test_a_hook_sends_a_request_to_another_model_and_the_body_says_so() -> None:
    hooks = Hooks(before_route=(_hook(BEFORE_ROUTE, lambda request: {"model": "small"}),))
    found = Brain(CHAIN, lambda: 0.5, hooks=hooks)
    found.apply({f"{name}@h": service(f"{name}@h", name) for name in ("big", "small")})
    plan = begin(found, envelope=read_json(b'{"model":"big"}'))
    step = plan.next(0.0)
    assert name_of(step) == "small@h"
    assert plan.answer_model == "small"
    assert isinstance(step, Attempt) and step.edit is not None and step.edit.text == b'"small"'
    plan.ended(end())


def test_a_hook_refuses_a_request_and_nothing_was_taken() -> None:
    hooks = Hooks(before_route=(_hook(BEFORE_ROUTE, lambda request: (403, "not you")),))
    found = Brain(Config(), lambda: 0.5, hooks=hooks)
    with pytest.raises(RequestError) as raised:
        begin(found, "big")
    assert raised.value.problem.status == 403
    assert in_flight(found) == 0


def test_hooks_hear_of_every_end() -> None:
    heard: list[tuple[str, Result]] = []
    hooks = Hooks(
        after_response=(
            _hook(AFTER_RESPONSE, lambda request, result: heard.append(("ok", result))),
        ),
        on_error=(_hook(ON_ERROR, lambda request, result: heard.append(("error", result))),),
    )
    found = Brain(Config(), lambda: 0.5, hooks=hooks)
    found.apply({"a@h": service("a@h", "m")})
    serve(found, "m")
    plan = begin(found, "nothing")
    plan.next(0.0)
    plan.ended(end(Outcome.REFUSED, 503))
    assert [(where, result.outcome) for where, result in heard] == [
        ("ok", "ok"),
        ("error", "refused"),
    ]


def test_an_answer_explains_itself_to_whoever_may_ask() -> None:
    found = _fleet()
    plan = begin(found, "big", headers={"x-creche-explain": "1"})
    plan.next(0.0)
    assert plan.answer_head == (
        b"x-creche-explain: exact; target=big; strategy=least_requests; candidates=1; open=0; "
        b"refused=0; in_flight=1\r\n"
    )
    plan.ended(end())
    found.may_explain = lambda headers: False
    silent = begin(found, "big", headers={"x-creche-explain": "1"})
    silent.next(0.0)
    assert silent.answer_head == b""
    silent.ended(end())


# --- the router's own key, and names without end --------------------------------------------------


def _keyed(name: str) -> Node:
    return Node(name, "127.0.0.1", 1, key=Key("Authorization", "Bearer secret"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_provider_that_refuses_the_routers_key_is_left_for_another(status: int) -> None:
    def node(record: Service, config: Config) -> Node:
        return _keyed(record.name) if record.name == "bad" else engine(record, config)

    found = Brain(Config(), lambda: 0.5, node=node)
    found.apply({name: service(name, "m") for name in ("bad", "good")})
    denied = 0
    for _ in range(20):
        found.tick()
        plan = begin(found, "m")
        if name_of(plan.next(0.0)) == "bad":
            denied += 1
            assert name_of(plan.answered(status, None, 0.0)) == "good"
        plan.answered(200, None, 0.0)
        plan.ended(end())
    node_ = found.table.upstreams["bad"].node
    assert denied == 3, "then it is out of choice"
    assert (node_.error_count, node_.outcomes[Outcome.DENIED]) == (3, 3)
    assert in_flight(found) == 0


def test_the_last_refusal_of_the_routers_key_counts_as_failed_and_not_as_the_clients() -> None:
    found = Brain(Config(), lambda: 0.5, node=lambda record, config: _keyed(record.name))
    found.apply({"bad": service("bad", "m")})
    plan = begin(found, "m")
    plan.next(0.0)
    step = plan.answered(401, None, 0.0)
    while step is not None:
        assert isinstance(step, Wait | Attempt)
        step = plan.next(1.0) if isinstance(step, Wait) else plan.answered(401, None, 1.0)
    plan.ended(end(Outcome.CLIENT, 401))
    summed = totals(found.states())
    assert (summed.failed, summed.client_errors) == (1, 0)


def test_an_engines_own_401_is_the_clients() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    assert plan.answered(401, None, 0.0) is None
    plan.ended(end(Outcome.CLIENT, 401))
    assert totals(found.states()).client_errors == 1


def test_names_that_clients_make_up_for_a_pattern_are_counted_under_it() -> None:
    config = Config(
        providers={"lab": Provider(type="vllm", base_url="http://127.0.0.1:9/v1")},
        patterns=(Pattern(match="lab/(.+)", provider="lab", rewrite="\\1"),),
    )
    found = Brain(config, lambda: 0.5)
    found.apply({"lab": service("lab")}, source="provider")
    for at in range(50):
        plan = begin(found, f"lab/name-{at}")
        assert name_of(plan.next(0.0)) == "lab"
        plan.ended(end())
    assert list(found.models) == ["lab/(.+)"]
    assert found.models["lab/(.+)"].requests.count == 50


def test_a_refusal_explains_itself_too() -> None:
    found = brain(service("a@h", "m", metadata={"privacy": "public"}))
    plan = begin(found, "m", headers={"x-creche-explain": "1"})
    problem = plan.next(0.0)
    assert isinstance(problem, Problem)
    assert ("x-creche-explain", "exact; targets=m; a@h: privacy public, wanted internal") in (
        problem.headers
    )
    plan.ended(end(Outcome.REFUSED, 503))
