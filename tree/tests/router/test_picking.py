"""Who is picked of those that may serve, where more than the strategy has a say."""

from router.brain import Brain
from router.config import Config, Retry
from router.endpoint import Key
from router.errors import Problem
from router.hooks import BEFORE_ROUTE, Hook, Hooks
from router.named import Model, Rule, When
from router.outcome import Failure, Outcome
from router.seam import Attempt, Wait
from router.stats import totals
from tests.router.making import begin, brain, cloud, end, name_of, serve, service, with_file

NOW = 1.0


def _slow(found: Brain, *names: str) -> None:
    """Slower than the score lets pass, as measured just now."""
    for name in names:
        node = found.table.upstreams[name].node
        node.answers.extend([9.0] * 99)
        node.answered_at = NOW


# --- a strategy that refuses ----------------------------------------------------------------------


def test_where_a_strategy_refuses_all_of_the_best_tier_the_next_is_asked() -> None:
    found = brain(*(service(f"{n}@h", "m") for n in "abc"), config=Config(strategy="score"))
    found.apply({"c@h": service("c@h", "m")}, suspect=["c@h"])
    _slow(found, "a@h", "b@h")
    assert serve(found, "m", now=NOW) == "c@h"


def test_what_a_strategy_refuses_is_no_other_upstream_to_try_first() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"), config=Config(strategy="score"))
    _slow(found, "b@h")
    plan = begin(found, "m", now=NOW)
    assert name_of(plan.next(NOW)) == "a@h"
    assert isinstance(plan.answered(500, None, NOW), Wait)
    assert name_of(plan.next(NOW + 0.2)) == "a@h"
    plan.ended(end(Outcome.BROKEN, 500))


def test_what_a_strategy_refuses_is_left_to_the_chain() -> None:
    config = Config(
        models={"m": Model(strategy="score", fallbacks=("small",))}, expect=("m", "small")
    )
    found = brain(service("a@h", "m"), service("s@h", "small"), config=config)
    _slow(found, "a@h")
    assert serve(found, "m", now=NOW) == "s@h"
    found.apply({"s@h": None})
    problem = begin(found, "m", now=NOW).next(NOW)
    assert isinstance(problem, Problem) and problem.code == "no_healthy_services"


# --- hooks ----------------------------------------------------------------------------------------


def _hooked(found: Brain, said: object) -> None:
    hook = Hook(BEFORE_ROUTE, "acme", lambda _: said, lambda: 0.0, lambda _: None)
    found.reconfigure(found.config, hooks=Hooks(before_route=(hook,)))


def test_headers_that_a_hook_sets_decide_which_rule_holds() -> None:
    rule = Rule(when=When(header={"X-Team": "research"}), model="big")
    found = brain(service("b@h", "big"), service("s@h", "small"), config=Config(rules=(rule,)))
    assert serve(found, "small") == "s@h"
    _hooked(found, {"headers": {"X-Team": "research"}})
    assert serve(found, "small") == "b@h"


def test_headers_that_a_hook_sets_keep_sessions_together() -> None:
    found = brain(*(service(f"{n}@h", "m") for n in "abcd"))
    _hooked(found, {"headers": {"X-Session-Id": "ana"}})
    assert len({serve(found, "m") for _ in range(8)}) == 1


def test_a_model_that_a_hook_names_is_written_into_the_body() -> None:
    found = brain(service("b@h", "big"), service("s@h", "small"))
    _hooked(found, {"model": "big"})
    plan = begin(found, "small")
    assert name_of(plan.next(0.0)) == "b@h"
    assert plan.answer_model == "big"
    plan.ended(end())


# --- names whose own targets cannot be asked ------------------------------------------------------


def test_an_entry_of_a_provider_that_is_switched_off_is_known_and_counted() -> None:
    config = Config(
        providers={"cloud": cloud(status="disabled")},
        models={"gpt": Model(provider="cloud", fallbacks=("small",))},
        expect=("small",),
    )
    found = with_file(config, service("s@h", "small"))
    assert serve(found, "gpt") == "s@h"
    assert found.models["gpt"].fallbacks == 1
    found.apply({"s@h": None})
    problem = begin(found, "gpt").next(0.0)
    assert isinstance(problem, Problem) and problem.code == "no_healthy_services"
    assert problem.should_retry is None


def test_a_fallback_counts_under_what_was_asked_for() -> None:
    config = Config(models={"big": Model(fallbacks=("small",))}, expect=("big", "small"))
    found = brain(service("b@h", "big"), service("s@h", "small"), config=config)
    plan = begin(found, "big")
    plan.next(0.0)
    assert name_of(plan.failed(Failure.CONNECT, False, 0.0)) == "s@h"
    plan.ended(end())
    assert set(found.models) == {"big"}
    assert totals(found.states()).successful == 1


# --- one request's own trial ----------------------------------------------------------------------


def test_a_trial_that_breaks_is_not_followed_by_another_of_the_same_request() -> None:
    found = brain(service("a@h", "m"), config=Config(retry=Retry(attempts_per_target=3)))
    node = found.table.upstreams["a@h"].node
    for _ in range(5):
        found.fitness.failed(node, node.breaker.life, 0.0)
    plan = begin(found, "m", now=30.0)
    assert name_of(plan.next(30.0)) == "a@h"
    assert plan.answered(500, None, 30.0) is None
    plan.ended(end(Outcome.BROKEN, 500, now=30.0))
    assert node.breaker.until == 60.0
    assert not node.breaker.trial


def test_an_upstream_that_will_not_have_our_key_for_the_rest_of_a_stream_has_failed() -> None:
    found = with_file(
        Config(providers={name: cloud(models=("gpt",)) for name in ("one", "two")}),
    )
    for upstream in found.table.upstreams.values():
        upstream.node.key = Key("Authorization", "Bearer sk")
    plan = begin(found, "gpt", stream=True)
    plan.next(0.0)
    plan.answered(200, None, 0.0)
    plan.lost(0.1)
    step = plan.resume(0.1)
    assert isinstance(step, Attempt)
    plan.answered(401, None, 0.2)
    plan.declined(401, 0.2)
    assert found.table.upstreams[name_of(step)].node.failures == 1
    plan.ended(end(Outcome.CUT))
