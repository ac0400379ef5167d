"""The strategies that choose the model, each on plain numbers that no other would answer alike."""

from collections.abc import Mapping

import pytest

from router.named import Levels, WeightWhen
from router.names.choosing import Choice, Choosing, make
from tests.router.names.asking import Asked

#: The wrong order for every strategy that goes by levels: falling back to it would show.
TARGETS = {"wrong": 1.0, "other": 1.0}


def order(choosing: Choosing, *, dice: float = 0.0, **asked: object) -> Choice:
    return choosing.order(Asked("m", **asked), lambda: dice)  # type: ignore[arg-type]


# --- complexity_based ---------------------------------------------------------------------------

COMPLEXITY = Levels(low="small", medium="middle", high="large")


@pytest.mark.parametrize(
    ("tokens", "model", "why"),
    [
        (0, "small", "low: 0 prompt tokens, below 50"),
        (49, "small", "low: 49 prompt tokens, below 50"),
        (50, "middle", "medium: 50 prompt tokens, from 50"),
        (100, "middle", "medium: 100 prompt tokens, from 50"),
        (101, "large", "high: 101 prompt tokens, above 100"),
    ],
)
def test_complexity_goes_by_the_prompts_tokens(tokens: int, model: str, why: str) -> None:
    choice = order(make("complexity_based", TARGETS, COMPLEXITY, ()), tokens=tokens)
    assert choice.models[0] == model
    assert choice.why == why
    assert choice.place == ("levels", why.partition(":")[0])


def test_complexity_has_its_numbers_from_the_file() -> None:
    levels = Levels(
        low="small", medium="middle", high="large", medium_from_tokens=10, high_above_tokens=20
    )
    choosing = make("complexity_based", {}, levels, ())
    firsts = [order(choosing, tokens=n).models[0] for n in (9, 10, 20, 21)]
    assert firsts == ["small", "middle", "middle", "large"]


# --- context_based ------------------------------------------------------------------------------

CONTEXT = Levels(standard="plain", complex="talker", large="long")


@pytest.mark.parametrize(
    ("tokens", "turns", "model", "why"),
    [
        (4_000, 1, "plain", "standard: 4000 prompt tokens in one turn"),
        (120, 1, "plain", "standard: 120 prompt tokens in one turn"),
        (120, 2, "talker", "complex: 2 turns"),
        (4_000, 9, "talker", "complex: 9 turns"),
        (4_001, 1, "long", "large: 4001 prompt tokens, above 4000"),
        (4_001, 9, "long", "large: 4001 prompt tokens, above 4000"),
    ],
)
def test_context_goes_by_length_then_by_turns(
    tokens: int, turns: int, model: str, why: str
) -> None:
    choice = order(make("context_based", TARGETS, CONTEXT, ()), tokens=tokens, turns=turns)
    assert choice.models[0] == model
    assert choice.why == why


# --- quality_based ------------------------------------------------------------------------------

QUALITY = Levels(standard="cheap", high="fine", tiers={"gold": "golden", "high": "finest"})


@pytest.mark.parametrize(
    ("tier", "characters", "model", "why"),
    [
        (None, 1_000, "cheap", "standard: 1000 characters"),
        (None, 1_001, "fine", "high: 1001 characters, above 1000"),
        ("gold", 5, "golden", "gold: x-quality-tier says so"),
        ("high", 5, "finest", "high: x-quality-tier says so"),
        ("standard", 5_000, "cheap", "standard: x-quality-tier says so"),
        ("unheard-of", 5, "cheap", "standard: 5 characters"),
        ("unheard-of", 5_000, "fine", "high: 5000 characters, above 1000"),
    ],
)
def test_quality_goes_by_the_header_then_by_length(
    tier: str | None, characters: int, model: str, why: str
) -> None:
    headers: Mapping[str, str] = {} if tier is None else {"x-quality-tier": tier}
    choosing = make("quality_based", TARGETS, QUALITY, ())
    choice = order(choosing, headers=headers, characters=characters)
    assert choice.models[0] == model
    assert choice.why == why


# --- all that go by levels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "levels"),
    [("complexity_based", COMPLEXITY), ("context_based", CONTEXT), ("quality_based", QUALITY)],
)
def test_the_others_follow_each_once(strategy: str, levels: Levels) -> None:
    choosing = make(strategy, TARGETS, levels, ())
    choice = order(choosing, tokens=5_000, characters=20_000)
    assert sorted(choice.models) == sorted(choosing.models)
    assert set(TARGETS) < set(choice.models)


@pytest.mark.parametrize(
    ("levels", "firsts"),
    [
        (Levels(low="small", high="large"), ["small", "large", "large"]),
        (Levels(medium="middle"), ["middle", "middle", "middle"]),
        (Levels(low="small"), ["small", "small", "small"]),
    ],
)
def test_a_level_without_a_model_is_served_by_the_next(levels: Levels, firsts: list[str]) -> None:
    choosing = make("complexity_based", {}, levels, ())
    assert [order(choosing, tokens=n).models[0] for n in (1, 60, 200)] == firsts


def test_a_stand_in_says_so() -> None:
    choosing = make("complexity_based", {}, Levels(low="small", high="large"), ())
    choice = order(choosing, tokens=60)
    assert choice.why == "medium, served as high: 60 prompt tokens, from 50"
    assert choice.place == ("levels", "high")


def test_without_any_level_the_order_stays() -> None:
    choice = order(make("complexity_based", TARGETS, None, ()), tokens=60)
    assert choice.models == ("wrong", "other")
    assert choice.why.endswith("no level names a model")


# --- adaptive_weighted --------------------------------------------------------------------------

WHENS = (
    WeightWhen(when="batch", targets={"bulk": 3, "own": 1}),
    WeightWhen(when="local_saturated", targets={"cloud": 1}),
    WeightWhen(when="complexity", targets={"large": 1}),
)
BASE = {"own": 9.0, "cloud": 1.0}


def adaptive(*whens: WeightWhen, levels: Levels | None = None) -> Choosing:
    return make("adaptive_weighted", BASE, levels, whens or WHENS, local=("own",))


@pytest.mark.parametrize(
    ("asked", "dice", "model", "why", "place"),
    [
        ({}, 0.89, "own", "weight 9 of 10: no condition holds", ("targets",)),
        ({}, 0.91, "cloud", "weight 1 of 10: no condition holds", ("targets",)),
        ({"batch": 1}, 0.0, "own", "weight 9 of 10: no condition holds", ("targets",)),
        ({"batch": 2}, 0.74, "bulk", "weight 3 of 4: a batch of 2", ("weights", 0)),
        ({"batch": 2}, 0.76, "own", "weight 1 of 4: a batch of 2", ("weights", 0)),
        ({"busy": 0.8}, 0.0, "own", "weight 9 of 10: no condition holds", ("targets",)),
        (
            {"busy": 0.81},
            0.0,
            "cloud",
            "weight 1 of 1: own upstreams 81% busy, above 80%",
            ("weights", 1),
        ),
        ({"tokens": 100}, 0.0, "own", "weight 9 of 10: no condition holds", ("targets",)),
        (
            {"tokens": 101},
            0.0,
            "large",
            "weight 1 of 1: high complexity, 101 prompt tokens, above 100",
            ("weights", 2),
        ),
        (
            {"tokens": 101, "busy": 0.9, "batch": 8},
            0.0,
            "bulk",
            "weight 3 of 4: a batch of 8",
            ("weights", 0),
        ),
    ],
)
def test_the_first_condition_that_holds_gives_the_weights(
    asked: dict[str, float], dice: float, model: str, why: str, place: tuple[str | int, ...]
) -> None:
    choice = order(adaptive(), dice=dice, **asked)
    assert (choice.models[0], choice.why, choice.place) == (model, why, place)
    assert sorted(choice.models) == ["bulk", "cloud", "large", "own"]


def test_a_condition_has_its_numbers_from_the_file() -> None:
    busy = adaptive(WeightWhen(when="local_saturated", targets={"cloud": 1}, saturated_above=0.5))
    assert order(busy, busy=0.51).models[0] == "cloud"
    assert order(busy, busy=0.5).models[0] == "own"
    low = adaptive(
        WeightWhen(when="complexity", targets={"cloud": 1}, level="low"),
        levels=Levels(medium_from_tokens=5, high_above_tokens=6),
    )
    assert [order(low, tokens=n).models[0] for n in (4, 5)] == ["cloud", "own"]


def test_adaptive_weights_keep_a_session_on_its_model_too() -> None:
    choosing = adaptive()
    for n in range(50):
        firsts = {order(choosing, key=f"s{n}", dice=dice).models for dice in (0.0, 0.5, 0.999)}
        assert len(firsts) == 1
