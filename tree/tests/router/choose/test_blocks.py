"""The index of what was read: its bound, its lives, what it forgets first."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from router.choose.blocks import HOLDERS_MAX, Block, Index, blocks
from router.upstream import Upstream
from tests.router.making import upstream

A, B = upstream("a", "m"), upstream("b", "m")


def chain(text: str, model: str = "m") -> list[Block]:
    """A block per two letters."""
    return blocks(text.encode(), model, 2, 100)


def new_life(name: str) -> Upstream:
    new_life.count += 1  # type: ignore[attr-defined]
    return upstream(name, "m", instance_id=f"life-{new_life.count}")  # type: ignore[attr-defined]


new_life.count = 0  # type: ignore[attr-defined]


def test_blocks_are_whole_and_each_covers_all_before_it() -> None:
    assert len(chain("aabbc")) == 2, "c is no whole block"
    assert chain("") == chain("a") == []
    one, other = chain("aabbcc"), chain("aaXXcc")
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert one[2] != other[2], "the same text after another beginning is another block"
    assert len(blocks(b"x" * 1_000, "m", 2, 7)) == 7


def test_models_share_nothing() -> None:
    assert set(chain("aabb", "m")).isdisjoint(chain("aabb", "n"))


def test_it_knows_who_read_how_much() -> None:
    index = Index(1 << 20)
    index.learn(A, chain("aabbcc"))
    index.learn(B, chain("aaXX"))
    assert [index.depth(A, chain("aabbccdd")), index.depth(B, chain("aabbccdd"))] == [3, 1]
    assert index.depth(upstream("c", "m"), chain("aabb")) == 0


def test_a_new_life_has_read_nothing() -> None:
    index = Index(1 << 20)
    first, second = new_life("a"), new_life("a")
    index.learn(first, chain("aabb"))
    assert index.depth(second, chain("aabb")) == 0
    index.learn(second, chain("aa"))
    assert index.depth(second, chain("aabb")) == 1
    assert index.depth(first, chain("aabb")) == 0, "what is gone is gone"


def test_lives_that_are_gone_make_room() -> None:
    index = Index(1 << 20)
    for _ in range(5):
        index.learn(new_life("a"), chain("aa"))
    assert len(index.holders(chain("aa")[0])) == 1


def test_it_forgets_what_it_is_told_to() -> None:
    index = Index(1 << 20)
    for one in (A, B):
        index.learn(one, chain("aabbcc"))
    index.forget(A, chain("aabbcc")[1:])
    assert [index.depth(A, chain("aabbcc")), index.depth(B, chain("aabbcc"))] == [1, 3]


def test_what_was_used_longest_ago_goes_first_and_ends_before_beginnings() -> None:
    index = Index(800)  # three blocks of one holder
    index.learn(A, chain("aabb"))
    index.learn(A, chain("XX"))
    index.learn(A, chain("aabb"))
    index.learn(A, chain("YY"))
    assert index.depth(A, chain("XX")) == 0
    assert index.depth(A, chain("aabb")) == 2
    index.learn(A, chain("ZZ"))
    assert index.depth(A, chain("aabb")) == 1, "its end went before its beginning"
    assert index.depth(A, chain("YY")) == 1


def test_a_block_remembers_only_so_many_holders_the_latest() -> None:
    index = Index(1 << 20)
    readers = [upstream(f"e{number}", "m") for number in range(HOLDERS_MAX + 10)]
    for one in readers:
        index.learn(one, chain("aa"))
    assert [index.depth(one, chain("aa")) for one in readers] == [0] * 10 + [1] * HOLDERS_MAX


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 5_000),
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.text("ab", max_size=24)), max_size=60),
)
def test_it_never_exceeds_its_bytes(limit: int, acts: list[tuple[int, bool, str]]) -> None:
    index = Index(limit)
    names = [upstream(f"e{number}", "m") for number in range(6)]
    for who, forgets, text in acts:
        if forgets:
            index.forget(names[who], chain(text))
        else:
            index.learn(names[who], chain(text))
        assert 0 <= index.bytes <= max(limit, 0)
        assert bool(index.bytes) == bool(len(index))


def test_its_bytes_are_what_memory_it_takes() -> None:
    """At worst: no list of holders is shared with another block."""
    index = Index(1 << 30)
    readers = [upstream(f"e{number}", "m") for number in range(4)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5_000):
            text = f"{number:06}".encode()
            for one in readers:
                index.learn(one, blocks(text, "m", 6, 1))
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(index) == 5_000
    assert 0.5 * index.bytes < took < index.bytes, took / len(index)
