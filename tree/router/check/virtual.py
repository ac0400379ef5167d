"""[models] and [capabilities]: an entry says one thing, and its names end in models that are real.

Pure.
"""

from collections.abc import Iterator

from common.config import Problem
from router.check import words
from router.check.file import File
from router.check.graph import Graph, cycles, ends
from router.check.listing import CHOOSE_MODELS, is_explicit
from router.check.mentions import Kind, Mention, mentions
from router.named import Model
from router.names.entries import DEPTH_MAX

#: Keys that may stand together.
AGREE = ({"provider", "backend_model"}, {"targets", "strategy"})


def find(file: File) -> Iterator[Problem]:
    for name, model in file.config.models.items():
        if is_explicit(model):
            yield from _contradiction(file, name, model)
        else:
            yield from _settings(file, name, model)
    leads: dict[str, list[Mention]] = {}
    for one in mentions(file.config):
        if one.path[0] in {"models", "capabilities"} and one.kind is not Kind.CHAIN:
            leads.setdefault(str(one.path[1]), []).append(one)
    for name, named in leads.items():
        yield from _itself(file, name, named)
    yield from _ends(file, leads)


def _contradiction(file: File, name: str, model: Model) -> Iterator[Problem]:
    """Two keys that both say who serves it."""
    said = {
        "targets": bool(model.targets),
        "backend_model": model.backend_model is not None,
        "provider": model.provider is not None,
        "strategy": model.strategy in CHOOSE_MODELS,
    }
    keys = [key for key, says in said.items() if says]
    for at, key in enumerate(keys):
        for other in keys[:at]:
            if {key, other} not in AGREE:
                line = file.line(("models", name, other))
                yield file.error(
                    ("models", name, key),
                    f'"{name}" has {other} (line {line}) and {key}: each says who serves it',
                    effect="Only one of the two could count.",
                    fix="keep one; what should be true of a target stands in its own entry",
                    on_key=True,
                )
                return


def _settings(file: File, name: str, model: Model) -> Iterator[Problem]:
    """An entry that says nothing of who serves it: settings of a model that others list."""
    table = words.table("models", name)
    if model == Model():
        yield file.warning(
            ("models", name),
            f"{table} says nothing",
            effect="It only takes the name from patterns and from default.",
            fix="take it out, or say what serves it:  backend_model, provider or targets",
        )
        return
    if name in file.listing:
        return
    pattern = file.listing.pattern(name)
    if pattern is not None:
        yield _before_pattern(file, name, pattern)
        return
    if model.fallbacks and file.listing.complete:
        yield file.error(
            ("models", name),
            f'"{name}" has fallbacks, and nobody will list it',
            effect="Every request for it would go straight to its fallbacks.",
            fix=_listed_by(file, name),
        )
        return
    yield file.warning(
        ("models", name),
        f'{table} has settings, and nobody is known to list "{name}"',
        effect="They hold for nothing until somebody does.",
        fix=_listed_by(file, name),
    )


def _before_pattern(file: File, name: str, at: int) -> Problem:
    """An entry for a name that a pattern served: it goes first, and leads nowhere."""
    pattern = file.config.patterns[at]
    before = f"the pattern (line {file.line(('patterns', at))})"
    say = file.error if file.listing.complete else file.warning
    return say(
        ("models", name),
        f'{words.table("models", name)} hides the name from the pattern "{pattern.match}"',
        effect=f"An exact name goes before {before}, and nobody will list this one.",
        fix=f'add  provider = "{pattern.provider}"  under {words.table("models", name)}',
    )


def _listed_by(file: File, name: str) -> str:
    if resting := file.listing.resting(name):
        return f'set  status = "active"  under {words.table("providers", resting[0])}'
    if (meant := file.listing.closest(name)) is not None:
        return f'did you mean "{meant}"?'
    if file.config.registries:
        expect = words.array([*file.config.expect, name])
        return f"if the registry will have it:  expect = {expect}"
    return 'say what serves it:  backend_model = "…"'


def _itself(file: File, name: str, named: list[Mention]) -> Iterator[Problem]:
    """As a target it is the real model of its own name, where there is one."""
    if name in file.listing.real:
        return
    for one in named:
        if one.name == name:
            yield file.error(
                one.path,
                f"{one.says} itself, and nobody else lists it",
                effect="It would be looked for among upstreams, and found at none.",
                fix="name a model that an engine or a provider has",
                on_key=one.on_key,
            )
            return


def _ends(file: File, leads: dict[str, list[Mention]]) -> Iterator[Problem]:
    graph: Graph = {
        name: tuple(one.name for one in named if one.name != name) for name, named in leads.items()
    }
    found = False
    for cycle in cycles(graph):
        found = True
        first = next(one for one in leads[cycle[0]] if one.name == cycle[1])
        yield file.error(
            first.path,
            f"names stand for each other: {' → '.join([*cycle, cycle[0]])}",
            effect="Who follows them never comes to a model that somebody serves.",
            fix="let one of them name a model of an engine or a provider",
            on_key=first.on_key,
        )
    if found:
        return
    for name in ends(graph, DEPTH_MAX):
        yield file.error(
            leads[name][0].path,
            f'"{name}" leads on over more than {DEPTH_MAX} names',
            effect="Beyond that a name is looked for among upstreams as it is.",
            fix="let it name a model of an engine or a provider",
            on_key=leads[name][0].on_key,
        )
