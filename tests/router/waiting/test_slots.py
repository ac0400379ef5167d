"""How many requests an upstream takes at once, by its record and by its refusals."""

from hypothesis import given
from hypothesis import strategies as st

from router.waiting.slots import FORGET_S, RAISE_AFTER, Slots


def test_it_takes_what_it_declares_and_any_number_where_it_says_nothing() -> None:
    assert Slots(4).cap == 4
    assert not Slots().known


def test_a_refusal_teaches_that_one_less_is_enough() -> None:
    slots = Slots()
    slots.refused(5, now=0.0)
    assert slots.cap == 4


def test_a_burst_that_is_refused_from_the_top_leaves_what_fits() -> None:
    slots = Slots()
    for in_flight in range(14, 4, -1):  # ten of fourteen
        slots.refused(in_flight, now=0.0)
    assert slots.cap == 4


def test_a_single_request_that_is_refused_says_nothing_of_how_many() -> None:
    slots = Slots()
    slots.refused(1, now=0.0)
    assert not slots.known


def test_there_is_always_one_place() -> None:
    slots = Slots()
    for in_flight in (3, 2, 1, 1):
        slots.refused(in_flight, now=0.0)
    assert slots.cap == 1


def test_good_answers_while_it_is_full_make_room_for_one_more() -> None:
    slots = Slots()
    slots.refused(3, now=0.0)
    for _ in range(2 * RAISE_AFTER - 1):
        slots.served(2)
    assert slots.cap == 2
    slots.served(2)
    assert slots.cap == 3


def test_good_answers_while_it_has_room_teach_nothing() -> None:
    slots = Slots()
    slots.refused(3, now=0.0)
    for _ in range(10 * RAISE_AFTER):
        slots.served(1)
    assert slots.cap == 2


def test_what_was_learnt_never_exceeds_what_is_declared() -> None:
    slots = Slots(3)
    slots.refused(3, now=0.0)
    assert slots.cap == 2
    for _ in range(20 * RAISE_AFTER):
        slots.served(slots.cap)
    assert (slots.cap, slots.learnt) == (3, None)


def test_a_refusal_is_forgotten_after_a_while() -> None:
    slots = Slots()
    slots.refused(3, now=10.0)
    slots.forget(10.0 + FORGET_S - 1)
    assert slots.cap == 2
    slots.forget(10.0 + FORGET_S)
    assert not slots.known


def test_a_record_that_declares_otherwise_counts_at_once() -> None:
    slots = Slots(4)
    slots.declare(2)
    assert slots.cap == 2
    slots.declare(None)
    assert not slots.known


@given(
    st.one_of(st.none(), st.integers(1, 8)),
    st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=100),
)
def test_it_is_never_less_than_one_nor_more_than_declared(
    declared: int | None, events: list[tuple[bool, int]]
) -> None:
    slots = Slots(declared)
    for good, in_flight in events:
        if good:
            slots.served(in_flight)
        else:
            slots.refused(in_flight, 0.0)
        if slots.known:
            assert slots.cap >= 1
            assert declared is None or slots.cap <= declared
