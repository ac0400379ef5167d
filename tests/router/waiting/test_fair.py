"""Whose turn it is: weights, first come first served, nobody starved, nothing saved up."""

from collections import Counter
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.waiting.fair import IDLE_MAX, Fair, Share, Step, last, position

WEIGHTS = {"ana": 3.0, "bob": 1.0, "eve": 0.5}


def _order(found: "Fair[str]") -> list[str]:
    """Everybody's turn, one after the other."""
    turns = []
    while found:
        leaf, entry = next(iter(found))
        found.take(leaf, entry)
        turns.append(entry)
    return turns


def _filled(**counts: int) -> "Fair[str]":
    found: Fair[str] = Fair()
    for who, many in counts.items():
        for at in range(many):
            found.push((("band", 1.0), (who, WEIGHTS.get(who, 1.0))), f"{who}{at}")
    return found


def _leaves(found: "Fair[Any]") -> list[Share[Any]]:
    """Those in which somebody waits."""
    shares = found.top()
    leaves = []
    while shares:
        share = shares.pop()
        leaves += [share] if share.entries else []
        shares += share.waiting()
    return leaves


def test_one_caller_is_served_first_come_first_served() -> None:
    assert _order(_filled(bob=4)) == ["bob0", "bob1", "bob2", "bob3"]


def test_callers_of_equal_weight_take_turns_however_much_each_has_waiting() -> None:
    assert _order(_filled(x=5, y=2)) == ["x0", "y0", "x1", "y1", "x2", "x3", "x4"]


def test_turns_follow_the_weights() -> None:
    turns = _order(_filled(ana=30, bob=30))[:16]
    assert Counter(one[:3] for one in turns) == {"ana": 12, "bob": 4}


def test_who_comes_late_is_next_but_gets_nothing_for_the_time_before() -> None:
    found = _filled(x=10)
    for _ in range(6):
        found.take(*next(iter(found)))
    found.push((("band", 1.0), ("y", 1.0)), "y0")
    found.push((("band", 1.0), ("y", 1.0)), "y1")
    assert _order(found)[:4] == ["y0", "x6", "y1", "x7"]


def test_who_left_right_after_a_turn_and_comes_back_waits_for_the_others_turn() -> None:
    found = _filled(x=3, y=1)
    assert [entry for _, entry in (found_next(found), found_next(found))] == ["x0", "y0"]
    found.push((("band", 1.0), ("y", 1.0)), "y1")
    assert _order(found) == ["x1", "y1", "x2"]


def found_next(found: "Fair[str]") -> tuple[Share[str], str]:
    leaf, entry = next(iter(found))
    found.take(leaf, entry)
    return leaf, entry


def test_a_dropped_entry_costs_its_share_nothing() -> None:
    found: Fair[str] = Fair()
    leaf = found.push((("x", 1.0),), "x0")
    found.push((("x", 1.0),), "x1")
    found.push((("y", 1.0),), "y0")
    found.drop(leaf, "x0")
    assert _order(found) == ["x1", "y0"]


def test_callers_of_one_tenant_share_its_weight() -> None:
    found: Fair[str] = Fair()
    for at in range(12):
        for key in ("a", "b", "c"):
            found.push((("lab", 1.0), (key, 1.0)), f"{key}{at}")
        found.push((("key d", 1.0),), f"d{at}")
    turns = Counter(one[0] for one in _order(found)[:12])
    assert turns == {"d": 6, "a": 2, "b": 2, "c": 2}


def test_the_lowest_band_has_its_turn_in_the_end_and_its_share_of_them() -> None:
    found: Fair[str] = Fair()
    for at in range(60):
        for band, weight in (("high", 16.0), ("normal", 4.0), ("low", 1.0)):
            found.push(((band, weight), ("key", 1.0)), f"{band}{at}")
    turns = [one.rstrip("0123456789") for one in _order(found)[:42]]
    assert turns.index("low") <= 2
    assert Counter(turns)["low"] == 2


def test_nothing_is_kept_of_a_tree_that_is_empty() -> None:
    found = _filled(x=3, y=2)
    _order(found)
    assert len(found) == 0 and _leaves(found) == []
    assert not found._root.children


def test_of_shares_that_idle_only_so_many_are_remembered() -> None:
    found: Fair[int] = Fair()
    found.push((("all", 1.0), ("busy", 1e-6)), -1)
    for at in range(IDLE_MAX + 50):
        leaf = found.push((("all", 1.0), (at, 1e-6)), at)
        found.take(leaf, at)
    assert len(found._root.children["all"].children) <= IDLE_MAX + 1


# --- whatever the weights -------------------------------------------------------------------------

#: Such that tags are equal at the beginning alone.
PATHS: tuple[tuple[Step, ...], ...] = (
    (("high", 16.3), ("lab", 2.17), ("ana", 3.39)),
    (("high", 16.3), ("lab", 2.17), ("bob", 1.07)),
    (("high", 16.3), ("eve", 0.53)),
    (("low", 1.19), ("lab", 2.29), ("ana", 3.11)),
    (("low", 1.19), ("joe", 1.37)),
)
STEPS = st.lists(st.one_of(st.sampled_from(PATHS), st.none()), max_size=60)


def _after(steps: list[tuple[Step, ...] | None]) -> "Fair[int]":
    """Some came, and some had their turn."""
    found: Fair[int] = Fair()
    for at, path in enumerate(steps):
        if path is not None:
            found.push(path, at)
        elif found:
            found.take(*next(iter(found)))
    return found


@given(STEPS)
def test_the_position_that_is_told_is_the_one_that_comes_true(
    steps: list[tuple[Step, ...] | None],
) -> None:
    found = _after(steps)
    told = {last(leaf): position(leaf, leaf.count) for leaf in _leaves(found)}
    for turn in count(1):
        if not found:
            break
        leaf, entry = next(iter(found))
        found.take(leaf, entry)
        if entry in told:
            assert told[entry] == turn


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=5), st.integers(1, 200))
def test_those_that_always_wait_differ_from_their_weights_by_a_turn_of_each(
    weights: list[float], turns: int
) -> None:
    found: Fair[tuple[int, int]] = Fair()
    for who, weight in enumerate(weights):
        for at in range(turns + 1):
            found.push((("band", 1.0), (who, weight)), (who, at))
    served: Counter[int] = Counter()
    for _ in range(turns):
        leaf, entry = next(iter(found))
        found.take(leaf, entry)
        served[entry[0]] += 1
    for a, of_a in enumerate(weights):
        for b, of_b in enumerate(weights):
            apart = abs(served[a] / of_a - served[b] / of_b)
            assert apart <= 1 / of_a + 1 / of_b + 1e-9


@given(STEPS)
def test_everybody_is_listed_once_in_some_order_and_each_leaf_in_the_order_of_coming(
    steps: list[tuple[Step, ...] | None],
) -> None:
    found = _after(steps)
    entries = [entry for _, entry in found]
    assert len(entries) == len(set(entries)) == len(found)
    for leaf in _leaves(found):
        assert list(leaf.entries) == sorted(leaf.entries)
        assert leaf.count == len(leaf.entries)
