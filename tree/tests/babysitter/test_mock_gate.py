"""A limit on requests at once, and a queue in the order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from babysitter.mock.gate import Entry, Gate


def test_beyond_the_limit_requests_wait_in_order() -> None:
    gate: Gate[str] = Gate(limit=1, queue_max=2)
    entries = [gate.enter(who) for who in "abcd"]
    assert entries == [Entry.RUNNING, Entry.QUEUED, Entry.QUEUED, Entry.REFUSED]
    assert [gate.leave(), gate.leave(), gate.leave()] == ["b", "c", None]
    assert (gate.running, gate.queued) == (0, 0)


def test_one_that_gives_up_is_passed_over() -> None:
    gate: Gate[str] = Gate(limit=1, queue_max=9)
    for who in "abc":
        gate.enter(who)
    gate.give_up("b")
    assert gate.leave() == "c"


def test_no_limit_means_nobody_waits() -> None:
    gate: Gate[int] = Gate(limit=0, queue_max=1)
    assert {gate.enter(who) for who in range(50)} == {Entry.RUNNING}
    assert gate.running == 50


@given(st.lists(st.sampled_from(["enter", "leave", "give up"]), max_size=60), st.integers(0, 4))
def test_what_enters_leaves_and_the_limit_holds(acts: list[str], limit: int) -> None:
    gate: Gate[int] = Gate(limit, queue_max=5)
    running: list[int] = []
    queued: list[int] = []
    for number, act in enumerate(acts):
        match act:
            case "enter":
                match gate.enter(number):
                    case Entry.RUNNING:
                        running.append(number)
                    case Entry.QUEUED:
                        queued.append(number)
            case "leave" if running:
                running.pop()
                if (successor := gate.leave()) is not None:
                    assert successor == queued.pop(0)
                    running.append(successor)
            case "give up" if queued:
                gate.give_up(queued.pop())
        assert (gate.running, gate.queued) == (len(running), len(queued))
        assert not limit or gate.running <= limit
        assert not queued or gate.running == limit
