"""Entries in this process: bounded in bytes, the least recently used going first."""

from hypothesis import given
from hypothesis import strategies as st

from router.cache.entry import OVERHEAD_BYTES, Entry
from router.cache.memory import Memory

SIZE = OVERHEAD_BYTES + 10 + len(b"application/json")


def entry(count: int = 10, until: float = 100.0) -> Entry:
    return Entry(b"application/json", False, b"x" * count, "gpu@h", None, 0.0, until)


def test_what_was_put_is_there_until_its_time_is_over() -> None:
    memory = Memory(1_000_000)
    memory.put(b"a", entry(until=60.0), 0.0)
    assert memory.get(b"a", 59.9) == entry(until=60.0)
    assert memory.get(b"a", 60.0) is None
    assert (len(memory), memory.bytes, memory.evictions) == (0, 0, 0)


def test_the_least_recently_used_goes_first() -> None:
    memory = Memory(2 * SIZE)
    memory.put(b"a", entry(), 0.0)
    memory.put(b"b", entry(), 0.0)
    assert memory.get(b"a", 1.0) is not None
    memory.put(b"c", entry(), 2.0)
    assert [memory.peek(key, 3.0) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    assert (memory.bytes, memory.evictions) == (2 * SIZE, 1)


def test_an_entry_that_would_never_fit_moves_nobody() -> None:
    memory = Memory(SIZE)
    memory.put(b"a", entry(), 0.0)
    memory.put(b"b", entry(11), 0.0)
    assert memory.get(b"a", 1.0) is not None
    assert memory.get(b"b", 1.0) is None


def test_a_key_is_there_once() -> None:
    memory = Memory(10 * SIZE)
    memory.put(b"a", entry(), 0.0)
    memory.put(b"a", entry(20), 0.0)
    assert (len(memory), memory.bytes) == (1, SIZE + 10)


def test_one_that_is_over_is_no_eviction() -> None:
    memory = Memory(SIZE)
    memory.put(b"a", entry(until=1.0), 0.0)
    memory.put(b"b", entry(), 2.0)
    assert memory.evictions == 0


def test_a_smaller_bound_holds_at_once() -> None:
    memory = Memory(10 * SIZE)
    for key in (b"a", b"b", b"c"):
        memory.put(key, entry(), 0.0)
    memory.allow(SIZE, 0.0)
    assert (len(memory), memory.bytes) == (1, SIZE)


ACTS = st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 3_000), st.booleans())


@given(st.integers(1, 8_000), st.lists(ACTS, max_size=40))
def test_it_is_never_larger_than_it_may_be_and_counts_right(
    bytes_max: int, acts: list[tuple[bytes, int, bool]]
) -> None:
    memory = Memory(bytes_max)
    for now, (key, count, puts) in enumerate(acts):
        if puts:
            memory.put(key, entry(count, until=now + count % 7), now)
        else:
            memory.get(key, now)
        assert 0 <= memory.bytes <= bytes_max
        found = [memory.peek(key, -1.0) for key in (b"a", b"b", b"c", b"d")]
        assert memory.bytes == sum(one.size for one in found if one is not None)
