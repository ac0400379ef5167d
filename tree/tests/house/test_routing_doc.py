"""docs/routing.md shows worked requests: each is asked of its strategy, and every line compared.

A section's name is the strategy. A table with a column `explained` is one request and its
candidates; a line `Asked: …` before it says what the request brings, a line `The next … requests:
…` after it who serves when it is sent again and again.
"""

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import pytest

from router import choose
from router.choose.asked import Strategy
from router.config import Config
from router.named import Levels, Model, ModelStrategy, UpstreamStrategy, WeightWhen
from router.names.choosing import make as make_choosing
from router.needs import Needs
from router.nodes import NodeHealth
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, says
from tests.router.names.asking import Asked

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"
CHOSEN = "◀ chosen"
CONFIG = Config()


class Example:
    def __init__(self, strategy: str, line: int) -> None:
        self.strategy = strategy
        self.line = line
        self.asked = ""
        self.head: list[str] = []
        self.rows: list[list[str]] = []
        self.next: list[str] = []

    def __repr__(self) -> str:
        return f"{self.strategy}-line-{self.line}"


def examples() -> Iterator[Example]:
    found: Example | None = None
    section = asked = ""
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("Asked: "):
            asked = line.removeprefix("Asked: ")
        elif line.startswith("| upstream ") and "explained" in line:
            if found is not None:
                yield found
            found = Example(section, number)
            found.asked, asked = asked, ""
            found.head = cells(line)
        elif found is not None and line.startswith("| ") and len(cells(line)) == len(found.head):
            found.rows.append(cells(line))
        elif found is not None and (after := re.match(r"The next \w+ requests: (.*)", line)):
            found.next = after[1].split()
    if found is not None:
        yield found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


EXAMPLES = list(examples())


def built(row: dict[str, str]) -> Upstream:
    """The upstream that a row describes."""

    def number(name: str, otherwise: float | None = None) -> float | None:
        return float(row[name]) if row.get(name) else otherwise

    metadata: dict[str, Any] = {}
    for name in ("priority", "context tokens"):
        if row.get(name):
            metadata[name.replace(" ", "_")] = int(row[name])
    if row.get("region"):
        metadata["region"] = row["region"]
    if row.get("cost"):
        metadata["cost"] = float(row["cost"])
    asked = number("asked")
    return engine(
        row["upstream"],
        *row.get("models", "m").split(),
        weight=number("weight", 1.0) or 1.0,
        in_flight=int(row.get("in flight", "0")),
        asked=None if asked is None else int(asked),
        p50_ms=number("p50 ms"),
        failures=int(row.get("failures", "0")),
        tokens=int(row.get("tokens this minute", "0")),
        answered=int(row.get("answered", "0")),
        health=NodeHealth(row.get("health", "healthy")),
        **metadata,
    )


def requested(words: str) -> Request:
    """`key session-42`, `dice 0.6 0.1`, `region eu`, `models a b`, `prompt 14 blocks`."""
    what, *values = words.split() if words else [""]
    match what:
        case "":
            return Request()
        case "key":
            return Request(key=values[0])
        case "dice":
            rolls = cycle(map(float, values))
            return Request(dice=lambda: next(rolls))
        case "region":
            return Request(needs=Needs(region=values[0]))
        case "models":
            return Request(models=tuple(values))
        case "prompt":
            return prompt(int(values[0]))
    raise AssertionError(f"nobody knows what to ask with {words!r}")


def prompt(blocks: int) -> Request:
    # Two bytes of the first block are the mark of a turn.
    return Request(envelope=says("lorem ip" * (CONFIG.prefix.block_bytes // 8 * blocks)))


def strategy_of(example: Example, upstreams: tuple[Upstream, ...]) -> Strategy:
    strategy = choose.make(example.strategy, CONFIG)
    for row, upstream in zip(example.rows, upstreams, strict=True):
        blocks = dict(zip(example.head, row, strict=True)).get("blocks read")
        if blocks:
            strategy.took(upstream, prompt(int(blocks)))
    return strategy


@pytest.mark.parametrize("example", EXAMPLES, ids=repr)
def test_a_worked_request_is_what_the_strategy_does(example: Example) -> None:
    upstreams = tuple(built(dict(zip(example.head, row, strict=True))) for row in example.rows)
    strategy = strategy_of(example, upstreams)
    asked = requested(example.asked)
    explained = strategy.explain(upstreams, asked)
    chosen = strategy.choose(upstreams, asked)
    computed = [
        [*row[:-2], explained[row[0]], CHOSEN if chosen and row[0] == chosen.name else ""]
        for row in example.rows
    ]
    assert example.rows == computed, "\n".join("| " + " | ".join(row) + " |" for row in computed)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.next], ids=repr)
def test_who_serves_next_is_who_would(example: Example) -> None:
    upstreams = tuple(built(dict(zip(example.head, row, strict=True))) for row in example.rows)
    strategy, asked = strategy_of(example, upstreams), requested(example.asked)
    chosen = [strategy.choose(upstreams, asked) for _ in example.next]
    assert example.next == [one.name for one in chosen if one is not None]


def test_every_strategy_has_a_worked_request() -> None:
    assert {example.strategy for example in EXAMPLES} == set(choose.MAKERS)
    assert any(example.next for example in EXAMPLES)


def test_every_name_that_a_configuration_may_give_is_on_the_page() -> None:
    text = PAGE.read_text()
    names = set(get_args(UpstreamStrategy))
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    for alias, name in choose.ALIASES.items():
        assert re.search(rf"`{alias}`[^.]*? (is|are) `{name}`", text), alias


# --- strategies that choose the model -------------------------------------------------------------

ENTRIES = Config(
    models={
        "complexity_based": Model(levels=Levels(low="low", medium="medium", high="high")),
        "context_based": Model(
            levels=Levels(standard="standard", complex="complex", large="large")
        ),
        "quality_based": Model(levels=Levels(standard="standard", high="high")),
        "adaptive_weighted": Model(
            targets={"own": 9, "cloud": 1},
            weights=(
                WeightWhen(when="local_saturated", targets={"own": 1, "cloud": 3}),
                WeightWhen(when="batch", targets={"cloud": 1}),
            ),
        ),
    }
).models


def model_rows() -> Iterator[tuple[str, str, str, str]]:
    section, inside = "", False
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section, inside = line[3:], False
        elif line == "| request | model | because |":
            inside = True
        elif inside and line.startswith("| "):
            request, model, because = cells(line)
            yield section, request, model, because


MODEL_ROWS = list(model_rows())


def test_every_strategy_that_chooses_a_model_has_worked_requests() -> None:
    assert {section for section, *_ in MODEL_ROWS} == set(get_args(ModelStrategy))


@pytest.mark.parametrize(("strategy", "request_", "model", "because"), MODEL_ROWS)
def test_a_worked_request_gets_its_model(
    strategy: str, request_: str, model: str, because: str
) -> None:
    entry = ENTRIES[strategy]
    brought = dict(part.split(" ", 1) for part in request_.split(", "))
    dice = float(brought.pop("dice", 0))
    asked: dict[str, Any] = {}
    if tier := brought.pop("tier", None):
        asked["headers"] = {"x-quality-tier": tier}
    if busy := brought.pop("saturation", None):
        asked["busy"] = float(busy)
    asked |= {name: int(value) for name, value in brought.items()}
    choosing = make_choosing(strategy, entry.targets, entry.levels, entry.weights)
    choice = choosing.order(Asked("m", **asked), lambda: dice)
    assert (choice.models[0], choice.why) == (model, because)
