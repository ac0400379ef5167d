"""Whose file is it? A daemon's configuration is told by its keys, then by its name. Pure."""

import tomllib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

import babysitter.check
import babysitter.config
import registry.config
import router.check
import router.config
from common.config import Document, Problem, checked_text


class Kind(Struct, frozen=True):
    """One daemon's configuration: its shape, its check, and what `check` says of a good file."""

    name: str
    config_type: type[Any]
    check: Callable[[Any, Document], list[Problem]]
    describe: Callable[[Any], str]

    def judge(self, text: str, file: str) -> tuple[Any | None, list[Problem]]:
        """The configuration in `text` (None: it has none) and all that is wrong with it."""
        return checked_text(text, self.config_type, self.check, file)


ROUTER = Kind("router", router.config.Config, router.check.problems, router.check.summary)
REGISTRY = Kind(
    "registry", registry.config.Config, registry.config.problems, registry.config.describe
)
BABYSITTER = Kind(
    "babysitter", babysitter.config.Config, babysitter.check.check, babysitter.check.describe
)
KINDS = {kind.name: kind for kind in (ROUTER, REGISTRY, BABYSITTER)}


def of(text: str, file_name: str) -> Kind | None:
    """The daemon that knows most of the file's keys; where several do, the one that its name says.

    None where neither tells, as of an empty file called `new.toml`.
    """
    keys = _keys(text)
    known = {kind.name: _known(keys, kind) for kind in KINDS.values()}
    most = max(known.values())
    best = [kind for kind in KINDS.values() if known[kind.name] == most]
    if len(best) == 1:
        return best[0]
    named = [kind for kind in best if kind.name in file_name]
    return named[0] if len(named) == 1 else None


def _keys(text: str) -> set[str]:
    try:
        return set(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError):
        # Its first words tell as well: what is not TOML must be checked as somebody's, too.
        lines = (line.strip().lstrip("[").split("=")[0] for line in text.splitlines())
        return {line.split(".")[0].strip(" ]") for line in lines if line}


def _known(keys: set[str], kind: Kind) -> int:
    return len(keys & {field.encode_name for field in msgspec.structs.fields(kind.config_type)})
