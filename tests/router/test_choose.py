from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.choose import ALIASES, STRATEGIES, strategy
from router.choose.rotation import Rotation
from router.config import Config
from router.upstream import Upstream
from tests.router.making import upstream


def fleet(*weights: float) -> tuple[Upstream, ...]:
    return tuple(upstream("abcdefgh"[at], weight=weight) for at, weight in enumerate(weights))


def picks(
    name: str, upstreams: tuple[Upstream, ...], count: int, dice: Sequence[float] = (0.5,)
) -> str:
    rotation = Rotation()
    choose = strategy(name)
    rolls = iter(list(dice) * count)
    return "".join(choose(upstreams, rotation, lambda: next(rolls)).name for _ in range(count))


def test_round_robin_goes_round() -> None:
    assert picks("round_robin", fleet(1, 1, 1), 6) == "abcabc"


def test_round_robin_is_smooth_by_weight() -> None:
    assert picks("round_robin", fleet(3, 1), 8) == "aabaaaba"


def test_round_robin_ignores_load() -> None:
    upstreams = fleet(1, 1)
    upstreams[0].node.in_flight = 100
    assert picks("round_robin", upstreams, 4) == "abab"


def test_weighted_random_follows_the_dice() -> None:
    dice = [0.0, 0.24, 0.26, 0.99]
    assert picks("weighted_random", fleet(1, 3), 4, dice) == "aabb"


def test_least_requests_prefers_the_idle() -> None:
    upstreams = fleet(1, 1, 1)
    upstreams[0].node.in_flight = 2
    upstreams[2].node.in_flight = 1
    assert picks("least_requests", upstreams, 3) == "bbb"


def test_least_requests_breaks_ties_in_rotation() -> None:
    assert picks("least_requests", fleet(1, 1, 1), 6) == "abcabc"
    upstreams = fleet(1, 1, 1)
    for one in upstreams:
        one.node.in_flight = 4
    assert picks("least_requests", upstreams, 6) == "abcabc"


def test_least_requests_weighs_load_and_ties() -> None:
    upstreams = fleet(1, 2)
    assert Counter(picks("least_requests", upstreams, 9)) == {"b": 6, "a": 3}
    upstreams[0].node.in_flight = 2
    upstreams[1].node.in_flight = 3
    assert picks("least_requests", upstreams, 2) == "bb", "3 for weight 2 is less than 2 for 1"


def test_requests_that_stay_spread_by_weight() -> None:
    upstreams = fleet(1, 2, 1)
    rotation = Rotation()
    for _ in range(40):
        strategy("least_requests")(upstreams, rotation, lambda: 0.5).node.in_flight += 1
    assert [one.node.in_flight for one in upstreams] == [10, 20, 10]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(
    loads=st.lists(st.tuples(st.integers(0, 50), st.floats(0.1, 10)), min_size=1, max_size=8),
    dice=st.floats(0, 0.999999),
)
def test_a_strategy_returns_one_of_its_candidates(
    name: str, loads: list[tuple[int, float]], dice: float
) -> None:
    upstreams = fleet(*(weight for _, weight in loads))
    for one, (load, _) in zip(upstreams, loads, strict=True):
        one.node.in_flight = load
    rotation = Rotation()
    for _ in range(5):
        assert strategy(name)(upstreams, rotation, lambda: dice) in upstreams


def test_a_rotation_does_not_remember_who_left_for_ever() -> None:
    rotation = Rotation()
    for at in range(1_000):
        rotation.turn([upstream(f"s{at}"), upstream("stays")])
    assert len(rotation._standings) < 50


def test_the_config_knows_exactly_these_names() -> None:
    names = get_args(Config.__annotations__["strategy"])
    assert set(names) == set(STRATEGIES) | set(ALIASES)
    for name in names:
        assert strategy(name) in STRATEGIES.values()
