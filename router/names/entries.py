"""[models] and [capabilities], compiled: what each name leads to. Pure.

    targets                     one by its weight or by the entry's strategy, then the others
    levels or weights alone     the same, over the models that they name
    provider                    that provider alone, under backend_model or the asked name
    backend_model               whatever that name leads to
    none of them                settings of the model of that name

A member that has an entry of its own leads where that says; one that has none is what upstreams
list. A name that comes up again on its own way is what upstreams list, too: nothing goes round.
`check` refuses such files; this is the second fence.
"""

from collections.abc import Iterable, Sequence

from router.config import Config
from router.named import Capability, Model
from router.names import settings
from router.names.choosing import InOrder, make
from router.names.nodes import Alias, Fixed, Node, Path, Virtual, survey
from router.names.settings import CHOOSE_MODELS, NONE, Settings
from router.names.target import Target

ACTIVE = "active"
#: Names on the way from the asked one to the real one.
DEPTH_MAX = 16
#: Strategies of a capability that keep its models' order: the first is asked while it can be.
ORDERED = frozenset({"priority", "priority_based"})


class Entries:
    """Each name is compiled once, and once more as a fallback."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[tuple[str, Settings, bool], Node] = {}

    def node(self, name: str, *, fallback: bool = False) -> Node:
        return self._node(name, NONE, fallback, ())

    def chain(self, own: Iterable[str] | None, *, of: str | None = None) -> tuple[Node, ...]:
        """A chain is flat: its members' own chains are not followed. `of` is not its own member."""
        members = self._config.default_fallbacks if own is None else own
        return tuple(self.node(name, fallback=True) for name in members if name != of)

    def own_chain(self, name: str) -> tuple[str, ...] | None:
        """The chain that the name's entry sets; None where it has none, or says nothing."""
        model = self._config.models.get(name)
        if model is not None:
            return model.fallbacks
        capability = self._config.capabilities.get(name)
        return None if capability is None else capability.fallbacks

    def real(self, name: str) -> Node:
        """What upstreams list by this name."""
        return self._real(name, settings.of(name, self._config.models.get(name)), False)

    def at(self, provider: str, name: str | None, told: str = "", path: Path = ()) -> Node:
        """One provider alone, by its own name of the model. None: the request names none."""
        own = NONE if name is None else settings.of(name, self._config.models.get(name))
        return self._provided(provider, name, own, False, told, path)

    def _node(self, name: str, outer: Settings, fallback: bool, above: tuple[str, ...]) -> Node:
        """`outer`: what the names `above` it, which led here, have set."""
        key = (name, outer, fallback)
        found = self._known.get(key)
        if found is None:
            found = self._compiled(name, outer, fallback, above)
            self._known[key] = found
        return found

    def _compiled(self, name: str, outer: Settings, fallback: bool, above: tuple[str, ...]) -> Node:
        model = self._config.models.get(name)
        if name in above or len(above) >= DEPTH_MAX:
            return self._real(name, outer.over(settings.of(name, model)), fallback)
        way = (*above, name)
        if model is not None:
            return self._of_model(name, model, outer.over(settings.of(name, model)), fallback, way)
        capability = self._config.capabilities.get(name)
        if capability is not None:
            return self._of_capability(name, capability, outer, fallback, way)
        return self._real(name, outer, fallback)

    def _of_model(
        self, name: str, model: Model, own: Settings, fallback: bool, way: tuple[str, ...]
    ) -> Node:
        path: Path = ("models", name)
        backend = model.backend_model
        if model.provider is not None:
            told = f"{name} → {backend or name} at {model.provider}"
            place = (*path, "provider")
            return self._provided(model.provider, backend or name, own, fallback, told, place)
        if model.targets or model.strategy in CHOOSE_MODELS:
            what = f"{name} is virtual"
            return self._virtual(what, path, model, model.targets, own, fallback, way)
        if backend is not None and backend != name:
            node = self._node(backend, own, fallback, way)
            return Alias(name, backend, node, (*path, "backend_model"))
        return self._real(name, own, fallback)

    def _of_capability(
        self,
        name: str,
        capability: Capability,
        outer: Settings,
        fallback: bool,
        way: tuple[str, ...],
    ) -> Node:
        path: Path = ("capabilities", name)
        what = f"{name} is a capability"
        if capability.strategy in CHOOSE_MODELS:
            targets = dict.fromkeys(capability.models, 1.0)
            return self._virtual(what, path, capability, targets, outer, fallback, way)
        own = outer.over(Settings(strategy=capability.strategy))
        members = {model: self._node(model, own, fallback, way) for model in capability.models}
        if capability.strategy in ORDERED:
            return Virtual(what, InOrder(capability.models), members, path)
        told = f"{what} → {', '.join(capability.models)} by {own.strategy}"
        pooled = _pooled(_all(members.values()))
        return Fixed(pooled, told, (*path, "models"), virtual=True)

    def _virtual(
        self,
        what: str,
        path: Path,
        entry: Model | Capability,
        targets: dict[str, float],
        own: Settings,
        fallback: bool,
        way: tuple[str, ...],
    ) -> Node:
        choosing = make(
            entry.strategy,
            targets,
            entry.levels,
            entry.weights,
            local=_local(_all(self._node(name, own, fallback, way) for name in targets)),
            place=("models" if isinstance(entry, Capability) else "targets",),
        )
        members = {name: self._node(name, own, fallback, way) for name in choosing.models}
        return Virtual(what, choosing, members, path)

    def _provided(
        self, key: str, name: str | None, own: Settings, fallback: bool, told: str, path: Path
    ) -> Node:
        """A provider that is not active is no target: the chain serves."""
        provider = self._config.providers.get(key)
        if provider is None or provider.status != ACTIVE:
            status = "unknown" if provider is None else provider.status
            return Fixed((), f"{told}, which is {status}" if told else f"{key} is {status}", path)
        models = () if name is None else (name,)
        return Fixed((self._target(models, key, own, fallback),), told, path)

    def _real(self, name: str, own: Settings, fallback: bool) -> Node:
        return Fixed((self._target((name,), None, own, fallback),))

    def _target(
        self, models: tuple[str, ...], provider: str | None, own: Settings, fallback: bool
    ) -> Target:
        config = self._config
        return own.target(
            models, provider, config.prefer_warm_ms, config.cache.ttl_s, fallback=fallback
        )


def _all(nodes: Iterable[Node]) -> list[Target]:
    way = survey(*nodes)
    return way.targets + way.fallbacks


def _local(targets: Iterable[Target]) -> tuple[str, ...]:
    """What registered upstreams call them."""
    models = (model for one in targets if one.provider is None for model in one.models)
    return tuple(dict.fromkeys(models))


def _pooled(targets: Sequence[Target]) -> list[Target]:
    """Neighbours that are asked alike become one target, so that one choice is made over all.

    What one provider alone serves, or has other timeouts, stays apart, in its place.
    """
    found: list[Target] = []
    for target in targets:
        last = found[-1] if found else None
        if last is None or target.provider is not None or not _alike(last, target):
            found.append(target)
            continue
        found[-1] = Target(
            last.models + target.models,
            strategy=last.strategy,
            timeouts=last.timeouts,
            limits=last.limits,
            limited=last.limited,
            prefer_warm_s=last.prefer_warm_s,
            resume=last.resume,
            hedge_after_s=last.hedge_after_s,
            cache_s=last.cache_s,
            cache_version=last.cache_version,
            fallback=last.fallback,
        )
    return found


_ALIKE = (
    "provider",
    "strategy",
    "timeouts",
    "limited",
    "prefer_warm_s",
    "resume",
    "hedge_after_s",
    "cache_s",
    "cache_version",
    "fallback",
)


def _alike(one: Target, other: Target) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _ALIKE)
