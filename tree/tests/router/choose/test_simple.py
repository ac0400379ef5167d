"""The strategies that look at load, weights and records alone, each on plain numbers."""

from collections import Counter
from typing import get_args

import pytest

from router import choose
from router.choose.asked import Strategy
from router.choose.rotation import Rotation
from router.config import Config
from router.named import UpstreamStrategy
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, fleet, picks
from tests.router.making import upstream

CONFIG = Config()


def make(name: str) -> Strategy:
    return choose.make(name, CONFIG)


def test_the_config_knows_exactly_these_names() -> None:
    assert set(get_args(UpstreamStrategy)) == set(choose.MAKERS) | set(choose.ALIASES)


@pytest.mark.parametrize(("alias", "name"), sorted(choose.ALIASES.items()))
def test_an_alias_is_the_same_strategy(alias: str, name: str) -> None:
    assert type(make(alias)) is type(make(name))
    assert choose.plain(alias) == choose.plain(name) == name


def test_no_two_names_are_the_same_strategy() -> None:
    assert len({type(make(name)) for name in choose.MAKERS}) == len(choose.MAKERS)


def test_another_name_is_none() -> None:
    with pytest.raises(KeyError):
        make("lest_requests")


# --- round robin


def test_round_robin_goes_round() -> None:
    assert picks(make("round_robin"), fleet(1, 1, 1), 6) == "abcabc"


def test_round_robin_is_smooth_by_weight() -> None:
    assert picks(make("round_robin"), fleet(3, 1), 8) == "aabaaaba"


def test_round_robin_ignores_load() -> None:
    upstreams = fleet(1, 1)
    upstreams[0].node.in_flight = 100
    assert picks(make("round_robin"), upstreams, 4) == "abab"


def test_round_robin_explains_whose_turn_is_next() -> None:
    asked = Request()
    strategy, upstreams = make("round_robin"), fleet(3, 1)
    picks(strategy, upstreams, 2, asked)
    assert strategy.explain(upstreams, asked) == {
        "a": "stands at 1, weight 3",
        "b": "stands at 3, weight 1",
    }
    assert picks(strategy, upstreams, 1, asked) == "b"


# --- by chance


def test_weighted_random_follows_the_dice() -> None:
    dice = [0.0, 0.24, 0.26, 0.99]
    assert picks(make("weighted_random"), fleet(1, 3), 4, Request(dice=dice)) == "aabb"


def test_weighted_random_explains_shares() -> None:
    assert make("weighted_random").explain(fleet(1, 3), Request()) == {
        "a": "25 % by weight",
        "b": "75 % by weight",
    }


def two(*loads: int, dice: tuple[float, float]) -> str:
    upstreams = tuple(
        engine("abcdefgh"[number], in_flight=load) for number, load in enumerate(loads)
    )
    return picks(make("power_of_two"), upstreams, 1, Request(dice=dice))


def test_power_of_two_takes_the_less_busy_of_the_two_drawn() -> None:
    assert two(5, 3, 0, 4, dice=(0.0, 0.0)) == "b", "a and b were drawn; c, though idle, was not"
    assert two(5, 3, 0, 4, dice=(0.9, 0.0)) == "d", "d and a"
    assert two(5, 3, 0, 4, dice=(0.3, 0.4)) == "c", "b and c"


def test_power_of_two_never_draws_one_twice() -> None:
    drawn = {two(0, 9, dice=(0.6, roll)) for roll in (0.0, 0.5, 0.999)}
    assert drawn == {"a"}, "b was drawn first each time, so the other is a"


def test_power_of_two_weighs() -> None:
    upstreams = (engine("a", in_flight=2), engine("b", in_flight=3, weight=2))
    assert picks(make("power_of_two"), upstreams, 1, Request(dice=(0.0, 0.0))) == "b"
    upstreams = (engine("a"), engine("b", weight=2))
    assert picks(make("power_of_two"), upstreams, 1, Request(dice=(0.0, 0.0))) == "b"


# --- least requests


def test_least_requests_prefers_the_idle() -> None:
    upstreams = (engine("a", in_flight=2), engine("b"), engine("c", in_flight=1))
    assert picks(make("least_requests"), upstreams, 3) == "bbb"


def test_least_requests_breaks_ties_in_rotation() -> None:
    assert picks(make("least_requests"), fleet(1, 1, 1), 6) == "abcabc"
    upstreams = tuple(engine(name, in_flight=4) for name in "abc")
    assert picks(make("least_requests"), upstreams, 6) == "abcabc"


def test_least_requests_weighs_load_and_ties() -> None:
    upstreams = fleet(1, 2)
    assert Counter(picks(make("least_requests"), upstreams, 9)) == {"b": 6, "a": 3}
    upstreams[0].node.in_flight = 2
    upstreams[1].node.in_flight = 3
    picked = picks(make("least_requests"), upstreams, 2)
    assert picked == "bb", "3 for weight 2 is less than 2 for 1"


def test_requests_that_stay_spread_by_weight() -> None:
    upstreams = fleet(1, 2, 1)
    asked = Request()
    for _ in range(40):
        chosen = make("least_requests").choose(upstreams, asked)
        assert chosen is not None
        chosen.node.in_flight += 1
    assert [one.node.in_flight for one in upstreams] == [10, 20, 10]


# --- usage


def test_usage_based_prefers_who_had_the_fewest_tokens() -> None:
    upstreams = (
        engine("a", tokens=9_000),
        engine("b", tokens=4_000, in_flight=3),
        engine("c", tokens=5_000),
    )
    assert picks(make("usage_based"), upstreams, 2) == "bb", "whatever is in flight, unknown"


def test_usage_based_is_about_this_minute() -> None:
    upstreams = (engine("a", tokens=9_000), engine("b", tokens=4_000))
    for _ in range(60):
        upstreams[0].node.tokens.tick()
    assert picks(make("usage_based"), upstreams, 1) == "a"


def test_usage_based_weighs() -> None:
    upstreams = (engine("a", tokens=4_000), engine("b", tokens=6_000, weight=2))
    assert picks(make("usage_based"), upstreams, 1) == "b"


def test_usage_based_counts_what_is_on_its_way() -> None:
    upstreams = (
        engine("a", tokens=6_000, answered=12),
        engine("b", tokens=4_000, answered=8, in_flight=5),
    )
    asked = Request()
    assert make("usage_based").explain(upstreams, asked) == {
        "a": "6000 tokens this minute, 0 in flight of 500, weight 1: 6000",
        "b": "4000 tokens this minute, 5 in flight of 500, weight 1: 6500",
    }
    assert picks(make("usage_based"), upstreams, 1, asked) == "a"


def test_a_burst_does_not_all_go_to_who_had_the_fewest_tokens() -> None:
    upstreams = (engine("a", tokens=1_000, answered=2), engine("b", tokens=500, answered=1))
    asked = Request()
    for _ in range(11):
        chosen = make("usage_based").choose(upstreams, asked)
        assert chosen is not None
        chosen.node.in_flight += 1
    assert [one.node.in_flight for one in upstreams] == [5, 6]


def test_usage_based_breaks_ties_by_requests() -> None:
    upstreams = (engine("a", in_flight=1), engine("b"), engine("c"))
    assert picks(make("usage_based"), upstreams, 4) == "bcbc"


# --- records


def test_most_capacity_takes_the_largest_context_however_busy() -> None:
    upstreams = (
        engine("a", context_tokens=8_192),
        engine("b", context_tokens=131_072, in_flight=9),
        engine("c"),
    )
    assert picks(make("most_capacity"), upstreams, 2) == "bb"
    assert make("most_capacity").explain(upstreams, Request()) == {
        "a": "context of 8192 tokens, 0 in flight",
        "b": "context of 131072 tokens, 9 in flight",
        "c": "context of unknown tokens, 0 in flight",
    }


def test_equal_contexts_go_by_least_requests() -> None:
    upstreams = (
        engine("a", context_tokens=8_192),
        engine("b", context_tokens=32_768, in_flight=2),
        engine("c", context_tokens=32_768, in_flight=1),
    )
    assert picks(make("most_capacity"), upstreams, 2) == "cc"


def test_priority_asks_the_lowest_tier_however_busy() -> None:
    upstreams = (
        engine("a", priority=2),
        engine("b", priority=1, in_flight=8),
        engine("c", priority=1, in_flight=7),
    )
    assert picks(make("priority"), upstreams, 2) == "cc"
    assert picks(make("priority"), upstreams[:1], 1) == "a", "the next tier, when none is left"


def test_priority_keeps_the_order_of_a_capabilitys_models() -> None:
    upstreams = (
        engine("a", "spare", priority=0),
        engine("b", "preferred", "spare", priority=5, in_flight=3),
        engine("c", "preferred", priority=5, in_flight=2),
    )
    asked = Request(models=("preferred", "spare"))
    assert picks(make("priority"), upstreams, 2, asked) == "cc"
    assert make("priority").explain(upstreams, asked) == {
        "a": "model 2 of 2, priority 0, 0 in flight",
        "b": "model 1 of 2, priority 5, 3 in flight",
        "c": "model 1 of 2, priority 5, 2 in flight",
    }
    assert picks(make("priority"), upstreams, 1, Request(models=("m",))) == "a", "no order to keep"


def test_direct_always_asks_the_first_by_name() -> None:
    upstreams = (engine("b"), engine("a", in_flight=50), engine("c"))
    assert picks(make("direct"), upstreams, 3) == "aaa"
    assert make("direct").explain(upstreams, Request())["c"] == "3 of 3 by name, 0 in flight"


# --- the rotation


def test_a_rotation_does_not_remember_who_left_for_ever() -> None:
    rotation = Rotation()
    for at in range(1_000):
        rotation.turn([upstream(f"s{at}"), upstream("stays")])
    assert len(rotation._standings) < 50


def test_a_copy_of_a_rotation_takes_nobodys_turn() -> None:
    upstreams: tuple[Upstream, ...] = fleet(1, 2)
    rotation = Rotation()
    for _ in range(2):
        copy = rotation.copy()
        ahead = picks(make("round_robin"), upstreams, 3, Request(copy))
        assert picks(make("round_robin"), upstreams, 1, Request(rotation)) == ahead[0]
