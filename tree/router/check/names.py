"""One name, one thing: of providers, services, models, capabilities, and in lists. Pure."""

from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check import near, words
from router.check.file import File
from router.check.listing import active, is_explicit, repeats, static_models


def find(file: File) -> Iterator[Problem]:
    yield from _providers(file)
    yield from _capabilities(file)
    yield from _nameless(file)
    yield from _expect(file)
    yield from _near_misses(file)


def _providers(file: File) -> Iterator[Problem]:
    config = file.config
    services = {one.name for one in config.static_services}
    for name in config.providers:
        path = ("providers", name)
        if name in services:
            yield file.error(
                path,
                f'a static service and a provider are named "{name}"',
                effect="Requests and counts of the two could not be told apart.",
                fix="give one of them another name",
                on_key=True,
            )
        place = file.listing.places.get(name)
        if place is not None:
            yield file.warning(
                path,
                f'"{name}" is a provider, and a model (line {file.line(place)})',
                effect="In a chain, a target or a rule it means the model, never the provider.",
                fix="give one of them another name",
                on_key=True,
            )


def _capabilities(file: File) -> Iterator[Problem]:
    """An exact name goes before a capability: one of the same name is never asked."""
    config = file.config
    listed = {name for provider in active(config).values() for name in provider.models}
    listed |= {name for one in config.static_services for name in static_models(one)}
    for name in config.capabilities:
        path = ("capabilities", name)
        if name in config.models:
            yield file.error(
                path,
                f'a model and a capability are named "{name}"',
                effect=f"{file.table('models', name)} goes first: the capability is never asked.",
                fix="give one of them another name",
            )
        elif name in listed or name in config.expect:
            line = file.line(file.listing.places[name])
            yield file.warning(
                path,
                f'the capability "{name}" has the name of a model (line {line})',
                effect="While the model is listed it goes first: the capability is not asked.",
                fix="give the capability another name",
            )


def _nameless(file: File) -> Iterator[Problem]:
    for kind, names in (("models", file.config.models), ("capabilities", file.config.capabilities)):
        for name in names:
            if not name.strip():
                yield file.error(
                    (kind, name),
                    f"{words.table(kind, name)} has no name",
                    effect="No client can ask for it.",
                    fix=f"give it one, like  [{kind}.code]",
                )


def _expect(file: File) -> Iterator[Problem]:
    expect = file.config.expect
    again = set(repeats(expect))
    for at, name in enumerate(expect):
        if at in again:
            yield file.warning(
                ("expect", at),
                f'"{name}" stands twice in expect',
                effect="It counts once.",
                fix="take one of the two out",
            )
        elif not name.strip():
            yield file.error(
                ("expect", at),
                "expect names a model without a name",
                effect="No engine can have it.",
                fix="take it out",
            )
    if not expect or file.config.registries:
        return
    yield file.warning(
        ("expect",),
        "expect names models, and there is no registry that they could come from",
        effect="They are taken for listed, and nobody will list them.",
        fix='registries = ["http://127.0.0.1:18000"]',
        on_key=True,
    )


def _near_misses(file: File) -> Iterator[Problem]:
    """Two names that are surely one: both are listed, so nothing else would tell."""
    config = file.config
    virtual = {name for name, model in config.models.items() if is_explicit(model)}
    plain = [name for name in file.listing.places if name not in virtual]
    told: set[str] = set()
    for pair in near.pairs(plain, plain):
        if told & set(pair):
            continue
        told |= set(pair)
        # Of the two the later is doubted, but rather what is expected than what is configured.
        other, name = sorted(pair, key=lambda one: _doubt(file, file.listing.places[one]))
        place, before = file.listing.places[name], file.listing.places[other]
        if place[:2] == before[:2] and place[0] == "providers":
            continue  # one provider has both: it means them
        yield file.warning(
            place,
            f'"{name}" is one slip away from "{other}" (line {file.line(before)})',
            effect="If they are one model, requests for one name miss the upstreams of the other.",
            fix=f'did you mean "{other}"?',
        )


def _doubt(file: File, place: Path) -> tuple[bool, int]:
    return place[0] == "expect", file.line(place)
