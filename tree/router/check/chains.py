"""Fallback chains: none holds its owner, a model twice, or leads round to where it began. Pure.

A terminal chain (`fallbacks = []`) is a wish, not a fault.
"""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check import words
from router.check.file import File
from router.check.graph import Graph, cycles
from router.check.listing import repeats
from router.check.mentions import pattern_owner, rule_owner
from router.config import Config
from router.names.entries import DEPTH_MAX


def find(file: File) -> Iterator[Problem]:
    for path, owner, members in chains(file.config):
        yield from _twice(file, path, owner, members)
    own = dict(_own(file.config))
    for name, (path, members) in own.items():
        yield from _itself(file, path, name, members)
        yield from _already_asked(file, path, name, members)
    graph: Graph = {name: members for name, (_, members) in own.items()}
    for cycle in cycles(graph):
        yield _round(file, own[cycle[0]][0], cycle, graph)


def chains(config: Config) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Every chain that has members: where, of what, and they."""
    if config.default_fallbacks:
        yield ("default_fallbacks",), "default_fallbacks", config.default_fallbacks
    for name, (path, members) in _own(config):
        yield path, f'the fallbacks of "{name}"', members
    for at, pattern in enumerate(config.patterns):
        if pattern.fallbacks:
            path = ("patterns", at, "fallbacks")
            yield path, f"the fallbacks of {pattern_owner(pattern)}", pattern.fallbacks
    for at, rule in enumerate(config.rules):
        if rule.fallbacks:
            owner = f"the fallbacks of {rule_owner(at, rule)}"
            yield ("rules", at, "fallbacks"), owner, rule.fallbacks


def _own(config: Config) -> Iterator[tuple[str, tuple[Path, tuple[str, ...]]]]:
    """Chains of what has a name that another chain can hold."""
    for name, model in config.models.items():
        if model.fallbacks:
            yield name, (("models", name, "fallbacks"), model.fallbacks)
    for name, capability in config.capabilities.items():
        if capability.fallbacks and name not in config.models:
            yield name, (("capabilities", name, "fallbacks"), capability.fallbacks)


def _twice(file: File, path: Path, owner: str, members: tuple[str, ...]) -> Iterator[Problem]:
    again = set(repeats(members))
    seen: dict[str, str] = {}
    for at, member in enumerate(members):
        real = _real(file.config, member)
        if at in again:
            yield file.error(
                (*path, at),
                f'"{member}" stands twice in {owner}',
                effect="The second counts for nothing: it has been asked by then.",
                fix="take one of the two out",
            )
        elif real in seen:
            yield file.warning(
                (*path, at),
                f'"{member}" in {owner} is "{seen[real]}" under another name',
                effect="It counts for nothing: it has been asked by then.",
                fix="take one of the two out",
            )
        seen.setdefault(real, member)


def _itself(file: File, path: Path, name: str, members: tuple[str, ...]) -> Iterator[Problem]:
    for at, member in enumerate(members):
        if member == name:
            yield file.error(
                (*path, at),
                f'"{name}" falls back on itself',
                effect="It counts for nothing: a chain is asked when its owner has failed.",
                fix="take it out of its own chain",
            )


def _real(config: Config, name: str) -> str:
    """What a name is an alias of, in the end."""
    for _ in range(DEPTH_MAX):
        model = config.models.get(name)
        if model is None or model.provider is not None or model.backend_model is None:
            break
        name = model.backend_model
    return name


def _already_asked(
    file: File, path: Path, name: str, members: tuple[str, ...]
) -> Iterator[Problem]:
    """What serves a name anyway is no fallback for it."""
    model = file.config.models.get(name)
    capability = file.config.capabilities.get(name)
    if model is not None:
        alias = (model.backend_model,) if model.backend_model and not model.provider else ()
        before: tuple[str, ...] = (*model.targets, *alias)
    else:
        before = capability.models if capability is not None else ()
    asked = {_real(file.config, one) for one in before or (name,)}
    again = set(repeats(members))
    for at, member in enumerate(members):
        if at not in again and member != name and _real(file.config, member) in asked:
            what = (
                "which serves it already" if member in before else "another name for what serves it"
            )
            yield file.warning(
                (*path, at),
                f'"{name}" falls back on "{member}", {what}',
                effect="When the chain is reached, it has been asked and has failed.",
                fix="take it out of the chain",
            )


def _round(file: File, path: Path, cycle: tuple[str, ...], graph: Graph) -> Problem:
    at = graph[cycle[0]].index(cycle[1])
    last = words.quoted(cycle[-1])
    return file.error(
        (*path, at),
        f"fallbacks go round: {' → '.join([*cycle, cycle[0]])}",
        effect="Each leads back to what has just failed; a chain has to end somewhere.",
        fix=f"take {words.quoted(cycle[0])} out of the fallbacks of {last}",
    )
