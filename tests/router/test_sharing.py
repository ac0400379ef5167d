"""Routers' Brains that count together, with numbers: what Redis would say is worked out here."""

from collections.abc import Mapping
from typing import Any

import pytest

from router.brain import Brain
from router.caller import Caller
from router.config import Config
from router.envelope import Envelope, read_json
from router.errors import Problem
from router.limit_terms import Asking, State
from router.limits import Limiter
from router.named import Limits, Model
from router.outcome import Failure, Outcome
from router.plan import Plan
from router.seam import Ask, Attempt, Step, Wait
from router.shares import Shares
from tests.router.making import ask, begin, cloud, end, in_flight, name_of, service, with_file

NS = 1_000_000
TIMEOUT_S = 0.2


class Store:
    """What the scripts do, by a Limiter for each name. (That they do is another test.)"""

    def __init__(self) -> None:
        self.limiters: dict[str, Limiter] = {}
        self.held: dict[tuple[str, str], Any] = {}
        self.asked = 0

    def serve(self, shares: Shares, now: float) -> None:
        """Everything that waits."""
        self.settle(shares, now)
        for asking in shares.take_asks():
            shares.answered(asking, self.take(asking, now), now)

    def take(self, asking: Asking, now: float) -> list[int]:
        self.asked += 1
        limiters = [self._limiter(one.name, one.limits) for one in asking.limiters]
        answer = [int(all(one.allows(asking.tokens, now) for one in limiters)), round(now * 1000)]
        for one in limiters:
            held = one.counted(now)
            answer += [-1 if held.requests is None else -(-held.requests // NS)]
            answer += [-1 if held.tokens is None else -(-held.tokens // NS)]
            answer += [-1 if one.limits.max_concurrency is None else one.in_flight]
        for one in limiters if answer[0] else ():
            self.held[one.name, asking.id] = one.take(asking.tokens, now)
        return answer

    def settle(self, shares: Shares, now: float) -> None:
        for one in shares.settlements():
            grant = self.held.pop((one.name, one.id), None)
            if grant is not None:
                grant.settle(one.used, now)

    def in_flight(self, name: str) -> int:
        return self.limiters[name].in_flight

    def _limiter(self, name: str, limits: Limits) -> Limiter:
        return self.limiters.setdefault(name, Limiter(limits, name))


def _router(store: Store | None, *, up: bool = True, **config: Any) -> tuple[Brain, Shares]:
    """With engines `big@h` and `small@h`."""
    config.setdefault("expect", ("big", "small"))
    engines = service("big@h", "big"), service("small@h", "small")
    brain = with_file(Config(**config), *engines)
    shares = Shares("origin", timeout_s=TIMEOUT_S)
    brain.share(shares)
    if up:
        shares.back(0, 0.0, alone=True)
    return brain, shares


def _pair(store: Store, **config: Any) -> list[tuple[Brain, Shares]]:
    return [_router(store, **config) for _ in range(2)]


def _big(**limits: Any) -> dict[str, Any]:
    return {"models": {"big": Model(limits=Limits(**limits))}}


def _next(plan: Plan, store: Store, now: float) -> Step:
    """As the relay does: what is asked for is answered at once."""
    step = plan.next(now)
    while isinstance(step, Wait):
        calls = _calls(plan)
        shares = plan._brain.shares
        assert shares is not None
        store.serve(shares, now)
        assert calls, "whoever waits is called"
        step = plan.next(now)
    return step


def _calls(plan: Plan) -> list[bool]:
    """Those that wake it, as they come."""
    calls: list[bool] = []
    plan.wake = lambda: calls.append(True)
    return calls


def _prompt(tokens: int, model: str = "big") -> Envelope:
    return read_json(b'{"model": "%b", "prompt": "%b"}' % (model.encode(), b"x" * 4 * tokens))


def _asks(brain: Brain, store: Store, model: str = "big", now: float = 0.0, **more: Any) -> Step:
    """What becomes of a request; it goes on."""
    return _next(begin(brain, model, now=now, **more), store, now)


def _of(brain: Brain, caller: Caller, model: str = "big", now: float = 0.0) -> Plan:
    one = ask(model, now=now)
    return brain.begin(
        Ask(one.id, one.method, one.path, one.route, {}, one.envelope, "", 0, now, caller), now
    )


# --- granted --------------------------------------------------------------------------------------


def test_two_routers_together_admit_what_one_would() -> None:
    store = Store()
    pair = _pair(store, **_big(rpm=5))
    steps = [_asks(pair[n % 2][0], store) for n in range(8)]
    assert [isinstance(one, Attempt) for one in steps] == [True] * 5 + [False] * 3


def test_an_answer_says_what_is_left_for_all_routers() -> None:
    store = Store()
    (one, _), (other, _) = _pair(store, **_big(rpm=60))
    _asks(one, store)
    plan = begin(other, "big")
    _next(plan, store, 0.0)
    assert b"x-ratelimit-remaining-requests: 58\r\n" in plan.answer_head


def test_a_refusal_is_honest_about_when_to_come_back() -> None:
    store = Store()
    (one, _), (other, _) = _pair(store, **_big(rpm=1))
    _asks(one, store)
    step = _asks(other, store)
    assert isinstance(step, Problem)
    assert (step.status, step.retry_after_s) == (429, 60)
    assert isinstance(_asks(other, store, now=60.0), Attempt)


def test_a_request_without_limits_asks_nothing() -> None:
    store = Store()
    brain, shares = _router(store, **_big(rpm=1))
    assert name_of(begin(brain, "small").next(0.0)) == "small@h"
    assert shares.take_asks() == []


def test_all_limits_of_a_request_are_asked_at_once() -> None:
    store = Store()
    brain, shares = _router(
        store,
        providers={"cloud": cloud(models=("far",), limits=Limits(tpm=100))},
        models={"near": Model(backend_model="far", limits=Limits(rpm=9))},
    )
    caller = Caller("ana", id="k1", limits=Limits(max_concurrency=3))
    plan = _of(brain, caller, "near")
    assert isinstance(plan.next(0.0), Wait)
    (asking,) = shares.take_asks()
    assert [one.name for one in asking.limiters] == ["key:k1", "model:near", "provider:cloud"]
    shares.answered(asking, store.take(asking, 0.0), 0.0)
    assert name_of(plan.next(0.0)) == "cloud"
    assert store.asked == 1
    plan.ended(end())
    store.settle(shares, 1.0)
    assert store.in_flight("key:k1") == 0


def test_tokens_are_settled_for_all_by_what_was_used() -> None:
    store = Store()
    (one, shares), (other, _) = _pair(store, **_big(tpm=1_000))
    plan = begin(one, envelope=_prompt(600))
    assert isinstance(_next(plan, store, 0.0), Attempt)
    assert isinstance(_asks(other, store, envelope=_prompt(600)), Problem)
    done = end(now=0.0)
    done.tokens_in, done.tokens_out = 100, 0
    plan.ended(done)
    store.settle(shares, 0.0)
    assert isinstance(_asks(other, store, envelope=_prompt(600)), Attempt)


def test_many_that_ask_at_once_do_not_all_go_to_the_same_upstream() -> None:
    brain, shares = _router(None, **_big(rpm=100))
    brain.apply({f"big{n}@h": service(f"big{n}@h", "big") for n in range(3)})
    plans = [begin(brain, "big") for _ in range(8)]
    for plan in plans:
        plan.next(0.0)
    assert sorted(one.upstream.name for one in shares.take_asks()) == sorted(
        ["big@h", "big0@h", "big1@h", "big2@h"] * 2
    )


# --- refused --------------------------------------------------------------------------------------


def test_a_model_over_its_limit_is_answered_by_its_chain() -> None:
    store = Store()
    models = {"big": Model(limits=Limits(rpm=1), fallbacks=("small",))}
    (one, _), (other, _) = _pair(store, models=models)
    assert name_of(_asks(one, store)) == "big@h"
    assert name_of(_asks(other, store)) == "small@h"


def test_a_provider_over_its_limit_is_spared_for_another() -> None:
    store = Store()
    brain, _ = _router(
        store,
        providers={
            "near": cloud(models=("far",), limits=Limits(rpm=1), priority=0),
            "away": cloud(port=10, models=("far",), limits=Limits(rpm=1), priority=1),
        },
        strategy="priority",
    )
    names = [_asks(brain, store, "far") for _ in range(3)]
    assert [name_of(one) for one in names[:2]] == ["near", "away"]
    refused = names[2]
    assert isinstance(refused, Problem)
    assert refused.status == 429


def test_a_key_over_its_limit_is_told_so_whatever_else_there_is() -> None:
    store = Store()
    brain, _ = _router(store)
    caller = Caller("ana", id="k1", limits=Limits(rpm=1))
    assert isinstance(_next(_of(brain, caller), store, 0.0), Attempt)
    step = _next(_of(brain, caller), store, 0.0)
    assert isinstance(step, Problem)
    assert step.message.startswith("Rate limit reached for key 'ana' on requests per minute")


def test_what_one_limit_refuses_costs_the_others_nothing() -> None:
    store = Store()
    brain, _ = _router(store, **_big(rpm=1))
    caller = Caller("ana", id="k1", limits=Limits(rpm=2))
    assert isinstance(_next(_of(brain, caller), store, 0.0), Attempt)
    assert isinstance(_next(_of(brain, caller), store, 0.0), Problem)
    assert isinstance(_next(_of(brain, caller, "small"), store, 0.0), Attempt)


def test_the_tries_of_one_request_count_once_for_its_model_and_each_for_its_provider() -> None:
    store = Store()
    brain, _ = _router(
        store,
        providers={
            "one": cloud(models=("far",), limits=Limits(rpm=9)),
            "two": cloud(port=10, models=("far",), limits=Limits(rpm=9)),
        },
        models={"far": Model(limits=Limits(rpm=9))},
    )
    plan = begin(brain, "far")
    first = name_of(_next(plan, store, 0.0))
    step = plan.failed(Failure.CLOSED, False, 0.0)
    assert isinstance(step, Wait)
    second = name_of(_next(plan, store, 0.0))
    assert {first, second} == {"one", "two"}
    left = {n: one.decide(1, 0.0)[0].remaining for n, one in store.limiters.items()}
    assert left == {"model:far": 7, "provider:one": 7, "provider:two": 7}, "and one asked for now"


# --- where requests wait for a place --------------------------------------------------------------


def _narrow(store: Store, **limits: Any) -> tuple[Brain, Shares]:
    """An engine that takes one request at a time."""
    brain, shares = _router(store, **_big(**limits))
    brain.apply({"big@h": service("big@h", "big", metadata={"max_concurrency": 1})})
    return brain, shares


def test_who_waited_for_a_place_asks_for_its_limits_when_it_is_its_turn() -> None:
    store = Store()
    brain, shares = _narrow(store, rpm=9)
    first, second = begin(brain, "big"), begin(brain, "big")
    assert isinstance(_next(first, store, 0.0), Attempt)
    assert isinstance(second.next(0.0), Wait)
    assert shares.take_asks() == [], "what waits takes nothing yet"
    calls = _calls(second)
    first.ended(end())
    assert calls
    assert name_of(_next(second, store, 1.0)) == "big@h"
    second.ended(end(now=2.0))
    assert in_flight(brain) == 0


def test_a_place_that_a_limit_keeps_from_one_goes_to_the_next() -> None:
    store = Store()
    brain, shares = _narrow(store, rpm=1)
    brain.apply({"big@h": service("big@h", "big", "small", metadata={"max_concurrency": 1})})
    brain.apply({"small@h": None})
    assert isinstance(_asks(brain, store), Attempt)
    (node,) = (one.node for one in brain.table.upstreams.values())
    node.in_flight = 0
    over, waits = begin(brain, "big"), begin(brain, "small")
    assert isinstance(over.next(0.0), Wait), "it asks"
    assert isinstance(waits.next(0.0), Wait), "the place is taken for as long"
    calls = _calls(waits)
    store.serve(shares, 0.0)
    assert isinstance(over.next(0.0), Problem)
    assert calls
    assert name_of(waits.next(0.0)) == "big@h"


# --- what is handed out comes back ----------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.CANCELLED, Outcome.CUT, Outcome.BROKEN])
def test_a_place_comes_back_whichever_way_a_request_ends(outcome: Outcome) -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=1, tpm=100))
    plan = begin(brain, "big")
    assert isinstance(_next(plan, store, 0.0), Attempt)
    plan.ended(end(outcome))
    plan.ended(end(outcome))
    store.settle(shares, 1.0)
    assert store.in_flight("model:big") == 0
    assert in_flight(brain) == 0


def test_a_client_that_leaves_before_the_answer_leaves_nothing_behind() -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=1))
    plan = begin(brain, "big")
    plan.next(0.0)
    (asking,) = shares.take_asks()
    plan.ended(end(Outcome.CANCELLED, 499))
    assert in_flight(brain) == 0
    shares.answered(asking, store.take(asking, 0.0), 0.0)
    store.settle(shares, 0.0)
    assert store.in_flight("model:big") == 0


def test_a_client_that_leaves_before_it_was_asked_is_not_asked_for() -> None:
    brain, shares = _router(None, **_big(rpm=1))
    plan = begin(brain, "big")
    plan.next(0.0)
    plan.ended(end(Outcome.CANCELLED, 499))
    assert shares.take_asks() == []
    assert in_flight(brain) == 0


def test_an_answer_that_nobody_took_up_in_time_is_given_back() -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=5))
    plan = begin(brain, "big")
    step = plan.next(0.0)
    assert isinstance(step, Wait)
    assert step.seconds <= 2 * TIMEOUT_S
    (asking,) = shares.take_asks()
    assert isinstance(plan.next(step.seconds), Attempt), "by this router's own limits"
    shares.answered(asking, store.take(asking, 0.0), step.seconds)
    store.settle(shares, 1.0)
    assert store.in_flight("model:big") == 0


def test_places_of_those_that_run_are_renewed() -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=5))
    plan = begin(brain, "big")
    _next(plan, store, 0.0)
    assert dict(shares.running()) == {"model:big": ["origin:1"]}
    plan.ended(end())
    assert dict(shares.running()) == {}


# --- Redis is away --------------------------------------------------------------------------------


def _lost(brain: Brain, shares: Shares, now: float, **more: Any) -> Step:
    """A request that is in the air when Redis goes away."""
    plan = begin(brain, "big", now=now, **more)
    calls = _calls(plan)
    assert isinstance(plan.next(now), Wait)
    shares.take_asks()
    shares.lost(now)
    assert calls
    return plan.next(now)


def test_each_router_holds_the_limits_alone_from_what_it_knew() -> None:
    store = Store()
    (one, shares), (other, _) = _pair(store, **_big(rpm=5))
    for brain in (other, other, one):
        _asks(brain, store)
    steps = [_lost(one, shares, 0.0), *(begin(one, "big").next(0.0) for _ in range(3))]
    assert [isinstance(step, Attempt) for step in steps] == [True, True, False, False]


def test_open_lets_all_pass() -> None:
    brain, shares = _router(None, **_big(rpm=1), limits_without_redis="open")
    steps = [_lost(brain, shares, 0.0), *(begin(brain, "big").next(0.0) for _ in range(5))]
    assert all(isinstance(step, Attempt) for step in steps)


def test_refuse_answers_503_to_what_has_a_limit_alone() -> None:
    brain, shares = _router(None, **_big(rpm=1), limits_without_redis="refuse")
    for step in (_lost(brain, shares, 0.0), begin(brain, "big").next(0.0)):
        assert isinstance(step, Problem)
        assert (step.status, step.code) == (503, "limits_unavailable")
        assert step.retry_after_s == 1
    assert isinstance(begin(brain, "small").next(0.0), Attempt)


def test_a_key_is_held_to_its_limit_by_each_router_alone() -> None:
    brain, _ = _router(None, up=False)
    caller = Caller("ana", id="k1", limits=Limits(rpm=1))
    assert isinstance(_of(brain, caller).next(0.0), Attempt)
    step = _of(brain, caller).next(0.0)
    assert isinstance(step, Problem)
    assert step.status == 429


@pytest.mark.parametrize("policy", ["local", "open", "refuse"])
def test_nothing_is_left_behind_by_an_outage(policy: str) -> None:
    brain, shares = _router(None, **_big(rpm=9, max_concurrency=9), limits_without_redis=policy)
    plan = begin(brain, "big")
    plan.next(0.0)
    shares.take_asks()
    shares.lost(0.0)
    step = plan.next(0.0)
    plan.ended(end(Outcome.REFUSED if isinstance(step, Problem) else Outcome.OK))
    assert in_flight(brain) == 0
    limiter = brain.limiters.of_target(plan.resolution.all[0])[0][1]
    assert limiter.in_flight == 0


def test_an_ask_that_was_never_answered_is_given_back_once_redis_is_there() -> None:
    brain, shares = _router(None, **_big(max_concurrency=1))
    _lost(brain, shares, 0.0)
    shares.back(0, 1.0, alone=True)
    assert [(one.id, one.used) for one in shares.settlements()] == [("origin:1", 0)]


def test_ends_that_could_not_be_told_are_told_again_in_their_order() -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=9))
    plans = [begin(brain, "big") for _ in range(3)]
    for plan in plans:
        _next(plan, store, 0.0)
    plans[0].ended(end())
    plans[1].ended(end())
    found = shares.settlements()
    plans[2].ended(end())
    shares.unsent(found)
    assert [one.id for one in shares.settlements()] == ["origin:1", "origin:2", "origin:3"]


# --- and back -------------------------------------------------------------------------------------


def test_what_was_granted_alone_is_added_less_what_has_drained() -> None:
    store = Store()
    brain, shares = _router(store, **_big(rpm=60, tpm=6_000))
    for _ in range(10):
        _asks(brain, store)
    shares.lost(0.0)
    for _ in range(20):
        begin(brain, "big", now=2.0).next(2.0)
    shares.back(0, 4.0, alone=True)
    (more,) = shares.additions()
    # Ten were counted, two of them drained before the twenty came, and two since: of all thirty
    # four have drained, and of the ten that Redis has drained four too.
    assert more.requests == 20 * 60_000
    assert more.tokens == 0, "what these cost has come back in two seconds"
    assert more.requests_before == 6 * 60_000, "of ten, should Redis have forgotten them"
    shares.lost(4.0)
    shares.back(0, 4.0, alone=True)
    assert [(one.requests, one.tokens) for one in shares.additions()] == [(0, 0)], "once"


def test_what_was_let_pass_by_nobodys_limits_is_added_to_none() -> None:
    brain, shares = _router(None, **_big(rpm=60), limits_without_redis="open")
    _lost(brain, shares, 0.0)
    shares.back(0, 0.0, alone=False)
    assert shares.additions() == []


def test_requests_that_were_granted_alone_keep_their_places() -> None:
    store = Store()
    brain, shares = _router(store, **_big(max_concurrency=9))
    shared = begin(brain, "big")
    _next(shared, store, 0.0)
    shares.lost(0.0)
    alone = [begin(brain, "big") for _ in range(2)]
    for plan in alone:
        plan.next(0.0)
    shares.back(0, 1.0, alone=True)
    places = ["origin:1", "origin:alone:0", "origin:alone:1"]
    assert dict(shares.running()) == {"model:big": places}
    assert shares.tidy()
    assert shares.settlements() == []
    alone[0].ended(end())
    assert shares.tidy()
    assert [one.id for one in shares.settlements()] == ["origin:alone:1"]
    alone[1].ended(end())
    assert not shares.tidy()
    assert [one.id for one in shares.settlements()] == ["origin:alone:0"]


def test_an_answer_from_before_an_outage_changes_nothing() -> None:
    brain, shares = _router(None, **_big(rpm=1))
    plan = begin(brain, "big")
    plan.next(0.0)
    (asking,) = shares.take_asks()
    shares.lost(0.0)
    shares.back(0, 0.0, alone=True)
    shares.answered(asking, [1, 0, 0, -1, -1], 0.0)
    assert asking.state is State.LOST


def test_a_clock_that_went_on_without_ours_is_asked_once_more() -> None:
    store = Store()
    brain, shares = _router(store, **_big(rpm=1))
    plan = begin(brain, "big")
    plan.next(0.0)
    (asking,) = shares.take_asks()
    shares.answered(asking, [-1, 5_000], 0.0)
    (again,) = shares.take_asks()
    assert again is asking
    _, said = shares.take_arguments(again, "")
    assert said[5] == 5_000 + 2 * TIMEOUT_S * 1000
    shares.answered(asking, store.take(asking, 0.0), 0.0)
    assert isinstance(plan.next(0.0), Attempt)


def test_a_stream_that_goes_on_elsewhere_waits_for_nobody_and_its_provider_is_told() -> None:
    store = Store()
    limits: Mapping[str, Any] = {"models": ("far",), "limits": Limits(rpm=9)}
    brain, shares = _router(
        store,
        providers={"one": cloud(**limits), "two": cloud(port=10, **limits)},
        models={"far": Model(resume=True)},
    )
    plan = begin(brain, "far", stream=True)
    first = name_of(_next(plan, store, 0.0))
    assert plan.answered(200, None, 0.0) is None
    plan.lost(1.0)
    second = name_of(plan.resume(1.0))
    assert {first, second} == {"one", "two"}
    (told,) = shares.additions()
    assert (told.name, told.requests) == (f"provider:{second}", 60_000)
    plan.ended(end(now=2.0))
    assert in_flight(brain) == 0
