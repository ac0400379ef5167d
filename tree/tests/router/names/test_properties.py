"""What holds for any configuration, also for such as `check` refuses."""

from collections import Counter
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Config
from router.named import Capability, Levels, Model, Pattern, Provider, Rule, WeightWhen, When
from router.names.choosing.weights import Weights
from router.names.resolve import Names
from tests.router.names.asking import Asked

NAMES = tuple("abcdef")
name = st.sampled_from(NAMES)
provider = st.sampled_from(("on", "off"))
members = st.lists(name, max_size=4).map(tuple)
weights = st.dictionaries(name, st.floats(0.1, 10), max_size=4)
levels = st.none() | st.builds(
    Levels,
    low=st.none() | name,
    high=st.none() | name,
    standard=st.none() | name,
    tiers=st.dictionaries(name, name, max_size=2),
)
whens = st.lists(
    st.builds(
        WeightWhen,
        when=st.sampled_from(("batch", "local_saturated", "complexity")),
        targets=weights,
    ),
    max_size=2,
).map(tuple)
choosing = st.sampled_from(
    (
        "prefix",
        "priority",
        "least_requests",
        "complexity_based",
        "context_based",
        "quality_based",
        "adaptive_weighted",
    )
)
model = st.builds(
    Model,
    targets=weights,
    backend_model=st.none() | name,
    provider=st.none() | provider,
    strategy=st.none() | choosing,
    levels=levels,
    weights=whens,
    fallbacks=st.none() | members,
)
capability = st.builds(
    Capability, models=members, strategy=choosing, levels=levels, fallbacks=st.none() | members
)
pattern = st.builds(
    Pattern,
    match=st.sampled_from(("[a-c]", "[d-f]", ".*")),
    provider=provider,
    fallbacks=st.none() | members,
)
rule = st.builds(
    Rule,
    when=st.builds(When, model=st.none() | name, stream=st.none() | st.booleans()),
    model=st.none() | name,
    provider=st.none() | provider,
    fallbacks=st.none() | members,
)
LISTS = Provider(type="openai", base_url="https://api.example/v1", models=("a", "b"))
OFF = Provider(type="openai", base_url="https://b.example/v1", models=("c",), status="disabled")
configs = st.builds(
    Config,
    expect=st.lists(name, max_size=1).map(tuple),
    default=st.none() | name,
    default_fallbacks=members,
    providers=st.just({"on": LISTS, "off": OFF}),
    models=st.dictionaries(name, model, max_size=4),
    capabilities=st.dictionaries(name, capability, max_size=3),
    patterns=st.lists(pattern, max_size=2).map(tuple),
    rules=st.lists(rule, max_size=2).map(tuple),
)
asked_for = st.builds(
    Asked,
    st.none() | st.sampled_from((*NAMES, "unheard-of")),
    stream=st.booleans(),
    key=st.none() | st.text(max_size=4),
    busy=st.floats(0, 1),
    tokens=st.integers(0, 10_000),
    characters=st.integers(0, 5_000),
    turns=st.integers(0, 3),
    batch=st.integers(1, 3),
)
rolls = st.floats(0, 1, exclude_max=True)
listings = st.sets(name)


# Files take long to make up: what holds for one request is looked at in one go.
@settings(max_examples=120, deadline=None)
@given(configs, asked_for, listings, rolls)
def test_it_ends_by_precedence_and_asks_no_place_twice(
    config: Config, asked: Asked, listed: set[str], roll: float
) -> None:
    found = Names(config).resolve(asked, listed.__contains__, lambda: roll)
    assert found.how == expected(config, asked, listed)
    assert found.why
    keys = [one.key for one in chain(found.targets, found.fallbacks)]
    assert len(keys) == len(set(keys))
    assert "off" not in {provider for _, provider in keys}
    assert not any(one.fallback for one in found.targets)
    assert all(one.fallback for one in found.fallbacks)
    entry = config.models.get(asked.model or "")
    if found.how == "exact" and entry is not None and entry.fallbacks == ():
        assert found.fallbacks == (), "an empty chain is terminal"


def expected(config: Config, asked: Asked, listed: set[str]) -> str:
    """Precedence, written down once more and naively."""
    name = asked.model
    for one in config.rules:
        when = one.when
        if when.model in (None, name) and when.stream in (None, asked.envelope.stream):
            return "rule"
    if name is None:
        return "any"
    if name in config.models or name in ("a", "b") or name in config.expect or name in listed:
        return "exact"
    if name in config.capabilities:
        return "capability"
    shapes = {".*": (*NAMES, "unheard-of"), "[a-c]": NAMES[:3], "[d-f]": NAMES[3:]}
    if any(name in shapes[pattern.match] for pattern in config.patterns):
        return "pattern"
    return "none" if config.default is None else "default"


@settings(max_examples=80, deadline=None)
@given(configs, asked_for, asked_for, listings, rolls, rolls)
def test_what_does_not_depend_is_the_same_for_all(
    config: Config, one: Asked, two: Asked, listed: set[str], roll: float, other: float
) -> None:
    found = Names(config)
    two.model = one.model
    first = found.resolve(one, listed.__contains__, lambda: roll)
    second = found.resolve(two, listed.__contains__, lambda: other)
    if not first.varies or not found.depends(one.model):
        assert first.targets == second.targets
        assert first.fallbacks == second.fallbacks
        assert (first.why, first.path) == (second.why, second.path)
    if first.varies:
        assert found.depends(one.model)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(name, st.integers(1, 9), min_size=1, max_size=4))
def test_a_draw_follows_the_weights(of: dict[str, int]) -> None:
    """Dice values spread evenly: each model comes first for its share of them."""
    drawn = Weights({model: float(weight) for model, weight in of.items()})
    parts = 40 * sum(of.values())
    firsts = Counter(
        drawn.order(None, lambda part=part: (part + 0.5) / parts)[0]  # type: ignore[misc]
        for part in range(parts)
    )
    assert firsts == {model: 40 * weight for model, weight in of.items()}


@settings(max_examples=100)
@given(weights.filter(bool), st.none() | st.text(), rolls)
def test_an_order_has_every_model_once(of: dict[str, float], key: str | None, roll: float) -> None:
    assert sorted(Weights(of).order(key, lambda: roll)) == sorted(of)
