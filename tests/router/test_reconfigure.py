"""Another configuration while requests run: they end as they began, and what was counted, learnt or
used stays so."""

import pytest

from router import choose, views
from router.brain import Brain
from router.breaker import State
from router.choose.prefix import Prefix
from router.config import Affinity, Breaker, Config, Needs, Queue, Retry, Score, Timeouts
from router.config import Prefix as PrefixConfig
from router.envelope import Envelope, read_json
from router.errors import Problem
from router.known import NAMES_MAX
from router.named import BreakerOf, Limits, Model, Pattern, Provider
from router.outcome import Failure, Outcome
from router.seam import Attempt, Wait
from router.stats import totals
from tests.router.making import (
    begin,
    brain,
    cloud,
    end,
    in_flight,
    name_of,
    reload,
    serve,
    service,
    target,
    with_file,
)

NAMES = ("big", "small")
#: What is refused is told at once.
NO_QUEUE = Queue(waiting_max=0)


def _fleet(**models: Model) -> Brain:
    return brain(*(service(f"{name}@h", name) for name in NAMES), config=_file(**models))


def _file(**models: Model) -> Config:
    return Config(models=models, expect=NAMES, queue=NO_QUEUE)


def _refused(found: Brain, model: str, now: float = 0.0) -> Problem:
    plan = begin(found, model, now=now)
    step = plan.next(now)
    assert isinstance(step, Problem), step
    plan.ended(end(Outcome.REFUSED, step.status, now))
    return step


# --- requests that run ----------------------------------------------------------------------------


def test_a_request_keeps_the_targets_that_it_began_with() -> None:
    found = _fleet(code=Model(backend_model="big", fallbacks=("small",)))
    plan = begin(found, "code")
    assert name_of(plan.next(0.0)) == "big@h"
    reload(found, _file(code=Model(backend_model="small", fallbacks=())))
    assert name_of(plan.failed(Failure.CONNECT, False, 0.0)) == "small@h"
    assert b"x-creche-fallback" in plan.answer_head
    plan.ended(end())
    assert in_flight(found) == 0
    assert serve(found, "code") == "small@h", "as the new file says, and nobody's fallback"


def test_a_request_goes_on_though_its_strategy_went_with_the_old_file() -> None:
    found = brain(
        service("a@h", "m"), service("b@h", "m"), config=_file(m=Model(strategy="prefix"))
    )
    envelope = read_json(b'{"model": "m", "prompt": "%s"}' % (b"x" * 2_000))
    plan = begin(found, envelope=envelope)
    first = name_of(plan.next(0.0))
    reload(found, _file())
    second = name_of(plan.failed(Failure.CLOSED, True, 0.0))
    assert {first, second} == {"a@h", "b@h"}
    ended = end()
    ended.tokens_in, ended.tokens_cached = 500, 0
    plan.ended(ended)
    assert in_flight(found) == 0


def test_a_request_that_waits_goes_on_under_the_new_file() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    assert isinstance(plan.answered(500, None, 0.0), Wait)
    assert found.models["m"].queued == 1
    reload(found, Config(needs=Needs(privacy="public"), retry=Retry(attempts_max=1)))
    assert isinstance(plan.next(0.1), Attempt)
    assert plan.answered(500, None, 0.1) is None, "the new file's limit of attempts"
    plan.ended(end(Outcome.BROKEN, 500))
    assert in_flight(found) == 0


def test_a_provider_that_went_with_the_old_file_is_not_asked_again() -> None:
    config = Config(
        providers={"cloud": cloud(models=("gpt",))},
        models={"gpt": Model(fallbacks=("small",))},
        expect=("small",),
    )
    found = with_file(config, service("small@h", "small"))
    plan = begin(found, "gpt")
    assert name_of(plan.next(0.0)) == "cloud"
    node = found.table.upstreams["cloud"].node
    reload(found, Config(expect=("small",)))
    assert name_of(plan.failed(Failure.CLOSED, True, 0.0)) == "small@h"
    assert node.in_flight == 0
    plan.ended(end())


def test_counts_stay_and_totals_never_fall() -> None:
    found = _fleet()
    for _ in range(3):
        serve(found, "big")
    running = begin(found, "big")
    running.next(0.0)
    reload(found, _file(code=Model(backend_model="big")))
    assert totals(found.states()).total == 3
    assert found.models["big"].in_flight == 1
    assert found.table.upstreams["big@h"].node.in_flight == 1
    assert found.table.upstreams["big@h"].node.request_count == 4
    running.ended(end())
    assert totals(found.states()).successful == 4
    assert in_flight(found) == 0


def test_a_file_read_again_without_a_change_changes_nothing() -> None:
    config = Config(providers={"cloud": cloud(models=("gpt",), limits=Limits(rpm=2))})
    found = with_file(config, service("a@h", "m"))
    serve(found, "gpt")
    before = {name: one.node for name, one in found.table.upstreams.items()}
    reload(found, config)
    assert {name: one.node for name, one in found.table.upstreams.items()} == before
    serve(found, "gpt")
    assert _refused(found, "gpt").status == 429


# --- strategies -----------------------------------------------------------------------------------


def _prefix(found: Brain) -> Prefix:
    strategy = found.strategy(target("m"))
    assert isinstance(strategy, Prefix)
    return strategy


def test_what_a_strategy_has_learnt_stays_while_its_own_numbers_do() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"), config=Config(strategy="prefix"))
    envelope = read_json(b'{"model": "m", "prompt": "%s"}' % (b"x" * 2_000))
    first = serve(found, envelope=envelope)
    learnt = len(_prefix(found).index)
    assert learnt
    other = Config(strategy="prefix", score=Score(least=0.2), affinity=Affinity(load_factor=2))
    reload(found, other)
    assert len(_prefix(found).index) == learnt
    assert serve(found, envelope=envelope) == first
    reload(found, Config(strategy="prefix", prefix=PrefixConfig(block_bytes=64)))
    assert len(_prefix(found).index) == 0


class _Spied:
    """A Config that notes which of its sections are looked at."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.seen.add(name)
        return getattr(Config(), name)


@pytest.mark.parametrize("name", sorted(choose.MAKERS))
def test_nothing_that_a_strategy_is_made_from_is_forgotten(name: str) -> None:
    making, telling = _Spied(), _Spied()
    choose.make(name, making)  # type: ignore[arg-type]
    choose.reads(name, telling)  # type: ignore[arg-type]
    assert making.seen == telling.seen


def test_rotation_goes_on_where_it_was() -> None:
    config = Config(strategy="round_robin")
    found = brain(*(service(f"{name}@h", "m") for name in "abc"), config=config)
    served = [serve(found, "m"), serve(found, "m")]
    reload(found, Config(strategy="round_robin", prefer_warm_ms=0, expect=("m",)))
    served.append(serve(found, "m"))
    assert sorted(served) == ["a@h", "b@h", "c@h"]


# --- limits ---------------------------------------------------------------------------------------


def _gpt(limits: Limits, **more: Provider) -> Config:
    return Config(providers={"cloud": cloud(models=("gpt",), limits=limits), **more})


def test_what_was_used_of_a_models_limit_stays_used_under_another() -> None:
    found = _fleet(big=Model(limits=Limits(rpm=2)))
    for _ in range(2):
        serve(found, "big")
    reload(found, _file(big=Model(limits=Limits(rpm=3))))
    serve(found, "big")
    assert _refused(found, "big").status == 429
    reload(found, _file())
    assert serve(found, "big") == "big@h", "no limit any more"


def test_fewer_places_than_requests_that_run_let_nobody_in_until_they_have_ended() -> None:
    found = _fleet(big=Model(limits=Limits(max_concurrency=3)))
    plans = [begin(found, "big") for _ in range(3)]
    for plan in plans:
        plan.next(0.0)
    reload(found, _file(big=Model(limits=Limits(max_concurrency=1))))
    for plan in plans:
        assert _refused(found, "big").status == 429
        plan.ended(end())
    assert serve(found, "big") == "big@h"


def test_a_limit_that_is_new_counts_from_now_on_and_knows_nothing_of_what_ran_before() -> None:
    found = _fleet()
    before = begin(found, "big")
    before.next(0.0)
    reload(found, _file(big=Model(limits=Limits(max_concurrency=1))))
    plan = begin(found, "big")
    assert isinstance(plan.next(0.0), Attempt)
    assert _refused(found, "big").status == 429
    before.ended(end())
    assert _refused(found, "big").status == 429
    plan.ended(end())
    assert serve(found, "big") == "big@h"


def test_a_request_of_before_gives_back_what_a_limit_granted_that_is_gone() -> None:
    found = _fleet(big=Model(limits=Limits(max_concurrency=1)))
    plan = begin(found, "big")
    plan.next(0.0)
    reload(found, _file())
    assert serve(found, "big") == "big@h"
    plan.ended(end())
    reload(found, _file(big=Model(limits=Limits(max_concurrency=1))))
    assert serve(found, "big") == "big@h"


def test_what_was_used_of_a_providers_limit_stays_used_though_it_begins_another_life() -> None:
    found = with_file(_gpt(Limits(rpm=2)))
    for _ in range(2):
        serve(found, "gpt")
    old = found.table.upstreams["cloud"].node
    reload(found, _gpt(Limits(rpm=3)))
    assert found.table.upstreams["cloud"].node is not old
    serve(found, "gpt")
    assert _refused(found, "gpt").status == 429
    reload(found, _gpt(Limits()))
    assert serve(found, "gpt") == "cloud", "no limit any more"


def test_a_request_of_a_providers_life_before_holds_one_of_its_places() -> None:
    found = with_file(_gpt(Limits(max_concurrency=1)))
    plan = begin(found, "gpt")
    plan.next(0.0)
    reload(found, _gpt(Limits(max_concurrency=1, rpm=100)))
    assert _refused(found, "gpt").status == 429
    plan.ended(end())
    assert serve(found, "gpt") == "cloud"


def test_a_changed_rate_counts_from_the_moment_of_the_change() -> None:
    found = _fleet(big=Model(limits=Limits(rpm=60)))
    for _ in range(60):
        serve(found, "big")
    reload(found, _file(big=Model(limits=Limits(rpm=6))), now=59.5)
    # Sixty were charged at 0 s. By 59.5 s all but half a one of them had leaked at the old rate.
    for _ in range(5):
        serve(found, "big", now=59.5)
    assert _refused(found, "big", now=59.5).retry_after_s == 5


# --- breakers and cooldowns -----------------------------------------------------------------------


def _fail(found: Brain, name: str, times: int) -> None:
    node = found.table.upstreams[name].node
    for _ in range(times):
        found.fitness.failed(node, node.breaker.life, 0.0)


def test_a_breakers_new_numbers_hold_for_engines_that_live_and_reset_nothing() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    breaker = found.table.upstreams["a@h"].node.breaker
    _fail(found, "a@h", 2)
    reload(found, Config(breaker=Breaker(failures=3, open_s=7)))
    assert breaker.failures == 2
    _fail(found, "a@h", 1)
    assert breaker.state is State.OPEN and breaker.until == 7.0
    reload(found, Config(breaker=Breaker(services={"a@h": BreakerOf(open_s=99)})))
    assert found.table.upstreams["a@h"].node.breaker.state is State.OPEN
    assert breaker.until == 7.0, "it opens to trials when it was to"


def test_an_engine_is_given_the_new_time_to_connect() -> None:
    found = with_file(_gpt(Limits()), service("a@h", "m"))
    reload(found, Config(timeouts=Timeouts(connect_s=3), providers=_gpt(Limits()).providers))
    waits = {name: one.node.connect_timeout_s for name, one in found.table.upstreams.items()}
    assert waits == {"a@h": 3, "cloud": 5}


def test_another_error_cooldown_counts_by_its_own_numbers() -> None:
    found = brain(service("a@h", "m"), config=Config(retry=Retry(error_cooldown=3)))
    node = found.table.upstreams["a@h"].node
    _fail(found, "a@h", 2)
    reload(found, Config(retry=Retry(error_cooldown=2, error_cooldown_s=10)))
    _fail(found, "a@h", 1)
    assert node.rest_until == 0.0
    _fail(found, "a@h", 1)
    assert node.rest_until == 10.0


# --- names ----------------------------------------------------------------------------------------


def test_a_name_that_the_file_offers_no_more_is_not_known_for_ever() -> None:
    found = with_file(Config(providers={"cloud": cloud(models=("gpt-4",))}))
    assert serve(found, "gpt-4") == "cloud"
    shape = Pattern(match="gpt-.*", provider="other")
    other = cloud(models=("o",))
    reload(found, Config(providers={"cloud": cloud(), "other": other}, patterns=(shape,)))
    assert serve(found, "gpt-4") == "other"
    reload(found, Config(providers={"cloud": cloud()}))
    assert _refused(found, "gpt-4").code == "model_not_found"


def test_a_name_that_engines_offered_is_known_though_the_file_changes() -> None:
    found = brain(service("a@h", "m"))
    found.apply({"a@h": None})
    reload(found, Config(default="other", expect=("other",)))
    assert _refused(found, "m").code == "no_healthy_services"


def test_of_the_names_that_were_offered_the_last_are_known() -> None:
    found = brain(service("a@h", *(f"m{n}" for n in range(NAMES_MAX + 50_000))), config=_file())
    found.apply({"a@h": None})
    assert _refused(found, "m49999").code == "model_not_found"
    assert _refused(found, "m50000").code == "no_healthy_services"


def test_candidates_of_targets_that_went_are_not_kept() -> None:
    found = _fleet()
    for _ in range(3):
        serve(found, "big")
        assert len({of for of, _ in found.table.pools}) == 1
        reload(found, _file())


def test_the_aggregate_lists_names_while_a_target_or_their_chain_can_be_served() -> None:
    def listed() -> list[str]:
        return [one["id"] for one in views.model_list(found, 0.0)]

    found = _fleet(code=Model(backend_model="big", fallbacks=("small",)))
    assert listed() == ["big", "code", "small"]
    found.apply({"big@h": service("big@h", "big", draining=True)})
    assert listed() == ["code", "small"], "the chain serves it"
    found.apply({"small@h": None})
    assert listed() == []
    found.apply({"big@h": service("big@h", "big")})
    assert listed() == ["big", "code"]
    reload(found, _file(chat=Model(backend_model="big")))
    assert listed() == ["big", "chat"]


# --- lives ----------------------------------------------------------------------------------------


def test_an_engine_that_is_gone_is_not_probed_though_its_last_requests_fail() -> None:
    found = brain(service("a@h", "m", instance_id="one"), service("b@h", "m"))
    plans = [begin(found, "m") for _ in range(8)]
    assert [name_of(plan.next(0.0)) for plan in plans].count("a@h") == 4
    found.apply({"a@h": service("a@h", "m", instance_id="two")}, fresh=True)
    for plan in plans:
        if plan.service == "a@h":
            plan.failed(Failure.CLOSED, True, 0.0)
        plan.ended(end(now=0.0))
    assert not found.fitness.out
    assert in_flight(found) == 0


def test_a_plain_request_needs_no_attempt_of_its_own() -> None:
    found = _fleet()
    first, second = begin(found, envelope=Envelope("big")), begin(found, envelope=Envelope("big"))
    assert first.next(0.0) is second.next(0.0)
