"""Which names somebody will list, as far as the file tells, and who could have listed the others.

Listed is what an active provider or a static service has in its models, what `expect` trusts the
registry for, a capability, and a [models] entry that says itself what serves it. Pure.
"""

from collections.abc import Iterable, Iterator
from typing import get_args

from common.positions import Path
from common.wire.registry import known_metadata, model_objects
from router.check import near
from router.check.matcher import Matcher
from router.config import Config, StaticService
from router.named import Model, ModelStrategy, Provider

ACTIVE = "active"
VIRTUAL = ("models", "capabilities")
CHOOSE_MODELS = frozenset(get_args(ModelStrategy))


class Listing:
    """`name in listing`: somebody will list it. `places`: the first entry that promises each."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.places: dict[str, Path] = {}
        for name, path in promises(config):
            self.places.setdefault(name, path)
        #: Names that somebody lists whatever [models] and [capabilities] say of them.
        self.real = {name for name, path in promises(config) if path[0] not in VIRTUAL}
        self._known = near.Known(self.places)
        self._matchers = [Matcher(one.match) for one in config.patterns]

    def __contains__(self, name: str) -> bool:
        return name in self.places

    @property
    def complete(self) -> bool:
        """Whether the file says all: a static_file is read by the daemon alone."""
        return self._config.static_file is None

    def closest(self, name: str, but: str | None = None) -> str | None:
        """What was meant by a name that nobody will list; never `but`, whose entry names it."""
        return self._known.closest(name, but)

    def resting(self, name: str) -> list[str]:
        """Providers that have it in their models and are not active."""
        return [
            key
            for key, provider in self._config.providers.items()
            if provider.status != ACTIVE and name in provider.models
        ]

    def silent(self) -> list[str]:
        """Active providers that list no models: rather those that nothing else names."""
        found = [key for key, one in active(self._config).items() if not one.models]
        return [key for key in found if key not in asked(self._config)] or found

    def pattern(self, name: str) -> int | None:
        """The first pattern that matches a name, if its provider is active."""
        at = next((at for at, one in enumerate(self._matchers) if one.matches(name)), None)
        if at is None or self._config.patterns[at].provider not in active(self._config):
            return None
        return at


def promises(config: Config) -> Iterator[tuple[str, Path]]:
    """Every name that will be listed, with the place that says so."""
    for key, provider in config.providers.items():
        if provider.status == ACTIVE:
            for at, name in enumerate(provider.models):
                yield name, ("providers", key, "models", at)
    for at, service in enumerate(config.static_services):
        for name in static_models(service):
            yield name, ("static_services", at, "metadata")
    for at, name in enumerate(config.expect):
        yield name, ("expect", at)
    for name, model in config.models.items():
        if is_explicit(model):
            yield name, ("models", name)
    for name in config.capabilities:
        yield name, ("capabilities", name)


def is_explicit(model: Model) -> bool:
    """Whether an entry says what serves it: a virtual model or an alias, not settings alone."""
    return bool(
        model.targets or model.backend_model or model.provider or model.strategy in CHOOSE_MODELS
    )


def static_models(service: StaticService) -> list[str]:
    return [str(one["id"]) for one in model_objects(known_metadata(service.metadata))]


def active(config: Config) -> dict[str, Provider]:
    return {key: one for key, one in config.providers.items() if one.status == ACTIVE}


def asked(config: Config) -> set[str]:
    """Providers that are asked whatever they list."""
    return {
        *(one.provider for one in config.models.values() if one.provider is not None),
        *(one.provider for one in config.rules if one.provider is not None),
        *(one.provider for one in config.patterns),
    }


def repeats(names: Iterable[str]) -> Iterator[int]:
    """Where a name stands that stood before."""
    seen: set[str] = set()
    for at, name in enumerate(names):
        if name in seen:
            yield at
        seen.add(name)
