"""What holds for every strategy, whatever the numbers."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router import choose
from router.choose.asked import Strategy
from router.choose.prefix import Prefix
from router.config import Config
from router.config import Prefix as PrefixSettings
from router.needs import Needs
from router.nodes import NodeHealth
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, says

CONFIG = Config(prefix=PrefixSettings(block_bytes=16))
NAMES = sorted(choose.MAKERS)
every = pytest.mark.parametrize("name", NAMES)

ENGINES: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    weight=st.floats(0.1, 10),
    in_flight=st.integers(0, 50),
    asked=st.integers(0, 3),
    p50_ms=st.none() | st.floats(0, 9_000),
    failures=st.integers(0, 4),
    answered_at=st.floats(0, 1_000),
    tokens=st.integers(0, 100_000),
    answered=st.integers(0, 100),
    health=st.sampled_from(list(NodeHealth)),
    tokens_per_s=st.none() | st.floats(0, 5_000),
    context_tokens=st.none() | st.integers(1, 200_000),
    priority=st.integers(0, 3),
    region=st.sampled_from([None, "eu", "us"]),
    gpu=st.booleans(),
)
FLEETS = st.lists(ENGINES, min_size=1, max_size=8)
REQUESTS: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    dice=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    key=st.none() | st.text(max_size=8),
    text=st.text("ab ", max_size=60),
    region=st.sampled_from([None, "eu"]),
    gpu=st.sampled_from([None, "prefer"]),
    models=st.sampled_from([(), ("m",), ("n", "m")]),
)


def built(engines: list[dict[str, Any]]) -> tuple[Upstream, ...]:
    return tuple(engine("abcdefgh"[at], **one) for at, one in enumerate(engines))


def requested(request: dict[str, Any]) -> Request:
    return Request(
        dice=request["dice"],
        key=request["key"],
        envelope=says(request["text"]),
        needs=Needs(region=request["region"], gpu=request["gpu"]),
        models=request["models"],
    )


def send(strategy: Strategy, upstreams: tuple[Upstream, ...], asked: Request) -> Upstream | None:
    """A choice, and what the router does with it."""
    chosen = strategy.choose(upstreams, asked)
    if chosen is not None:
        chosen.node.in_flight += 1
        chosen.node.request_count += 1
        if strategy.learns:
            strategy.took(chosen, asked)
    return chosen


@every
@settings(max_examples=15, deadline=None)
@given(FLEETS, st.lists(REQUESTS, min_size=1, max_size=4))
def test_it_returns_one_of_its_candidates(
    name: str, engines: list[dict[str, Any]], requests: list[dict[str, Any]]
) -> None:
    upstreams, strategy = built(engines), choose.make(name, CONFIG)
    for request in requests:
        chosen = send(strategy, upstreams, requested(request))
        assert chosen in upstreams or (name == "score" and chosen is None)


@every
@settings(max_examples=15, deadline=None)
@given(FLEETS, st.lists(REQUESTS, min_size=1, max_size=3))
def test_explaining_names_every_candidate_and_changes_nothing(
    name: str, engines: list[dict[str, Any]], requests: list[dict[str, Any]]
) -> None:
    upstreams, strategy = built(engines), choose.make(name, CONFIG)
    for request in requests:
        send(strategy, upstreams, requested(request))
    asked = requested(requests[0])
    before = seen(strategy, upstreams, asked)
    explained = strategy.explain(upstreams, asked)
    assert seen(strategy, upstreams, asked) == before
    assert set(explained) == {one.name for one in upstreams}
    assert all(explained.values())
    assert strategy.explain(upstreams, asked) == explained


@every
@settings(max_examples=15, deadline=None)
@given(FLEETS, st.lists(REQUESTS, min_size=2, max_size=4))
def test_a_choice_on_a_copied_rotation_changes_no_later_one(
    name: str, engines: list[dict[str, Any]], requests: list[dict[str, Any]]
) -> None:
    """So /explain can show what would be chosen."""
    shown, other = built(engines), built(engines)
    one, two = choose.make(name, CONFIG), choose.make(name, CONFIG)
    rotation, rotation_of_other = Request().rotation, Request().rotation
    for request in requests:
        trial = requested(request)
        trial.rotation = rotation.copy()
        one.choose(shown, trial)
        asked, asked_too = requested(request), requested(request)
        asked.rotation, asked_too.rotation = rotation, rotation_of_other
        chosen, chosen_too = send(one, shown, asked), send(two, other, asked_too)
        assert (chosen and chosen.name) == (chosen_too and chosen_too.name)


def seen(strategy: Strategy, upstreams: tuple[Upstream, ...], asked: Request) -> Any:
    """All that a strategy could change."""
    nodes = [
        (
            list(one.node.answers),
            one.node.answers.p50,
            list(one.node.outcomes),
            one.node.in_flight,
            one.node.request_count,
            one.node.tokens.count,
        )
        for one in upstreams
    ]
    rotation = asked.rotation
    own: Any = {key: value for key, value in vars(strategy).items() if key == "_medians"}
    own = {key: vars(value).copy() for key, value in own.items()}
    if isinstance(strategy, Prefix):
        index = strategy.index
        own = list(index._holders.items()), dict(index._lives), index.bytes
    return nodes, own, asked.note, rotation.cursor, dict(rotation._standings)


# --- each is a rule of its own


def signature(name: str) -> tuple[str, ...]:
    """Who it chooses in a few situations that the rules see differently."""
    config = replace(
        CONFIG,
        affinity=replace(CONFIG.affinity, load_factor=50.0),
        prefix=replace(CONFIG.prefix, load_factor=50.0),
    )
    strategy = choose.make(name, config)
    found = []
    upstreams = (
        engine("z-first", p50_ms=900, in_flight=1, tokens=50, weight=3, context_tokens=9),
        engine("b-ctx", p50_ms=300, in_flight=6, tokens=90, context_tokens=99, priority=3),
        engine("c-fast", p50_ms=10, in_flight=7, tokens=80, cost=1.0, priority=2),
        engine("d-calm", p50_ms=800, in_flight=0, tokens=70, cost=1.0, priority=4),
        engine("e-few", p50_ms=700, in_flight=5, tokens=1, cost=1.0, priority=5),
        engine("f-tier", p50_ms=700, in_flight=4, tokens=95, priority=-1, cost=1.0),
        engine("g-cheap", p50_ms=600, in_flight=6, tokens=99, cost=0.0, priority=6),
        engine("h-read", p50_ms=960, in_flight=9, tokens=98, cost=1.0, priority=8),
        engine("a-name", p50_ms=950, in_flight=9, tokens=98, cost=1.0, priority=7),
    )
    text = "Once upon a time, in a land far away, there was a strategy."
    if strategy.learns:
        strategy.took(upstreams[7], Request(envelope=says(text)))
    for dice in ((0.1, 0.2), (0.6, 0.9), (0.95, 0.5)):
        asked = Request(dice=dice, envelope=says(text))
        for _ in range(2):
            chosen = strategy.choose(upstreams, asked)
            found.append("" if chosen is None else chosen.name)
    return tuple(found)


def test_no_strategy_falls_back_to_another() -> None:
    same = Counter(signature(name) for name in NAMES)
    assert len(same) == len(NAMES), same
