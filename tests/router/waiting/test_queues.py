"""All that wait, whatever happens to them: places come and go, clients leave, time passes.

After every step: no place is used twice, nobody waits for a place that is free, no more wait than
may, each is served in its turn, and whoever waited heard of it once.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.config import Queue
from router.waiting.line import Key, Path, Place, Verdict
from router.waiting.queues import Queues, Reason, Refusal

BIG: Key = frozenset({(("big",), None)})


class Fleet:
    """Places at engines: name to what it serves, how many fit and who is there."""

    def __init__(self, **engines: tuple[tuple[str, ...], int]) -> None:
        self.engines = dict(engines)
        self.at: dict[str, list[Asks]] = {name: [] for name in engines}

    def free(self, model: str) -> str | None:
        for name, (models, cap) in self.engines.items():
            if model in models and len(self.at[name]) < cap:
                return name
        return None

    def serves(self, model: str) -> bool:
        return any(model in models for models, _ in self.engines.values())


class Asks:
    """A request: `router.waiting.line.Waiter`."""

    def __init__(self, fleet: Fleet, model: str = "big") -> None:
        self.fleet = fleet
        self.model = model
        self.kind: object = model
        self.cost = 0
        self.place: Place | None = None
        self.engine: str | None = None
        #: Each time it heard that it waits no more, and why.
        self.heard: list[str] = []
        self._why = "went"

    def offered(self, now: float) -> Verdict:
        engine = self.fleet.free(self.model)
        if engine is None:
            return Verdict.FULL if self.fleet.serves(self.model) else Verdict.GOES
        self.takes(engine)
        self._why = "takes"
        return Verdict.TAKES

    def takes(self, engine: str) -> None:
        self.engine = engine
        self.fleet.at[engine].append(self)

    def displaced(self, wait_s: float | None) -> None:
        self._why = "displaced"

    def called(self) -> None:
        self.place = None
        self.heard.append(self._why)

    def ends(self) -> None:
        assert self.engine is not None
        self.fleet.at[self.engine].remove(self)
        self.engine = None


def key(model: str) -> Key:
    return frozenset({((model,), None)})


def path(who: str, *, band: int = 1, weight: float = 1.0) -> Path:
    return (band, (16.0, 4.0, 1.0)[band]), (who, weight)


class Desk:
    """Requests come to a fleet: each runs, waits, or is refused."""

    def __init__(self, fleet: Fleet, service_s: float | None = None, **config: Any) -> None:
        self.fleet = fleet
        self.queues = Queues(Queue(**config))
        self.service_s = service_s
        self.now = 0.0

    def ask(
        self, who: str = "ana", model: str = "big", *, patience_s: float = 30.0, **more: Any
    ) -> tuple[Asks, Place | Refusal | None]:
        asks = Asks(self.fleet, model)
        engine = self.fleet.free(model)
        if engine is not None:
            asks.takes(engine)
            return asks, None
        found = self.queues.enter(
            asks,
            key(model),
            path(who, **more),
            patience_s,
            self.now,
            capacity=lambda: (sum(cap for _, cap in self.fleet.engines.values()), self.service_s),
        )
        if isinstance(found, Place):
            asks.place = found
        return asks, found

    def end(self, asks: Asks) -> None:
        asks.ends()
        self.queues.offer(self.now)


def _one(**more: Any) -> Desk:
    return Desk(Fleet(a=(("big",), 1)), **more)


def test_a_place_that_comes_free_goes_to_the_one_who_waits_longest() -> None:
    desk = _one()
    runs, _ = desk.ask()
    first, _ = desk.ask()
    second, _ = desk.ask()
    desk.end(runs)
    assert (first.heard, second.heard) == (["takes"], [])
    assert desk.queues.waiting == 1


def test_as_many_are_called_as_there_are_places_and_no_more() -> None:
    desk = Desk(Fleet(a=(("big",), 1)))
    desk.ask()
    waiting = [desk.ask()[0] for _ in range(5)]
    desk.fleet.engines["a"] = (("big",), 4)
    desk.queues.offer(desk.now)
    assert [one.heard for one in waiting] == [["takes"]] * 3 + [[]] * 2


def test_one_that_cannot_use_the_place_does_not_keep_the_next_from_it() -> None:
    desk = Desk(Fleet(a=(("big",), 1), b=(("big", "small"), 1)))
    runs, _ = desk.ask()
    desk.ask()
    small, _ = desk.ask(model="small")
    big, _ = desk.ask()
    desk.end(runs)
    assert (small.heard, big.heard) == ([], ["takes"])


def test_models_on_one_engine_take_turns() -> None:
    desk = Desk(Fleet(a=(("big", "small"), 1)))
    runs, _ = desk.ask()
    waiting = [desk.ask(model=model)[0] for model in ("big", "big", "big", "small", "small")]
    served = []
    for _ in waiting:
        desk.end(runs)
        runs = desk.fleet.at["a"][0]
        served.append(runs.model)
    assert served == ["big", "small", "big", "small", "big"]


def test_one_whose_last_engine_went_is_told_to_go_on() -> None:
    desk = _one()
    desk.ask()
    waits, _ = desk.ask()
    del desk.fleet.engines["a"]
    desk.queues.offer(desk.now)
    assert waits.heard == ["went"]
    assert desk.queues.waiting == 0 and not desk.queues.lines


def test_an_offer_that_fails_stops_no_later_one() -> None:
    desk = _one()
    runs, _ = desk.ask()
    waits, _ = desk.ask()
    offered, waits.offered = waits.offered, _fails  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        desk.end(runs)
    waits.offered = offered  # type: ignore[method-assign]
    desk.queues.offer(desk.now)
    assert waits.heard == ["takes"]


def _fails(now: float) -> Verdict:
    raise ZeroDivisionError


def test_one_that_comes_displaces_one_though_both_bounds_are_reached() -> None:
    desk = _one(waiting_max=4, waiting_in_all_max=4)
    desk.ask()
    heavy = [desk.ask("heavy")[0] for _ in range(4)]
    _, light = desk.ask("light")
    assert isinstance(light, Place)
    assert [one.heard for one in heavy].count(["displaced"]) == 1
    assert desk.queues.waiting == 4


def test_one_that_left_is_not_called() -> None:
    desk = _one()
    runs, _ = desk.ask()
    left, place = desk.ask()
    stays, _ = desk.ask()
    assert isinstance(place, Place)
    desk.queues.leave(place)
    desk.end(runs)
    assert (left.heard, stays.heard) == ([], ["takes"])


# --- who may wait ---------------------------------------------------------------------------------


def test_the_wait_is_predicted_from_what_answers_took_until_turns_were_seen() -> None:
    desk = Desk(Fleet(a=(("big",), 2)), service_s=4.0)
    desk.ask(), desk.ask()
    waits = [desk.ask()[1] for _ in range(3)]
    assert [w.predicted_s for w in waits if isinstance(w, Place)] == [2.0, 4.0, 6.0]


def test_one_that_would_wait_too_long_is_refused_before_it_has() -> None:
    desk = _one(service_s=10.0)
    desk.ask()
    for who in ("a", "b"):
        assert isinstance(desk.ask(who)[1], Place)
    refused = desk.ask("c", patience_s=25.0)[1]
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.wait_s, refused.waiting) == (Reason.WAIT, 30.0, 2)
    assert desk.queues.waiting == 2


def test_one_whose_own_backlog_is_why_it_would_wait_too_long_hears_that() -> None:
    desk = _one(service_s=10.0)
    desk.ask()
    for _ in range(3):
        assert isinstance(desk.ask("ana")[1], Place)
    refused = desk.ask("ana", patience_s=25.0)[1]
    assert isinstance(refused, Refusal) and refused.reason is Reason.SHARE
    assert refused.own == 3
    assert isinstance(desk.ask("bob", patience_s=25.0)[1], Place), "his share is untouched"


def test_nobody_is_refused_for_a_wait_that_is_not_known() -> None:
    desk = _one()
    desk.ask()
    places = [desk.ask(patience_s=0.001)[1] for _ in range(5)]
    assert all(isinstance(one, Place) and one.predicted_s is None for one in places)


def test_turns_that_come_faster_or_slower_correct_the_prediction() -> None:
    desk = _one(service_s=10.0)
    runs, _ = desk.ask()
    for _ in range(30):
        desk.ask(patience_s=1e6)
    for _ in range(25):
        desk.now += 1.0
        desk.end(runs)
        runs = desk.fleet.at["a"][0]
    line = desk.queues.lines[BIG]
    gap_s = line.gap_s(desk.now)
    assert gap_s is not None and 1.0 <= gap_s < 2.0
    assert line.gap_s(desk.now + 60.0) == 60.0, "where nothing moves it grows"


def test_who_has_much_waiting_is_told_how_others_that_ask_seldom_delay_it() -> None:
    """Every other turn goes to one that has just come: `ana` is overtaken by as many as she has."""
    desk = _one(service_s=1.0)
    runs, _ = desk.ask("ana")
    told: dict[Asks, float] = {}
    waited = []
    for _ in range(400):
        while desk.queues.waiting < 20:
            ana, place = desk.ask("ana", patience_s=1e6)
            assert isinstance(place, Place) and place.predicted_s is not None
            told[ana] = desk.now + place.predicted_s
        desk.ask("bob")
        desk.now += 1.0
        desk.end(runs)
        runs = desk.fleet.at["a"][0]
        if runs in told:
            waited.append(desk.now - told.pop(runs))
    assert abs(sum(waited[-50:]) / 50) < 5, "of forty seconds"


def test_who_has_no_time_to_wait_does_not() -> None:
    desk = _one()
    desk.ask()
    refused = desk.ask(patience_s=0.0)[1]
    assert isinstance(refused, Refusal) and refused.reason is Reason.WAIT


def test_a_caller_alone_may_fill_the_queue_and_no_more() -> None:
    desk = _one(waiting_max=3)
    desk.ask()
    for _ in range(3):
        assert isinstance(desk.ask()[1], Place)
    refused = desk.ask()[1]
    assert isinstance(refused, Refusal) and refused.reason is Reason.SHARE


def test_where_all_have_one_place_the_next_finds_the_queue_full() -> None:
    desk = _one(waiting_max=2)
    desk.ask()
    desk.ask("a"), desk.ask("b")
    refused = desk.ask("c")[1]
    assert isinstance(refused, Refusal) and refused.reason is Reason.FULL


def test_one_with_a_smaller_share_displaces_the_last_of_the_one_with_the_largest() -> None:
    desk = _one(waiting_max=3)
    desk.ask()
    flood = [desk.ask("ana")[0] for _ in range(3)]
    _bob, place = desk.ask("bob")
    assert isinstance(place, Place)
    assert [one.heard for one in flood] == [[], [], ["displaced"]]
    assert desk.queues.waiting == 3


def test_a_flood_of_one_band_is_displaced_by_the_same_callers_more_urgent_request() -> None:
    desk = _one(waiting_max=2)
    desk.ask()
    low = [desk.ask("ana", band=2)[0] for _ in range(2)]
    _high, place = desk.ask("ana", band=0)
    assert isinstance(place, Place)
    assert [one.heard for one in low] == [[], ["displaced"]]


def test_a_weight_entitles_to_places() -> None:
    desk = _one(waiting_max=4)
    desk.ask()
    for _ in range(3):
        desk.ask("ana", weight=4.0)
    desk.ask("bob")
    refused = desk.ask("bob")[1]
    assert isinstance(refused, Refusal) and refused.reason is Reason.SHARE


def test_a_flood_of_many_models_leaves_room_in_all_for_others() -> None:
    desk = Desk(Fleet(a=(("big", "small", "code"), 1)), waiting_in_all_max=4)
    desk.ask()
    flood = [desk.ask("ana", model)[0] for model in ("big", "big", "small", "small")]
    assert isinstance(desk.ask("bob", "code")[1], Place)
    assert sum(one.heard == ["displaced"] for one in flood) == 1


# --- whatever happens -----------------------------------------------------------------------------

CALLERS = ("ana", "bob", "eve")
MODELS = ("big", "small")
ENGINES = {"a": ("big",), "b": ("small",), "c": ("big", "small")}
AT = st.integers(0, 20)
CONFIG = Queue(waiting_max=5, waiting_in_all_max=8)


class Crowds(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(a=(("big",), 1), b=(("small",), 2), c=(("big", "small"), 1))
        self.desk = Desk(self.fleet, waiting_max=5, waiting_in_all_max=8)
        self.queues = self.desk.queues
        self.waiting: list[tuple[Asks, Path]] = []
        self.all: list[Asks] = []

    @rule(
        who=st.sampled_from(CALLERS),
        model=st.sampled_from(MODELS),
        band=st.integers(0, 2),
        patience_s=st.sampled_from((0.0, 1.0, 30.0)),
    )
    def arrives(self, who: str, model: str, band: int, patience_s: float) -> None:
        asks, found = self.desk.ask(who, model, band=band, patience_s=patience_s)
        self.all.append(asks)
        if isinstance(found, Place):
            self.waiting.append((asks, found.path))
        self._look()

    @rule(at=AT)
    def ends(self, at: int) -> None:
        running = [one for found in self.fleet.at.values() for one in found]
        if running:
            one = running[at % len(running)]
            engine = one.engine
            one.ends()
            before = [(asks, way) for asks, way in self.waiting if asks.place is not None]
            self.queues.offer(self.desk.now, lambda key: _reaches(key, engine))
            self._in_turn(before)
        self._look()

    @rule(at=AT)
    def leaves(self, at: int) -> None:
        waiting = [one for one, _ in self.waiting if one.place is not None]
        if waiting:
            one = waiting[at % len(waiting)]
            assert one.place is not None
            self.queues.leave(one.place)
            one.place = None
            one.heard.append("left")
        self._look()

    @rule(seconds=st.sampled_from((0.1, 1.0, 31.0)))
    def waits(self, seconds: float) -> None:
        """Time is up for some."""
        self.desk.now += seconds
        for one, _ in self.waiting:
            if one.place is not None and one.place.until <= self.desk.now:
                self.queues.leave(one.place)
                one.place = None
                one.heard.append("late")
        self._look()

    @rule(engine=st.sampled_from(sorted(ENGINES)), cap=st.integers(0, 3))
    def changes(self, engine: str, cap: int) -> None:
        """0: it leaves; who runs there may end."""
        if cap:
            self.fleet.engines[engine] = (ENGINES[engine], cap)
        else:
            self.fleet.engines.pop(engine, None)
        self.queues.offer(self.desk.now)
        self._look()

    def _in_turn(self, before: list[tuple[Asks, Path]]) -> None:
        """Of one caller, band and model nobody was called before one that came earlier."""
        for at, (later, way) in enumerate(before):
            for earlier, other in before[:at]:
                if later.heard and not earlier.heard and way == other:
                    assert later.model != earlier.model

    def _look(self) -> None:
        self.waiting = [(one, way) for one, way in self.waiting if one.place is not None]

    @invariant()
    def those_that_wait_are_counted_and_no_more_than_may(self) -> None:
        assert self.queues.waiting == len(self.waiting)
        assert self.queues.waiting <= CONFIG.waiting_in_all_max
        lines = self.queues.lines.values()
        assert sum(len(line.order) for line in lines) == self.queues.waiting
        assert all(0 < len(line.order) <= CONFIG.waiting_max for line in lines)

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        for one, _ in self.waiting:
            assert self.fleet.free(one.model) is None

    @invariant()
    def each_heard_once_of_its_end(self) -> None:
        for one in self.all:
            assert len(one.heard) <= 1

    def teardown(self) -> None:
        for _ in range(1_000):
            running = [one for found in self.fleet.at.values() for one in found]
            if not running:
                break
            self.desk.end(running[0])
        self.queues.offer(self.desk.now)
        assert self.queues.waiting == 0 and not self.queues.lines


def _reaches(key: Key, engine: str | None) -> bool:
    return any({*models} & {*ENGINES[engine or ""]} for models, _ in key)


Crowds.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCrowds = Crowds.TestCase


@pytest.mark.parametrize("calm", [True, False])
def test_a_key_that_floods_delays_another_by_a_turn_and_no_more(calm: bool) -> None:
    """One place; `bob` asks now and then while `ana` always has fifty waiting."""
    desk = _one()
    runs, _ = desk.ask("ana")
    waits = []
    for _ in range(20):
        while not calm and desk.queues.waiting < 50:
            desk.ask("ana")
        bob, place = desk.ask("bob")
        turns = 0
        while place is not None and not bob.heard:
            desk.end(runs)
            runs = desk.fleet.at["a"][0]
            turns += 1
        waits.append(turns)
        if runs is not bob:
            continue
        desk.end(bob)
        if not desk.fleet.at["a"]:
            desk.ask("ana")
        runs = desk.fleet.at["a"][0]
    assert max(waits) <= (1 if calm else 2)
