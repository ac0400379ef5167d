"""Configurations and requests in one line, for the tests of names."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from router.config import Config
from router.names.resolve import Names
from router.names.target import Resolution, Target
from router.prompt import Prompt


def config(text: str) -> Config:
    """As the file decodes: what `check` would refuse may be in it."""
    return msgspec.convert(tomllib.loads(text), Config)


def names(text: str) -> Names:
    return Names(config(text))


class Body:
    def __init__(self, stream: bool, prompt: Prompt) -> None:
        self.stream = stream
        self._prompt = prompt

    def prompt(self) -> Prompt:
        return self._prompt


class Asked:
    """A request for `model`, with whatever a test says of it."""

    def __init__(
        self,
        model: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        key: str | None = None,
        busy: float = 0.0,
        **prompt: Any,
    ) -> None:
        self.model = model
        self.headers = dict(headers or {})
        self.envelope = Body(stream, Prompt(**prompt))
        self.key = key
        self.busy = busy
        #: What was asked for its saturation.
        self.measured: list[tuple[str, ...]] = []

    def saturation(self, models: Sequence[str]) -> float:
        self.measured.append(tuple(models))
        return self.busy


def resolve(
    of: Names | str,
    model: str | None,
    *,
    listed: Sequence[str] = (),
    dice: float | Callable[[], float] = 0.0,
    **asked: Any,
) -> Resolution:
    found = names(of) if isinstance(of, str) else of
    roll = dice if callable(dice) else lambda: dice
    return found.resolve(Asked(model, **asked), lambda name: name in listed, roll)


def shown(targets: Sequence[Target]) -> list[str]:
    """`qwen3-8b`, `gpt-4o at openai`, `a|b` for a pool over two."""
    return [
        "|".join(one.models) + (f" at {one.provider}" if one.provider else "") for one in targets
    ]


def way(found: Resolution) -> tuple[str, list[str], list[str]]:
    return found.how, shown(found.targets), shown(found.fallbacks)
