"""Requests that wait for a place, on a Brain: whose turn it is, who is refused, what comes back."""

from typing import Any

import pytest

from router.brain import Brain
from router.caller import Caller
from router.config import Config, Queue
from router.errors import Problem
from router.explain import explain
from router.named import Limits, Model, Tenant
from router.outcome import Failure, Outcome
from router.seam import Attempt, Step, Wait
from tests.router.making import ask, begin, brain, end, in_flight, name_of, reload, service

ONE = Limits(max_concurrency=1)


def _engine(name: str, *models: str, cap: int | None = 1, **more: Any) -> Any:
    return service(name, *(models or ("big",)), metadata={"max_concurrency": cap}, **more)


def _fleet(*engines: Any, queue: Queue | None = None, **config: Any) -> Brain:
    found = Config(queue=queue or Queue(), expect=("big", "small"), **config)
    return brain(*(engines or (_engine("a@h"),)), config=found)


class Client:
    """A request, and the relay in its place: it goes on when it is called."""

    def __init__(self, found: Brain, model: str = "big", now: float = 0.0, **more: Any) -> None:
        self.plan = begin(found, model, now=now, **more)
        self.step: Step = self.plan.next(now)
        self.wakes = 0
        self.plan.wake = self._wake

    def _wake(self) -> None:
        self.wakes += 1

    def goes_on(self, now: float = 0.0) -> Step:
        self.step = self.plan.next(now)
        return self.step

    def ends(self, now: float = 0.0, outcome: Outcome = Outcome.OK) -> None:
        if outcome is Outcome.OK:
            self.plan.answered(200, None, now)
        self.plan.ended(end(outcome, now=now))


def _refused(client: Client) -> Problem:
    assert isinstance(client.step, Problem), client.step
    return client.step


# --- places ---------------------------------------------------------------------------------------


def test_one_too_many_waits_and_has_the_place_that_comes_free() -> None:
    found = _fleet()
    first, second = Client(found), Client(found)
    assert (name_of(first.step), type(second.step)) == ("a@h", Wait)
    assert found.models["big"].queued == 1
    first.ends(now=2.0)
    assert second.wakes == 1
    assert name_of(second.goes_on(2.5)) == "a@h"
    assert second.plan.queued_s == 2.5
    second.ends(now=3.0)
    assert in_flight(found) == 0 and found.queues.waiting == 0


def test_a_place_that_is_given_is_taken_at_once_so_nobody_comes_in_between() -> None:
    found = _fleet()
    first, second = Client(found), Client(found)
    first.ends()
    barges = Client(found)
    assert isinstance(barges.step, Wait)
    assert isinstance(second.goes_on(), Attempt)


def test_one_that_left_before_it_took_its_place_gives_it_to_the_next() -> None:
    found = _fleet()
    first, second, third = Client(found), Client(found), Client(found)
    first.ends()
    second.ends(outcome=Outcome.CANCELLED)
    assert (second.wakes, third.wakes) == (1, 1)
    assert isinstance(third.goes_on(), Attempt)


def test_one_that_left_the_queue_is_not_called() -> None:
    found = _fleet()
    first, second, third = Client(found), Client(found), Client(found)
    second.ends(outcome=Outcome.CANCELLED)
    first.ends()
    assert (second.wakes, third.wakes) == (0, 1)
    assert found.models["big"].queued == 1, "the third, until the relay asks"


def test_each_end_lets_one_in() -> None:
    found = _fleet(_engine("a@h", cap=2), _engine("b@h", cap=1))
    clients = [Client(found) for _ in range(8)]
    assert sum(isinstance(one.step, Attempt) for one in clients) == 3
    clients[0].ends()
    assert [one.wakes for one in clients[3:]] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("failure", [Failure.CLOSED, Failure.MALFORMED])
def test_an_attempt_that_failed_frees_its_place_as_well(failure: Failure) -> None:
    found = _fleet(_engine("a@h"), _engine("b@h"))
    first, _other, waits = Client(found), Client(found), Client(found)
    assert isinstance(first.plan.failed(failure, True, 0.0), Wait), "only its own place is left"
    assert waits.wakes == 1, "it was next"
    assert isinstance(waits.goes_on(), Attempt)
    assert isinstance(first.goes_on(0.1), Wait), "now it is the one that waits"
    assert found.queues.waiting == 1


def test_where_nothing_has_a_limit_nobody_waits() -> None:
    found = _fleet(_engine("a@h", cap=None))
    clients = [Client(found) for _ in range(50)]
    assert all(isinstance(one.step, Attempt) for one in clients)
    assert clients[0].step is found.table.upstreams["a@h"].node.first_attempt


def test_models_that_share_an_engine_share_its_places() -> None:
    found = _fleet(_engine("a@h", "big", "small"))
    first, second = Client(found, "big"), Client(found, "small")
    assert isinstance(second.step, Wait)
    first.ends()
    assert name_of(second.goes_on()) == "a@h"


# --- learning -------------------------------------------------------------------------------------


def test_a_429_is_not_passed_on_but_waited_out_where_others_run() -> None:
    found = _fleet(_engine("a@h", cap=None))
    clients = [Client(found) for _ in range(3)]
    step = clients[2].plan.answered(429, 1.0, now=0.0)
    assert isinstance(step, Wait) and step.seconds == 1.0
    later = Client(found, now=0.5)
    assert isinstance(later.step, Wait), "it rests, and takes two"
    assert isinstance(clients[2].goes_on(1.0), Wait), "its rest is over, and two are there"
    clients[0].ends(now=1.1)
    assert name_of(clients[2].goes_on(1.1)) == "a@h"
    assert isinstance(later.goes_on(1.1), Wait)


def test_a_429_to_a_single_request_is_passed_on() -> None:
    found = _fleet(_engine("a@h", cap=None))
    client = Client(found)
    assert client.plan.answered(429, 1.0, now=0.0) is None


def test_a_429_that_says_no_time_is_for_fewer_at_once_and_no_rest() -> None:
    found = _fleet(_engine("a@h", cap=None))
    clients = [Client(found) for _ in range(3)]
    assert isinstance(clients[2].plan.answered(429, None, now=0.0), Wait)
    clients[0].ends(now=0.1)
    assert name_of(clients[2].goes_on(0.1)) == "a@h", "no minute for what two places explain"
    assert found.table.upstreams["a@h"].node.rest_until == 0.0


def test_a_429_that_says_no_time_to_one_alone_is_for_a_rest() -> None:
    found = _fleet(_engine("a@h", cap=None))
    assert Client(found).plan.answered(429, None, now=0.0) is None
    assert found.table.upstreams["a@h"].node.rest_until == 60.0


def test_an_engine_that_has_not_heard_yet_who_left_does_not_rest_for_it() -> None:
    found = _fleet()
    leaves, waits = Client(found), Client(found)
    leaves.ends(now=1.0, outcome=Outcome.CANCELLED)
    assert name_of(waits.goes_on(1.0)) == "a@h"
    step = waits.plan.answered(429, None, now=1.001)
    assert isinstance(step, Wait) and step.seconds <= 0.1, "asked once more, a moment later"
    assert name_of(waits.goes_on(1.1)) == "a@h"
    assert found.table.upstreams["a@h"].node.rest_until == 0.0


def test_a_burst_that_an_engine_refuses_is_served_by_it_one_after_another() -> None:
    """Eight at once where two fit: six refusals, as they come, and not one for a client."""
    found = _fleet(_engine("a@h", cap=None))
    clients = [Client(found) for _ in range(8)]
    for client in clients[2:]:
        client.step = client.plan.answered(429, None, now=0.0)  # type: ignore[assignment]
        assert isinstance(client.step, Wait)
    runs, waits, now = clients[:2], clients[2:], 0.0
    while runs:
        now += 1.0
        for one in runs:
            one.ends(now=now)
        runs = [one for one in waits if isinstance(one.goes_on(now), Attempt)]
        assert len(runs) == min(2, len(waits))
        waits = [one for one in waits if one not in runs]
    assert (now, in_flight(found), found.queues.waiting) == (4.0, 0, 0)


def test_who_may_not_wait_for_a_rest_is_served_as_a_last_resort() -> None:
    found = _fleet(_engine("a@h", cap=None))
    clients = [Client(found) for _ in range(3)]
    clients[2].plan.answered(429, 60.0, now=0.0)
    clients[2].ends(outcome=Outcome.BACKPRESSURE)
    clients[0].ends()
    assert name_of(Client(found, now=1.0).step) == "a@h", "60 s are too long"


def test_nothing_is_learnt_where_the_file_says_so() -> None:
    found = _fleet(_engine("a@h", cap=None), queue=Queue(learn=False))
    clients = [Client(found) for _ in range(3)]
    assert clients[2].plan.answered(429, 1.0, now=0.0) is None
    assert isinstance(Client(found, now=2.0).step, Attempt)


# --- who is refused -------------------------------------------------------------------------------


def _slow_fleet(**more: Any) -> Brain:
    """One place, and answers take 10 s."""
    found = _fleet(**more)
    client = Client(found)
    client.ends(now=10.0)
    return found


def test_a_wait_too_long_is_refused_at_once_with_when_to_come_back() -> None:
    found = _slow_fleet()
    Client(found)
    for at in range(2):
        assert isinstance(Client(found, headers={}, client=f"10.0.0.{at}").step, Wait)
    problem = _refused(Client(found, headers={"x-request-timeout": "25"}, client="10.0.0.9"))
    assert (problem.status, problem.code, problem.retry_after_s) == (503, "overloaded", 5)
    assert found.models["big"].unqueued == {"wait": 1}


def test_ones_own_backlog_is_answered_with_429_and_anothers_is_not() -> None:
    found = _slow_fleet()
    Client(found)
    for _ in range(2):
        Client(found, client="10.0.0.1")
    late = {"x-request-timeout": "25"}
    own = _refused(Client(found, headers=late, client="10.0.0.1"))
    assert (own.status, own.code) == (429, "rate_limit_exceeded")
    assert isinstance(Client(found, headers=late, client="10.0.0.2").step, Wait)


def test_a_queue_that_is_full_displaces_who_floods_it() -> None:
    found = _fleet(queue=Queue(waiting_max=2))
    Client(found)
    flood = [Client(found, client="10.0.0.1") for _ in range(2)]
    other = Client(found, client="10.0.0.2")
    assert isinstance(other.step, Wait)
    assert [one.wakes for one in flood] == [0, 1]
    flood[1].goes_on()
    assert _refused(flood[1]).status == 429


def test_a_wait_that_was_in_vain_ends_with_503() -> None:
    found = _fleet()
    Client(found)
    waits = Client(found)
    assert isinstance(waits.step, Wait) and waits.step.seconds == 30
    waits.goes_on(30.0)
    problem = _refused(waits)
    assert (problem.status, problem.code) == (503, "overloaded")
    assert "30 s" in problem.message
    waits.plan.ended(end(Outcome.REFUSED, 503, now=30.0))
    assert found.queues.waiting == 0 and found.models["big"].queued == 0


def test_who_will_not_wait_is_told_so_at_once() -> None:
    found = _fleet()
    Client(found)
    assert _refused(Client(found, headers={"x-request-timeout": "0"})).status == 503


@pytest.mark.parametrize(
    "headers",
    [{"x-priority": "urgent"}, {"x-request-timeout": "soon"}, {"x-request-timeout": "-1"}],
)
def test_headers_that_say_nothing_known_are_400(headers: dict[str, str]) -> None:
    with pytest.raises(Exception, match="is not") as error:
        begin(_fleet(), "big", headers=headers)
    assert getattr(error.value, "problem").status == 400  # noqa: B009


# --- whose turn -----------------------------------------------------------------------------------


def _order(found: Brain, runs: Client, clients: dict[str, Client]) -> list[str]:
    """Who is called, as one after the other ends."""
    served = []
    for _ in clients:
        runs.ends()
        who = next(n for n, c in clients.items() if c.wakes and isinstance(c.step, Wait))
        runs = clients[who]
        runs.goes_on()
        served.append(who)
    return served


def test_a_priority_goes_first_and_a_low_one_is_not_starved() -> None:
    found = _fleet()
    runs = Client(found)
    clients = {
        f"{band}{at}": Client(found, headers={"x-priority": band})
        for band in ("low", "normal", "high")
        for at in range(3)
    }
    served = _order(found, runs, clients)
    assert served[:3] == ["low0", "normal0", "high0"], "nobody has had a turn"
    assert served[3:5] == ["high1", "high2"]


def _by(caller: Caller) -> dict[str, Any]:
    return {"caller": caller}


def test_keys_of_one_tenant_share_its_weight_with_others() -> None:
    found = _fleet(tenants={"lab": Tenant(weight=2)})
    runs = Client(found)
    ana, bob = (Caller(name, id=name, tenant="lab") for name in ("ana", "bob"))
    eve = Caller("eve", id="eve")
    clients = {
        f"{caller.name}{at}": Client(found, caller=caller)
        for at in range(4)
        for caller in (ana, bob, eve)
    }
    served = _order(found, runs, clients)[:6]
    assert sorted(one[:3] for one in served) == ["ana", "ana", "bob", "bob", "eve", "eve"]


def test_a_key_is_held_to_the_band_it_may_use() -> None:
    found = _fleet()
    Client(found)
    held = Client(found, caller=Caller("ana", id="1", band_max=2), headers={"x-priority": "high"})
    assert held.plan.place is not None
    assert held.plan.place.path[0] == (2, 1.0)


# --- chains and targets ---------------------------------------------------------------------------


def test_another_target_of_the_same_name_is_asked_rather_than_waited_for() -> None:
    found = _fleet(
        _engine("a@h", "big"),
        _engine("b@h", "small"),
        models={"code": Model(targets={"big": 1, "small": 1})},
    )
    names = {name_of(Client(found, "code").step) for _ in range(2)}
    assert names == {"a@h", "b@h"}
    assert isinstance(Client(found, "code").step, Wait)


def test_a_busy_model_is_waited_for_and_its_chain_left_alone() -> None:
    found = _fleet(
        _engine("a@h", "big"), _engine("b@h", "small"), models={"big": Model(fallbacks=("small",))}
    )
    first, waits = Client(found), Client(found)
    assert isinstance(waits.step, Wait)
    first.ends()
    assert name_of(waits.goes_on()) == "a@h"


def test_the_chain_has_it_at_once_where_the_wait_would_be_too_long() -> None:
    found = _fleet(
        _engine("a@h", "big"), _engine("b@h", "small"), models={"big": Model(fallbacks=("small",))}
    )
    Client(found).ends(now=40.0)
    Client(found)
    falls_back = Client(found)
    assert name_of(falls_back.step) == "b@h"
    assert b"x-creche-fallback" in falls_back.plan.answer_head


def test_the_chain_has_it_when_its_time_is_up() -> None:
    found = _fleet(
        _engine("a@h", "big"), _engine("b@h", "small"), models={"big": Model(fallbacks=("small",))}
    )
    Client(found)
    waits = Client(found)
    assert name_of(waits.goes_on(30.0)) == "b@h"


def test_a_full_upstream_is_waited_for_rather_than_one_that_is_out() -> None:
    found = _fleet(_engine("a@h"), _engine("b@h"))
    out = found.table.upstreams["b@h"].node
    found.fitness.failed(out, out.breaker.life, 0.0, connect=True)
    Client(found)
    assert isinstance(Client(found).step, Wait)


# --- limits of the file ---------------------------------------------------------------------------


def test_a_models_own_places_are_waited_for_too() -> None:
    found = _fleet(
        _engine("a@h", cap=None), models={"big": Model(limits=Limits(max_concurrency=1))}
    )
    first, waits = Client(found), Client(found)
    assert isinstance(waits.step, Wait)
    first.ends()
    assert waits.wakes == 1
    assert name_of(waits.goes_on()) == "a@h"


def test_what_it_would_wait_for_too_long_of_the_file_is_429() -> None:
    found = _fleet(
        _engine("a@h", cap=None), models={"big": Model(limits=Limits(max_concurrency=1))}
    )
    Client(found)
    assert _refused(Client(found, headers={"x-request-timeout": "0"})).status == 429


def test_a_rate_is_not_waited_for() -> None:
    found = _fleet(_engine("a@h", cap=None), models={"big": Model(limits=Limits(rpm=1))})
    Client(found)
    assert _refused(Client(found)).status == 429


# --- the world changes ----------------------------------------------------------------------------


def test_a_new_engine_takes_those_that_wait() -> None:
    found = _fleet()
    Client(found)
    waits = [Client(found) for _ in range(3)]
    found.apply({"b@h": _engine("b@h", cap=2)})
    found.freed(1.0)
    assert [one.wakes for one in waits] == [1, 1, 0]
    assert name_of(waits[0].goes_on(1.0)) == "b@h"


def test_those_whose_last_engine_went_are_told_and_do_not_wait_on() -> None:
    found = _fleet()
    Client(found)
    waits = Client(found)
    found.apply({"a@h": None})
    found.freed(1.0)
    assert waits.wakes == 1
    waits.goes_on(1.0)
    assert _refused(waits).code == "no_healthy_services"


def test_a_record_that_takes_more_lets_more_in_at_once() -> None:
    found = _fleet()
    Client(found)
    waits = [Client(found) for _ in range(3)]
    found.apply({"a@h": _engine("a@h", cap=3)})
    found.freed(1.0)
    assert [one.wakes for one in waits] == [1, 1, 0]


def test_a_rest_that_is_over_lets_them_in_within_a_second() -> None:
    found = _fleet()
    runs = Client(found)
    runs.plan.answered(429, 5.0, 0.0)
    waits = Client(found, now=1.0)
    found.tick(4.0)
    assert waits.wakes == 0
    runs.ends(now=4.5)
    assert waits.wakes == 0, "it still rests"
    found.tick(5.0)
    assert waits.wakes == 1


def test_those_that_wait_outlive_a_reload() -> None:
    found = _fleet()
    first, waits = Client(found), Client(found)
    reload(found, Config(queue=Queue(waiting_max=0), expect=("big", "small")))
    first.ends()
    assert name_of(waits.goes_on()) == "a@h"


# --- what is shown --------------------------------------------------------------------------------


def test_explain_says_what_is_full_and_who_waits() -> None:
    found = _fleet()
    Client(found), Client(found), Client(found)
    told = explain(found, ask("big"), 0.0)
    assert told.targets[0].candidates[0].why == "at capacity: 1 of 1 in flight; 2 waiting"
    assert told.queue == "it would wait for a place, as 2 others do"
    assert (told.chosen, told.error) == (None, None)
    assert found.queues.waiting == 2, "nothing was taken"


def test_a_displaced_request_falls_back_to_its_chain() -> None:
    found = _fleet(
        _engine("a@h", "big"),
        _engine("b@h", "small"),
        models={"big": Model(fallbacks=("small",))},
        queue=Queue(waiting_max=1),
    )
    Client(found)
    flood = Client(found, client="10.0.0.1"), Client(found, client="10.0.0.1")
    assert name_of(flood[1].step) == "b@h", "the queue is full of its own"
    assert isinstance(flood[0].step, Wait)
