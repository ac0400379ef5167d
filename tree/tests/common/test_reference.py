"""The manual is what the source says."""

import sys
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, field

from common import config, reference
from tests.support.processes import Processes


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model may use."""

    #: Requests a minute.
    rpm: Annotated[int, Meta(gt=0)] = 60


class Shared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: From the base.
    weight: float = 1


class Engine(Shared, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An engine | a process."""

    kind: Literal["vllm", "mock"]
    #: Where it listens,
    #: over two lines.
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None


class Manual(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    #: Address and port.
    listen: str = "127.0.0.1:1"
    names: tuple[str, ...] = ("a",)
    lease: Limits = field(default_factory=Limits)
    models: dict[str, Limits] = field(default_factory=dict)
    engine: list[Engine] = field(default_factory=list)


SHOWS_ALL = """
listen = "127.0.0.1:1"
# names = ["a"]
[lease]
rpm = 60
# [models.code]
# rpm = 1
[[engine]]
kind = "mock"
# port = 1
weight = 1
"""


def test_every_table_has_its_keys_types_defaults_and_comments() -> None:
    page = reference.markdown(Manual, level=2)
    for line in (
        "## Top level",
        '| `listen` | a string | `"127.0.0.1:1"` | Address and port. |',
        '| `names` | an array of strings | `["a"]` |  |',
        "## `[lease]`",
        "What one model may use.",
        "| `rpm` | an integer above 0 | `60` | Requests a minute. |",
        "## `[models.<name>]`",
        "## `[[engine]]`",
        "| `weight` | a number | `1` | From the base. |",
        '| `kind` | one of "vllm", "mock" | required |  |',
        "| `port` | an integer from 1 to 65535 | – | Where it listens, over two lines. |",
    ):
        assert line in page.splitlines(), line


def test_the_generated_toml_is_decoded_to_the_defaults() -> None:
    text = reference.toml(Manual)
    assert config.decode(text, Manual) == Manual()
    assert "# Requests a minute.\nrpm = 60\n" in text
    assert "# [[engine]]\n" in text


def test_a_file_that_shows_every_key_misses_none() -> None:
    assert reference.missing(Manual, SHOWS_ALL) == []
    assert reference.missing(Manual, reference.toml(Manual)) == []


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ('listen = "127.0.0.1:1"', "listen"),
        ('# names = ["a"]', "names"),
        ("# rpm = 1", "models.*.rpm"),
        ("# port = 1", "engine.#.port"),
        ("weight = 1", "engine.#.weight"),
    ],
)
def test_a_key_that_is_not_shown_is_named(line: str, path: str) -> None:
    assert reference.missing(Manual, SHOWS_ALL.replace(f"{line}\n", "")) == [path]


class When(Struct, frozen=True):
    stream: bool = False


class Rule(Struct, frozen=True):
    when: When = When()


class Ruled(Struct):
    rules: tuple[Rule, ...] = ()


def test_a_table_below_an_array_of_tables_is_of_its_latest_item() -> None:
    assert reference.missing(Ruled, "# [[rules]]\n# [rules.when]\n# stream = true\n") == []
    assert reference.missing(Ruled, "# [rules.when]\n# stream = true\n") == ["rules.#.when.stream"]


def test_what_is_no_struct_is_refused() -> None:
    for name in ("common.config", "common.config:load", "common.config:absent"):
        with pytest.raises(ValueError, match="is no Struct"):
            reference.load(name)


@pytest.mark.real
async def test_it_is_a_program(processes: Processes) -> None:
    name = "common.address:Address"
    child = processes.start([sys.executable, "-m", "common.reference", name], name="reference")
    assert await child.ended() == 0
    assert "| `port` | an integer | required |  |" in child.log
