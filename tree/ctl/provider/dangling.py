"""What a router's file would still ask of a provider that is switched off, and the commands that
take it out. Pure.

    chain of "code" names gpt-4o-mini   ─▶ creche config set models.code.fallbacks '["lab-model"]'
    "cheap" asks the provider           ─▶ creche config unset models.cheap, its mentions before it
"""

import shlex
from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from common.config import parse
from common.positions import Path
from ctl import edit
from router.check import Kind, Listing, every_mention, rule_owner
from router.config import Config

#: A file's places are finite: each step takes at least one out.
STEPS_MAX = 1_000


class Step(Struct, frozen=True):
    """One place. `value` None: the key goes; `in_chain`: a chain gets shorter, nothing else."""

    line_number: int
    says: str
    key: Path
    value: list[str] | None
    in_chain: bool

    @property
    def place(self) -> str:
        return f"line {self.line_number}   {self.says}"

    @property
    def command(self) -> str:
        key = shlex.quote(edit.key_text(self.key))
        if self.value is None:
            return f"creche config unset {key}"
        return f"creche config set {key} {shlex.quote(edit.value_text(self.value))}"

    def apply(self, text: str) -> str:
        """Raises EditError."""
        if self.value is None:
            return edit.drop(text, self.key)
        return edit.put(text, self.key, self.value)


class _Make(Protocol):
    def __call__(
        self, says: str, key: Path, value: list[str] | None = None, *, in_chain: bool = ...
    ) -> Step: ...


def next_step(config: Config, before: str, provider: str) -> Step | None:
    """The last place of the file that names what nobody lists once `provider` is off; None: there
    is none. From the end on, so that items of lists keep their numbers. `before`: the file's text
    as its reader sees it, for the lines."""
    document = parse(before, "")

    def step(
        says: str, key: Path, value: list[str] | None = None, *, in_chain: bool = False
    ) -> Step:
        return Step(document.line_of(*key), says, key, value, in_chain)

    found = [*_mentions(config, step), *_askers(config, provider, step)]
    return max(found, key=lambda one: one.line_number, default=None)


def _mentions(config: Config, step: _Make) -> Iterator[Step]:
    listing = Listing(config)
    for one in every_mention(config):
        if one.name in listing:
            continue
        says = f'{one.says} "{one.name}"'
        match one.kind:
            case Kind.CHAIN | Kind.MEMBER:
                rest = [name for name in one.beside if name in listing]
                chain = one.kind is Kind.CHAIN
                if rest or chain:
                    yield step(says, one.path[:-1], rest, in_chain=chain)
                else:
                    yield step(says, one.path[:-2])
            case Kind.TARGET if any(name in listing for name in one.beside):
                yield step(says, one.path)
            case Kind.TARGET:
                yield step(says, one.path[:-2])
            case Kind.ALIAS | Kind.RULE:
                yield step(says, one.path[:-1])
            case _:
                yield step(says, one.path)


def _askers(config: Config, provider: str, step: _Make) -> Iterator[Step]:
    for name, model in config.models.items():
        if model.provider == provider:
            yield step(f'"{name}" asks the provider', ("models", name))
    for at, rule in enumerate(config.rules):
        if rule.provider == provider:
            yield step(f"{rule_owner(at, rule)} asks the provider", ("rules", at))


def in_order(steps: list[Step]) -> list[Step]:
    """As they can be taken one by one while the provider is still on: lists get shorter first, the
    last word on each; then single keys and rules; then entries, those that only follow from another
    before it."""
    lists = {one.key: one for one in steps if one.value is not None}
    gone = list({one.key: one for one in steps if one.value is None}.values())
    entries = [one for one in gone if len(one.key) == 2 and one.key[0] != "rules"]
    return [
        *sorted(lists.values(), key=lambda one: one.line_number),
        *(one for one in gone if one not in entries),
        *reversed(entries),
    ]
