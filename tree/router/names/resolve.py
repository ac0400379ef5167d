"""Which models and providers serve the name that a client asked for? Pure.

    rules ─▶ exact ─▶ capability ─▶ pattern ─▶ default      the first that knows it, then its chain

*Exact* is an entry of [models], a name in an active provider's models or in `expect`, and what an
upstream lists. A request without a name has rules alone; else every upstream may have it.

A chain is the entry's own, else `default_fallbacks`, and flat: its members' chains are not
followed. Names that other entries mention lead where [models] or [capabilities] say; one that
neither knows is what upstreams list.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import ClassVar, NamedTuple

from router.config import Config
from router.envelope import EMPTY
from router.names.entries import ACTIVE, Entries
from router.names.facts import Dice, Facts, Listed
from router.names.nodes import Fixed, Node, Path, Way, survey
from router.names.rules import Conditions
from router.names.shape import Shape
from router.names.target import Resolution, Target

#: Names that clients made up and that are kept compiled: names are endless.
NAMES_MAX = 4_096

#: Every upstream: for requests that name no model.
ANY = Target(())


class Entry:
    """What a name leads to, and its chain. What is the same for all requests is walked once."""

    def __init__(
        self, how: str, node: Node, chain: tuple[Node, ...], told: str = "", path: Path = ()
    ) -> None:
        """`told` and `path`: of an entry whose nodes tell nothing themselves."""
        self.how = how
        self._node = node
        self._chain = chain
        self._told = told
        self._path = path
        self._walked: Way | None = None
        self._surveyed: Way | None = None

    def walk(self, asked: Facts, dice: Dice) -> Way:
        if self._walked is not None:
            return self._walked
        way = Way(asked, dice)
        for node in (self._node, *self._chain):
            way.follow(node)
        if not way.told:
            way.told, way.path = [self._told], self._path
        if not way.varies:
            self._walked = way
        return way

    def like(self, servable: Callable[[Target], bool]) -> Iterator[str | None]:
        """`Askable.like`, where anything that it could lead to is servable; else nothing."""
        if self._surveyed is None:
            self._surveyed = survey(self._node, *self._chain)
        first = next(filter(servable, self._surveyed.targets), None)
        if first is not None:
            yield None if self._node.virtual else first.name or None
        elif any(map(servable, self._surveyed.fallbacks)):
            yield None


class Askable(NamedTuple):
    name: str
    #: The listed model that it is another name for: its object tells what the name can do.
    #: None: it is virtual, or only its chain could serve it.
    like: str | None


class Names:
    """Compiled once per configuration. Targets are the same objects from request to request.

    Raises re2.error and ValueError for what `router.check` refuses.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._entries = Entries(config)
        self._rules = tuple(Conditions(rule, at) for at, rule in enumerate(config.rules))
        self._shapes = tuple(Shape(one.match, one.rewrite) for one in config.patterns)
        self._exact = dict(self._exact_entries())
        self._capabilities = {name: self._entry("capability", name) for name in config.capabilities}
        self._default = None if config.default is None else self._entry("default", config.default)
        # Bounded: what they forget is made anew.
        self._listed: Callable[[str], Entry] = lru_cache(NAMES_MAX)(self._listed_entry)
        self._shaped: Callable[[str], Entry | None] = lru_cache(NAMES_MAX)(self._shaped_entry)
        self._ruled: Callable[[Conditions, str | None], Entry]
        self._ruled = lru_cache(NAMES_MAX)(self._ruled_entry)
        self._rules_of: Callable[[str | None], tuple[Conditions, ...]]
        self._rules_of = lru_cache(NAMES_MAX)(self._possible_rules)

    def resolve(self, asked: Facts, listed: Listed, dice: Dice) -> Resolution:
        """Never raises. `listed` is asked only for a name that the file does not know."""
        name = asked.model
        varies = False
        if self._rules:
            for rule in self._rules_of(name):
                varies = varies or rule.varies
                held = rule.held(asked)
                if held is not None:
                    return self._by_rule(rule, held, asked, dice, varies)
        if name is None:
            why = "the request names no model"
            return Resolution("", "any", (ANY,), why=why, varies=varies)
        entry = self._exact.get(name) or self._found(name, listed)
        if entry is None:
            why = f"nothing is called {name}"
            return Resolution(name, "none", (), why=why, varies=varies)
        way = entry.walk(asked, dice)
        if entry is self._default:
            told = (f"nothing is called {name}, the default serves", *way.told)
            return _resolution(name, "default", way, told, ("default",), varies)
        return _resolution(name, entry.how, way, way.told, way.path, varies)

    def depends(self, name: str | None) -> bool:
        """False: every request for this name gets the same, as long as `listed(name)` says so."""
        nobody = _Nobody(name)
        return (
            self.resolve(nobody, _always, _zero).varies
            or self.resolve(nobody, _never, _zero).varies
        )

    def askable(self, listed: Iterable[str], servable: Callable[[Target], bool]) -> list[Askable]:
        """Names that clients may ask for and somebody could serve now, sorted.

        `listed`: what fit upstreams list. A configured name counts while one of its targets or its
        chain's is servable. Patterns, rules and the default have no names to tell.
        """
        entries = dict(self._capabilities)
        entries.update((name, self._listed(name)) for name in listed)
        entries.update(self._exact)
        return [
            Askable(name, like)
            for name, entry in sorted(entries.items())
            for like in entry.like(servable)
        ]

    def _found(self, name: str, listed: Listed) -> Entry | None:
        """Of a name that is in no [models], no active provider's models and not expected."""
        if listed(name):
            return self._listed(name)
        found = self._capabilities.get(name)
        if found is None and self._shapes:
            found = self._shaped(name)
        return found or self._default

    def _by_rule(
        self, rule: Conditions, held: str, asked: Facts, dice: Dice, varies: bool
    ) -> Resolution:
        # Whom a rule names is one for all, but for the asked name at a provider.
        way = self._ruled(rule, None if rule.rule.model else asked.model).walk(asked, dice)
        leads = " at ".join(one for one in (rule.rule.model, rule.rule.provider) if one)
        told = (f"{rule.label} ({held}) → {leads}", *filter(None, way.told))
        return _resolution(asked.model or "", "rule", way, told, ("rules", rule.at), varies)

    # --- compiling ------------------------------------------------------------------------------

    def _entry(self, how: str, name: str) -> Entry:
        chain = self._entries.chain(self._entries.own_chain(name), of=name)
        node = self._entries.node(name)
        return Entry(how, node, chain, f"{name} is listed by name", ("models", name))

    def _exact_entries(self) -> Iterator[tuple[str, Entry]]:
        """Where several know a name, the last counts."""
        config = self._config
        for at, name in enumerate(config.expect):
            told = f"{name} is expected from the registry"
            yield name, self._listed_entry(name, told, ("expect", at))
        for key, provider in config.providers.items():
            if provider.status == ACTIVE:
                for at, name in enumerate(provider.models):
                    place = ("providers", key, "models", at)
                    yield name, self._listed_entry(name, f"{name} is listed by {key}", place)
        for name in config.models:
            yield name, self._entry("exact", name)

    def _listed_entry(self, name: str, told: str = "", path: Path = ()) -> Entry:
        """Of a name that stands for itself, whatever [capabilities] call so."""
        chain = self._entries.chain(None, of=name)
        return Entry(
            "exact", self._entries.real(name), chain, told or f"{name} is listed by name", path
        )

    def _shaped_entry(self, name: str) -> Entry | None:
        for at, (shape, pattern) in enumerate(
            zip(self._shapes, self._config.patterns, strict=True)
        ):
            rewritten = shape.rewritten(name)
            if rewritten is not None:
                told = f"{name} is like {pattern.match} → {rewritten} at {pattern.provider}"
                node = self._entries.at(pattern.provider, rewritten, told, ("patterns", at))
                return Entry("pattern", node, self._entries.chain(pattern.fallbacks, of=name))
        return None

    def _possible_rules(self, name: str | None) -> tuple[Conditions, ...]:
        return tuple(rule for rule in self._rules if rule.may(name))

    def _ruled_entry(self, conditions: Conditions, asked: str | None) -> Entry:
        """`asked`: where the rule names no model of its own."""
        rule = conditions.rule
        name = rule.model or asked
        node: Node = Fixed(())
        if rule.provider is not None:
            node = self._entries.at(rule.provider, name)
        elif rule.model is not None:
            node = self._entries.node(rule.model)
        own = rule.fallbacks
        if own is None and name is not None:
            own = self._entries.own_chain(name)
        return Entry("rule", node, self._entries.chain(own, of=name))


def _resolution(
    name: str, how: str, way: Way, told: Iterable[str], path: Path, varies: bool
) -> Resolution:
    return Resolution(
        name,
        how,
        tuple(way.targets),
        tuple(way.fallbacks),
        why="; ".join(told),
        path=path,
        varies=varies or way.varies,
    )


class _Nobody:
    """A request that says nothing but a name."""

    headers: ClassVar[dict[str, str]] = {}
    envelope = EMPTY
    key = None

    def __init__(self, model: str | None) -> None:
        self.model = model

    def saturation(self, models: Sequence[str]) -> float:
        return 0.0


def _always(name: str) -> bool:
    return True


def _never(name: str) -> bool:
    return False


def _zero() -> float:
    return 0.0
