"""Who serves, who starts, who leaves: arithmetic, and any order of events."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.succession import (
    CRASHES_MAX,
    HURRY,
    LEAVING_MAX,
    OWN,
    RELOAD,
    START_S,
    STEADY_S,
    STOP,
    Action,
    Exit,
    Kill,
    Part,
    Say,
    Serve,
    Start,
    Succession,
    Tell,
)


def done(actions: list[Action]) -> list[Action]:
    """Without what is only said."""
    return [one for one in actions if not isinstance(one, Say)]


def serving(watchdog_s: float | None = None) -> Succession:
    """Its first process, 1, serves since 0."""
    machine = Succession(watchdog_s)
    assert machine.begin(0.0) == [Start(1, owns=True)]
    assert machine.ready(1, 0.0) == [Serve(1)]
    return machine


def test_a_start_that_is_refused_ends_all_with_its_status() -> None:
    machine = Succession()
    machine.begin(0.0)
    assert machine.ended(1, 64, 1.0) == [Exit(64)]


def test_the_old_one_is_told_when_the_new_one_is_ready_and_not_before() -> None:
    machine = serving()
    assert machine.replace(1.0) == [Start(2, owns=False)]
    assert done(machine.tick(30.0)) == []
    assert done(machine.ready(2, 31.0)) == [Serve(2), Part(1, 2)]
    assert machine.released(1) == [Tell(2, OWN)]
    assert machine.ended(1, 0, 40.0) == []


def test_files_are_given_on_where_the_old_one_ends_without_a_word() -> None:
    machine = serving()
    machine.replace(1.0)
    machine.ready(2, 2.0)
    assert done(machine.ended(1, 137, 3.0)) == [Tell(2, OWN)]


def test_a_successor_that_ends_before_it_is_ready_changes_nothing() -> None:
    machine = serving()
    machine.replace(1.0)
    (said,) = machine.ended(2, 1, 2.0)
    assert said == Say(
        "error", "the successor ended with 1 before it was ready: the old one serves on"
    )
    assert (machine.serving, machine.owner, machine.starting) == (1, 1, None)
    assert machine.next_at() is None


def test_a_successor_that_is_never_ready_is_killed() -> None:
    machine = serving()
    machine.replace(1.0)
    assert machine.next_at() == 1.0 + START_S
    assert done(machine.tick(1.0 + START_S)) == [Kill(2, at_once=True)]
    machine.ended(2, 137, 62.0)
    assert machine.serving == 1


def test_who_leaves_learns_of_each_later_successor() -> None:
    machine = serving()
    machine.replace(1.0)
    machine.ready(2, 2.0)
    machine.released(1)
    machine.replace(3.0)
    assert done(machine.ready(3, 4.0)) == [Serve(3), Part(1, 3), Part(2, 3)]
    assert machine.released(2) == [Tell(3, OWN)]


def test_one_that_is_asked_for_while_one_starts_follows_it() -> None:
    machine = serving()
    machine.replace(1.0)
    assert done(machine.replace(1.5)) == []
    assert Start(3, owns=False) in machine.ready(2, 2.0)


def test_one_that_is_asked_for_during_the_very_first_start_follows_too() -> None:
    machine = Succession()
    machine.begin(0.0)
    machine.replace(1.0)
    assert machine.ready(1, 2.0) == [Serve(1), Start(2, owns=False)]


def test_a_reload_while_one_starts_has_it_replaced_too() -> None:
    machine = serving()
    machine.replace(1.0)
    assert machine.reload() == [Tell(1, RELOAD)]
    assert Start(3, owns=False) in machine.ready(2, 2.0)


def test_so_many_may_leave_at_once() -> None:
    machine = serving()
    for number in range(2, LEAVING_MAX + 2):
        machine.replace(number)
        machine.ready(number, number)
    (said,) = machine.replace(10.0)
    assert said == Say("error", "not replaced: 4 that were replaced still have requests")
    machine.ended(1, 0, 11.0)
    assert done(machine.replace(12.0)) == [Start(LEAVING_MAX + 2, owns=False)]


def test_a_crash_is_followed_by_another_at_once_and_then_ever_later() -> None:
    machine = serving()
    now, waits = 1.0, []
    for number in range(1, 9):
        machine.ended(number, 137, now)
        at = machine.next_at()
        assert at is not None
        waits.append(round(at - now, 3))
        now = at
        assert machine.tick(now) == [Start(number + 1, owns=True)]
    assert waits == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_after_so_many_in_a_row_the_port_is_given_up() -> None:
    machine = serving()
    for number in range(1, CRASHES_MAX + 1):
        machine.ended(number, 1, 1.0)
        machine.tick(1000.0)
    assert done(machine.ended(CRASHES_MAX + 1, 1, 1001.0)) == [Exit(1)]


def test_one_that_has_served_for_a_while_did_not_crash_in_a_row() -> None:
    machine = serving()
    machine.ended(1, 137, 1.0)
    machine.tick(1.0)
    machine.ready(2, 2.0)
    machine.ended(2, 137, 2.0 + STEADY_S)
    assert machine.next_at() == 2.0 + STEADY_S


def test_a_crash_while_a_successor_starts_needs_no_other() -> None:
    machine = serving()
    machine.replace(1.0)
    assert done(machine.ended(1, 137, 2.0)) == []
    assert machine.next_at() == 1.0 + START_S
    assert done(machine.ready(2, 3.0)) == [Serve(2), Tell(2, OWN)]


def test_stopping_tells_all_then_hurries_them_then_kills() -> None:
    machine = serving()
    machine.replace(1.0)
    machine.ready(2, 2.0)
    assert machine.stop() == [Tell(2, STOP), Tell(1, STOP)]
    assert machine.stop() == [Tell(2, HURRY), Tell(1, HURRY)]
    assert machine.stop() == [Kill(2, at_once=True), Kill(1, at_once=True)]
    assert done(machine.ended(2, 137, 3.0)) == []
    assert done(machine.ended(1, 0, 3.0))[-1] == Exit(137)


def test_one_that_starts_gets_the_signal_before_the_word_lest_it_hurries() -> None:
    machine = serving()
    machine.replace(1.0)
    everybody = [Tell(2, STOP), Tell(1, STOP)]
    assert machine.stop() == [Kill(2, at_once=False), *everybody]
    assert machine.ready(2, 2.0)[-1] == Tell(2, STOP)


def test_nothing_is_started_once_it_stops() -> None:
    machine = serving()
    machine.stop()
    assert done(machine.replace(1.0)) == []
    assert machine.ended(1, 0, 2.0) == [Exit(0)]


def test_one_that_gives_no_sign_of_life_is_killed() -> None:
    machine = serving(watchdog_s=30.0)
    machine.beaten(1, 20.0)
    assert done(machine.tick(49.0)) == []
    assert done(machine.tick(50.0)) == [Kill(1, at_once=True)]


def test_so_is_one_that_leaves() -> None:
    machine = serving(watchdog_s=30.0)
    machine.replace(1.0)
    machine.ready(2, 2.0)
    machine.beaten(2, 29.0)
    assert done(machine.tick(31.0)) == [Kill(1, at_once=True)]
    machine.ended(1, 137, 31.0)
    assert machine.next_at() == 59.0


class AnyOrder(RuleBasedStateMachine):
    """Processes become ready, release, crash and end as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = Succession(30.0)
        self.alive: set[int] = set()
        #: Who was told that it owns the files, and has neither released them nor ended.
        self.owners: set[int] = set()
        self.parted: dict[int, int] = {}
        self.exits: list[int] = []
        self.take(self.machine.begin(0.0))

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(number, owns):
                    assert number not in self.alive
                    self.alive.add(number)
                    if owns:
                        self.owners.add(number)
                case Tell(number, word):
                    assert number in self.alive
                    if word == OWN:
                        self.owners.add(number)
                case Serve(number) | Kill(number):
                    assert number in self.alive
                case Part(old, new):
                    assert {old, new} <= self.alive
                    self.parted[old] = new
                case Exit(status):
                    self.exits.append(status)

    @property
    def over(self) -> bool:
        return bool(self.exits)

    @precondition(lambda self: not self.over)
    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 11.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.machine.tick(self.now))

    @precondition(lambda self: not self.over)
    @rule()
    def asked_to_replace(self) -> None:
        self.take(self.machine.replace(self.now))

    @precondition(lambda self: not self.over)
    @rule()
    def asked_to_reload(self) -> None:
        self.take(self.machine.reload())

    @precondition(lambda self: not self.over)
    @rule()
    def asked_to_stop(self) -> None:
        self.take(self.machine.stop())

    @precondition(lambda self: not self.over and self.alive)
    @rule(data=st.data())
    def one_is_ready(self, data: st.DataObject) -> None:
        self.take(self.machine.ready(data.draw(st.sampled_from(sorted(self.alive))), self.now))

    @precondition(lambda self: not self.over and self.machine.leaving)
    @rule(data=st.data())
    def one_that_leaves_releases(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.machine.leaving))
        self.owners.discard(number)
        self.take(self.machine.released(number))

    @precondition(lambda self: not self.over and self.alive)
    @rule(data=st.data(), status=st.sampled_from([0, 1, 137]))
    def one_ends(self, data: st.DataObject, status: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(number)
        self.owners.discard(number)
        self.take(self.machine.ended(number, status, self.now))

    @precondition(lambda self: self.over)
    @rule()
    def nothing_follows(self) -> None:
        pass

    @invariant()
    def files_have_one_owner_at_most(self) -> None:
        assert len(self.owners) <= 1

    @invariant()
    def whoever_lives_has_one_part(self) -> None:
        machine = self.machine
        parts: list[Any] = [machine.starting, machine.serving, *machine.leaving]
        known = [one for one in parts if one is not None]
        assert sorted(known) == sorted(self.alive)
        assert len(machine.leaving) <= LEAVING_MAX + 1

    @invariant()
    def who_leaves_knows_who_serves(self) -> None:
        if self.machine.serving is not None:
            assert {self.parted[one] for one in self.machine.leaving} <= {self.machine.serving}

    @invariant()
    def somebody_serves_or_comes_unless_it_is_over(self) -> None:
        if not self.over and not self.machine.stops:
            machine = self.machine
            assert machine.serving or machine.starting or machine.next_at() is not None

    @invariant()
    def it_ends_when_nobody_is_left(self) -> None:
        if self.machine.stops and not self.alive:
            assert self.over


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
