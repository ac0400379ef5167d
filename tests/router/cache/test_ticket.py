"""A request that looks in the cache first: what it is told, and what becomes of those that wait."""

from collections.abc import Callable

import pytest

from router.brain import Brain
from router.cache.entry import Entry
from router.caller import Caller
from router.config import Cache, Config
from router.envelope import read_json
from router.errors import Problem
from router.explain import explain
from router.named import Model, ModelCache
from router.outcome import Failure, Outcome
from router.seam import Attempt, End, Replay, Wait
from tests.router.cache.requests import GOOD, JSON, Asked, Later, caching, head
from tests.router.making import ask, brain, reload, service


def later(found: Brain) -> Later:
    assert isinstance(found.cache.soon, Later)
    return found.cache.soon


def heads(asked: Asked) -> bytes:
    return asked.plan.answer_head


def ended(found: Brain) -> None:
    """Nothing is in the air, and nothing that was handed out is out."""
    assert (len(found.cache.flights), found.cache.flights.waiting) == (0, 0)
    assert not later(found).acts
    assert found.cache.room.used == 0
    assert all(one.node.in_flight == 0 for one in found.table.upstreams.values())
    assert all((state.in_flight, state.queued) == (0, 0) for state in found.states())


# --- hit and miss ---------------------------------------------------------------------------------


def test_the_second_time_it_is_there() -> None:
    found = caching()
    first = Asked(found)
    assert b"x-creche-cache: miss\r\n" in heads(first)
    first.answered(now=2.0)
    second = Asked(found, now=9.5)
    assert second.hit == GOOD
    assert heads(second) == (
        b"x-creche-service: a@h\r\nx-creche-attempts: 0\r\nx-creche-cache: hit\r\nage: 7\r\n"
    )
    second.ends()
    state = found.models["m"]
    assert (state.cache_hits, state.cache_misses) == (1, 1)
    assert (first.plan.cache, second.plan.cache) == ("miss", "hit")
    assert second.plan.attempts == 0
    assert state.outcomes[Outcome.OK] == 2
    ended(found)


def test_another_is_not() -> None:
    found = caching()
    Asked(found).answered()
    assert Asked(found, "ho").asks
    assert Asked(found, stream=True).asks


def test_it_is_kept_for_its_time() -> None:
    found = caching(named={"m": Model(cache=ModelCache(ttl_s=60))})
    Asked(found).answered(now=0.0)
    assert Asked(found, now=59.9).hit == GOOD
    assert Asked(found, now=60.0).asks


def test_requests_that_may_not_and_models_that_do_not_have_no_part_in_it() -> None:
    found = caching()
    hot = Asked(found, temperature=1)
    plain = Asked(found, model="plain")
    assert not hot.may_be_kept
    assert not plain.may_be_kept
    assert b"x-creche-cache" not in heads(hot) + heads(plain)
    assert not hot.plan.keeps
    hot.answered()
    plain.answered()
    assert len(found.cache.memory) == 0
    assert found.models["m"].cache_misses == 0


def test_an_alias_may_say_otherwise_than_the_model_behind_it() -> None:
    named = {
        "m": Model(cache=True),
        "alias": Model(backend_model="m"),
        "fresh": Model(backend_model="m", cache=False),
        "kept": Model(backend_model="plain", cache=True),
    }
    found = caching(named=named)
    kept = {name: Asked(found, model=name).may_be_kept for name in (*named, "plain")}
    assert kept == {"m": True, "alias": True, "fresh": False, "kept": True, "plain": False}


def test_an_alias_tells_what_the_first_was_told() -> None:
    found = caching(named={"alias": Model(backend_model="m", cache=True)})
    Asked(found, model="alias").answered()
    second = Asked(found, model="alias")
    assert second.hit == GOOD
    assert second.plan.answer_model == "m"


def test_tenants_have_nothing_in_common() -> None:
    found = caching()
    ana, bob, cyd, dan = (
        Caller("ana", id="1", tenant="one"),
        Caller("bob", id="2", tenant="one"),
        Caller("cyd", id="3", tenant="two"),
        Caller("dan", id="4"),
    )
    Asked(found, caller=ana).answered(b'{"choices":["of one"]}')
    assert Asked(found, caller=bob).hit == b'{"choices":["of one"]}'
    assert Asked(found, caller=cyd).asks
    assert Asked(found, caller=dan).asks
    assert Asked(found).asks


def test_a_key_without_a_tenant_shares_with_nobody() -> None:
    found = caching()
    Asked(found, caller=Caller("ana", id="1")).answered()
    assert Asked(found, caller=Caller("bob", id="2")).asks
    assert Asked(found, caller=Caller("ana", id="1")).hit == GOOD


def test_an_answer_of_one_who_wanted_less_privacy_is_none_for_one_who_wants_more() -> None:
    found = caching()
    Asked(found, headers={"x-creche-privacy": "public"}).answered()
    assert Asked(found, headers={"x-creche-privacy": "internal"}).asks


def test_no_cache_is_asked_anew_and_its_answer_replaces_the_old() -> None:
    found = caching()
    Asked(found).answered(b'{"choices":["old"]}')
    anew = Asked(found, headers={"cache-control": "no-cache"})
    anew.answered(b'{"choices":["new"]}')
    assert Asked(found).hit == b'{"choices":["new"]}'


def test_no_store_is_neither_looked_up_nor_kept() -> None:
    found = caching()
    Asked(found, headers={"cache-control": "no-store"}).answered()
    assert len(found.cache.memory) == 0
    Asked(found).answered()
    assert Asked(found, headers={"cache-control": "no-store"}).asks


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        lambda one: one.answered(b'{"error":{"message":"no"}}'),
        lambda one: one.answered(b'{"choices":[{"finish_reason":"abort"}]}'),
        lambda one: one.answered(b"data: [DONE]\n\n", events=True),  # not what it asked for
        lambda one: one.answered(None),
        lambda one: one.answered(b"{}", status=201),
        lambda one: one.answered(b"{}", status=400),
        lambda one: one.ends(Outcome.CUT),
        lambda one: one.ends(Outcome.CANCELLED, 499),
        lambda one: one.ends(Outcome.REFUSED, 503),
    ],
)
def test_nothing_but_whole_good_answers_is_kept(answers: Callable[[Asked], None]) -> None:
    found = caching()
    answers(Asked(found))
    assert len(found.cache.memory) == 0
    assert Asked(found).asks


def test_a_whole_stream_is() -> None:
    found = caching()
    events = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'
    Asked(found, stream=True).answered(events, events=True)
    hit = Asked(found, stream=True)
    assert isinstance(hit.step, Replay)
    assert (hit.step.events, hit.step.type, hit.hit) == (True, b"text/event-stream", events)


def test_what_a_chain_answered_in_its_place_is_not() -> None:
    found = caching()
    first = Asked(found)
    first.step = first.plan.failed(Failure.CONNECT, False, 0.1)
    assert isinstance(first.step, Attempt)
    assert first.step.upstream.name == "b@h"
    first.answered()
    assert len(found.cache.memory) == 0


def test_what_two_engines_said_is_not() -> None:
    found = caching()
    first = Asked(found, stream=True)
    first.begins(events=True)
    first.says(b"data: [DONE]\n\n")
    first.plan.broke_off = True
    first.ends()
    assert len(found.cache.memory) == 0


def test_a_miss_that_is_refused_is_told_so() -> None:
    found = caching()
    found.apply({"a@h": None, "b@h": None})
    refused = Asked(found)
    assert isinstance(refused.step, Problem)
    refused.ends(Outcome.REFUSED, 503)
    ended(found)


def test_a_hit_needs_no_upstream() -> None:
    found = caching()
    Asked(found).answered()
    found.apply({"a@h": service("a@h", "m", health_status="unhealthy", is_healthy=False)})
    assert Asked(found).hit == GOOD


def test_another_version_in_the_file_and_nothing_of_before_is_given() -> None:
    found = caching(named={"m": Model(cache=ModelCache(version="1"))})
    Asked(found).answered()
    reload(found, Config(models={"m": Model(cache=ModelCache(version="2"))}))
    found.apply({"a@h": service("a@h", "m")})
    assert Asked(found).asks
    reload(found, Config(models={"m": Model(cache=ModelCache(version="1"))}))
    assert Asked(found).hit == GOOD


def test_a_reload_that_takes_the_cache_from_a_model_takes_it_at_once() -> None:
    found = caching()
    Asked(found).answered()
    reload(found, Config(models={"m": Model()}))
    found.apply({"a@h": service("a@h", "m")})
    assert not Asked(found).may_be_kept


# --- identical requests in the air ----------------------------------------------------------------


def test_identical_ones_wait_for_the_first_and_have_its_answer() -> None:
    found = caching()
    first, second, third = Asked(found), Asked(found), Asked(found, now=0.5)
    assert (second.waits, third.waits) == (True, True)
    assert isinstance(second.step, Wait)
    assert second.step.seconds == 10
    first.answered(now=3.0)
    later(found).run()
    assert (second.woken, third.woken) == (True, True)
    assert isinstance(second.goes_on(3.0), Replay)
    assert isinstance(third.goes_on(3.0), Replay)
    assert third.plan.queued_s == 2.5
    assert found.cache.waits == 2
    second.ends()
    third.ends()
    ended(found)


def test_they_have_it_though_there_is_no_room_for_it() -> None:
    found = caching(Cache(bytes_max=200))
    first, second = Asked(found), Asked(found)
    first.answered()
    assert second.goes_on() is not None
    assert second.hit == GOOD


@pytest.mark.parametrize(
    "fails",
    [
        lambda one: one.ends(Outcome.CANCELLED, 499),
        lambda one: one.ends(Outcome.CUT),
        lambda one: one.ends(Outcome.BROKEN, 502),
    ],
)
def test_the_next_asks_where_the_first_left_or_failed(fails: Callable[[Asked], None]) -> None:
    found = caching()
    first, second, third = Asked(found), Asked(found), Asked(found)
    fails(first)
    later(found).run()
    assert (second.woken, third.woken) == (True, False)
    assert isinstance(second.goes_on(), Attempt)
    second.answered()
    later(found).run()
    assert third.woken
    third.goes_on()
    assert third.hit == GOOD
    third.ends()
    ended(found)


def test_all_ask_for_themselves_once_an_answer_begins_that_will_not_be_kept() -> None:
    found = caching()
    first, second, third = Asked(found), Asked(found), Asked(found)
    first.begins(status=400)
    later(found).run()
    assert (second.woken, third.woken) == (True, True)
    assert isinstance(second.goes_on(), Attempt)
    assert isinstance(third.goes_on(), Attempt)
    for one in (first, second, third):
        one.ends(Outcome.CLIENT, 400)
    ended(found)


def test_so_they_do_where_the_answer_is_too_long() -> None:
    found = caching()
    first, second = Asked(found), Asked(found)
    first.begins()
    first.says(b"x" * 2_000_000)
    later(found).run()
    assert second.woken
    assert isinstance(second.goes_on(), Attempt)
    first.ends()
    second.answered()
    ended(found)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_they_wait_on_where_the_next_may_have_a_better_answer(status: int) -> None:
    found = caching()
    first, second = Asked(found), Asked(found)
    assert first.plan.collect(head(status)) is None
    assert not later(found).acts
    first.ends(Outcome.BROKEN, status)
    later(found).run()
    assert second.woken
    second.goes_on()
    second.answered()
    ended(found)


def test_answers_are_collected_while_there_is_room_for_all_of_them() -> None:
    found = caching(Cache(bytes_max=1_000))
    first, second = Asked(found), Asked(found, "ho")
    for one in (first, second):
        one.begins()
    first.says(b"x" * 600)
    second.says(b"x" * 600)
    assert first.collector is not None
    assert second.collector is None
    assert found.cache.room.used == 600
    first.ends(Outcome.CANCELLED, 499)
    second.ends()
    ended(found)


def test_one_that_is_tried_again_is_collected_anew() -> None:
    found = caching()
    first = Asked(found, stream=True)
    first.begins(events=True)
    first.says(b"data: half\n\n")
    first.answered(b"data: [DONE]\n\n", events=True)
    hit = Asked(found, stream=True)
    assert hit.hit == b"data: [DONE]\n\n"
    hit.ends()
    ended(found)


def test_who_has_waited_long_enough_asks_for_itself() -> None:
    found = caching()
    first, second = Asked(found), Asked(found)
    assert isinstance(second.goes_on(10.0), Attempt)
    first.answered(now=11.0)
    second.answered(now=12.0)
    ended(found)


def test_who_waits_and_leaves_just_leaves() -> None:
    found = caching()
    first, second = Asked(found), Asked(found)
    second.ends(Outcome.CANCELLED, 499)
    first.answered()
    assert not later(found).acts
    ended(found)


def test_who_was_told_that_it_is_its_turn_and_leaves_hands_that_on() -> None:
    found = caching()
    first, second, third = Asked(found), Asked(found), Asked(found)
    first.ends(Outcome.CANCELLED, 499)
    second.ends(Outcome.CANCELLED, 499)
    later(found).run()
    assert (second.woken, third.woken) == (False, True)
    assert isinstance(third.goes_on(), Attempt)
    third.answered()
    ended(found)


def test_what_it_is_told_late_does_not_end_another_wait() -> None:
    """It was told that it is its turn, and had gone on by itself already: to a queue, say."""
    found = caching()
    first, second = Asked(found), Asked(found)
    first.ends(Outcome.CANCELLED, 499)
    second.goes_on()
    calls: list[None] = []
    second.plan.wake = lambda: calls.append(None)
    later(found).run()
    assert not calls
    second.answered()
    ended(found)


def test_too_many_do_not_wait() -> None:
    found = caching(Cache(waiting_max=1))
    steps = [Asked(found).waits for _ in range(3)]
    assert steps == [False, True, False]


def test_nobody_waits_for_longer_than_it_says_it_can() -> None:
    found = caching()
    Asked(found)
    second = Asked(found, headers={"x-request-timeout": "2"})
    assert isinstance(second.step, Wait)
    assert second.step.seconds == 2


def test_a_wait_of_zero_seconds_is_none() -> None:
    found = caching(Cache(wait_s=0))
    assert [Asked(found).asks for _ in range(2)] == [True, True]


# --- the shared store -----------------------------------------------------------------------------


class Store:
    """A shared store that answers when it is told to."""

    timeout_s = 0.1
    failures = 0
    away = False

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.puts: dict[bytes, Entry] = {}
        self.tells: list[Callable[[Entry | None], None]] = []

    def get(self, key: bytes, told: Callable[[Entry | None], None]) -> bool:
        if self.there:
            self.tells.append(told)
        return self.there

    def put(self, key: bytes, entry: Entry) -> None:
        self.puts[key] = entry


ENTRY = Entry(JSON, False, GOOD, "far@h", None, -5.0, 50.0)


def sharing(store: Store) -> Brain:
    found = caching()
    found.cache.shared = store
    return found


def test_what_another_router_had_answered_is_there() -> None:
    store = Store()
    found = sharing(store)
    first, second = Asked(found), Asked(found)
    assert isinstance(first.step, Wait)
    assert first.step.seconds == 0.1
    store.tells[0](ENTRY)
    later(found).run()
    assert (first.woken, second.woken) == (True, True)
    first.goes_on(0.0)
    second.goes_on(0.0)
    assert (first.hit, second.hit) == (GOOD, GOOD)
    assert b"x-creche-service: far@h" in heads(first)
    assert b"age: 5" in heads(first)
    assert found.cache.shared_hits == 1
    third = Asked(found)
    assert third.hit == GOOD  # it is here as well, from now on
    third.ends()
    first.ends()
    second.ends()
    ended(found)


def test_what_nobody_has_is_asked_of_an_upstream_and_kept_there() -> None:
    store = Store()
    found = sharing(store)
    first = Asked(found)
    store.tells[0](None)
    assert first.woken
    assert isinstance(first.goes_on(), Attempt)
    first.answered()
    assert [one.body for one in store.puts.values()] == [GOOD]
    ended(found)


def test_a_store_that_is_slow_or_away_is_not_waited_for() -> None:
    store = Store()
    found = sharing(store)
    slow = Asked(found)
    assert isinstance(slow.goes_on(0.1), Attempt)
    store.tells[0](ENTRY)  # too late for this one
    assert slow.asks
    slow.answered()
    store.there = False
    assert Asked(found, "ho").asks


def test_who_leaves_while_it_looks_there_hands_its_turn_on() -> None:
    store = Store()
    found = sharing(store)
    first, second = Asked(found), Asked(found)
    first.ends(Outcome.CANCELLED, 499)
    later(found).run()
    assert second.woken
    assert isinstance(second.goes_on(), Attempt)
    store.tells[0](None)
    second.answered()
    ended(found)


# --- explained ------------------------------------------------------------------------------------


def test_a_hit_explains_itself() -> None:
    found = caching()
    Asked(found).answered()
    hit = Asked(found, headers={"x-creche-explain": "1"})
    assert b"x-creche-explain: exact; target=m; cache=hit\r\n" in heads(hit)


def test_explain_says_what_the_cache_would() -> None:
    found = caching()
    assert explain(found, ask("plain"), 0.0).cache is None
    assert explain(found, ask("m"), 0.0).cache == "not kept: its body is no JSON, or above 1 MiB"
    assert explain(brain(service("a@h", "m")), ask("m"), 0.0).cache is None
    hot, cold = b'{"model":"m"}', b'{"model":"m","temperature":0}'
    said = explain(found, ask(envelope=read_json(hot)), 0.0).cache
    assert said == "not kept: temperature is not stated as 0"
    assert explain(found, ask(envelope=read_json(cold)), 0.0).cache == (
        "miss: the answer will be kept"
    )
    plan = found.begin(ask(envelope=read_json(cold)), 0.0)
    plan.next(0.0)
    collector = plan.collect(head())
    assert collector is not None
    collector.add(GOOD)
    plan.ended(End(Outcome.OK, 200, 1.0))
    said = explain(found, ask(envelope=read_json(cold)), 31.0).cache
    assert said == "hit: a@h answered it 30 s ago"
    assert found.cache.waits == 0
