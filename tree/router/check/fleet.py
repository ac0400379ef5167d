"""A file against the fleet as it is now: warnings alone, since a fleet comes and goes. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from common.config import Document, Problem
from common.positions import Path
from common.wire.registry import TYPE_OPENAI, Service, known_metadata, model_objects
from router.check import near, words
from router.check.listing import active, is_explicit, static_models
from router.check.mentions import mentions
from router.config import Config

UNNAMED_SHOWN = 8


def compare(
    config: Config, services: Sequence[Service], document: Document | None = None
) -> list[Problem]:
    """What the file names and nobody lists now, what the fleet lists under a name like it, and
    names that mean two things. With `document` each has its place.
    """
    engines = [one for one in services if known_metadata(one.metadata).type == TYPE_OPENAI]
    listed = _by_model(engines)
    live = _Live(document or Document("", "", {}))
    spelled = _spelled(config, listed)
    found = [
        *live.absent(config, listed, spelled),
        *live.clashes(config, engines),
        *live.breakers(config, engines),
        *live.unnamed(config, [one for one in listed if one not in spelled.values()]),
    ]
    return sorted(found, key=lambda one: (one.line, one.column))


def _by_model(engines: Iterable[Service]) -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for engine in engines:
        for one in model_objects(known_metadata(engine.metadata)):
            found.setdefault(str(one["id"]), []).append(engine)
    return found


class _Live:
    def __init__(self, document: Document) -> None:
        self._document = document

    def _warning(self, path: Path, text: str, effect: str, fix: str, on_key: bool) -> Problem:
        return self._document.problem(
            path, text, effect=effect, fix=fix, on_key=on_key, severity="warning"
        )

    def absent(
        self, config: Config, listed: dict[str, list[Service]], spelled: dict[str, str]
    ) -> Iterator[Problem]:
        for name, (path, on_key) in _wanted(config).items():
            engines = listed.get(name, [])
            if any(_fit(one) for one in engines):
                continue
            if engines:
                names = words.listed([one.name for one in engines])
                have = "has it and is" if len(engines) == 1 else "have it and are"
                effect = f"{names} {have} not fit, so requests for it fall back or get 503."
                fix = f"see why:  creche doctor {engines[0].name}"
            elif (meant := spelled.get(name)) is not None:
                effect = f'{listed[meant][0].name} has "{meant}", which is much like it.'
                fix = f'did you mean "{meant}"?'
            else:
                effect = "Until an engine with it is registered, requests fall back or get 503."
                fix = "start its engine (creche services shows those that are there)"
            yield self._warning(path, f'no fit engine has "{name}" now', effect, fix, on_key)

    def clashes(self, config: Config, engines: Sequence[Service]) -> Iterator[Problem]:
        names = {one.name: one.url for one in engines}
        for at, service in enumerate(config.static_services):
            if service.name in names:
                path: Path = ("static_services", at, "name")
                yield self._clash(path, service.name, names[service.name], on_key=False)
        for key in config.providers:
            if key in names:
                yield self._clash(("providers", key), key, names[key], on_key=True)

    def _clash(self, path: Path, name: str, url: str, *, on_key: bool) -> Problem:
        return self._warning(
            path,
            f'"{name}" is registered too, at {url}',
            "Only one of the two is used: requests and counts go by the name.",
            "give it another name here",
            on_key,
        )

    def breakers(self, config: Config, engines: Sequence[Service]) -> Iterator[Problem]:
        known = {*(one.name for one in engines), *config.providers}
        known |= {one.name for one in config.static_services}
        for name in config.breaker.services:
            if name not in known:
                meant = near.closest(name, known)
                yield self._warning(
                    ("breaker", "services", name),
                    f'[breaker.services] names "{name}", which is not registered now',
                    "Its numbers hold for nothing.",
                    f'did you mean "{meant}"?' if meant else "take it out, or start it",
                    True,
                )

    def unnamed(self, config: Config, listed: Iterable[str]) -> Iterator[Problem]:
        """Once a file says what to expect, what else is there may be a slip."""
        known = {*_wanted(config), *config.models, *_own(config)}
        others = sorted(name for name in listed if name not in known)
        if not config.expect or not others:
            return
        shown = [words.quoted(one) for one in others[:UNNAMED_SHOWN]]
        more = len(others) - len(shown)
        text = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        are = "is registered and is" if len(others) == 1 else "are registered and are"
        yield self._warning(
            ("expect",),
            f"{text} {are} not in expect",
            "Clients may ask for it; nobody is told when it is gone."
            if len(others) == 1
            else "Clients may ask for them; nobody is told when they are gone.",
            f"expect = {words.array([*config.expect, *others[:UNNAMED_SHOWN]])}",
            True,
        )


def _spelled(config: Config, listed: Iterable[str]) -> dict[str, str]:
    """Names that nobody lists, with what the fleet calls them."""
    names = dict.fromkeys(listed)
    absent = (name for name in _wanted(config) if name not in names)
    known = near.Known(names)
    found = {name: known.closest(name) for name in absent}
    return {name: meant for name, meant in found.items() if meant is not None}


def _fit(service: Service) -> bool:
    return service.is_healthy and not service.draining


def _own(config: Config) -> set[str]:
    """Names that the file itself serves."""
    return {
        *(name for one in active(config).values() for name in one.models),
        *(name for one in config.static_services for name in static_models(one)),
        *(name for name, one in config.models.items() if is_explicit(one)),
        *config.capabilities,
    }


def _wanted(config: Config) -> dict[str, tuple[Path, bool]]:
    """Names that only a registry can serve, each with its first place."""
    own = _own(config)
    found: dict[str, tuple[Path, bool]] = {}
    for at, name in enumerate(config.expect):
        found.setdefault(name, (("expect", at), False))
    for one in mentions(config):
        found.setdefault(one.name, (one.path, one.on_key))
    for name, model in config.models.items():
        if not is_explicit(model):
            found.setdefault(name, (("models", name), True))
    return {name: place for name, place in found.items() if name not in own}
