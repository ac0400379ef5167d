"""What is known of the fleet right now: an immutable snapshot, replaced and never edited. Pure.

`Table.apply(changes)` gives the next table; only what a change touches is built anew, so a put
among 10,000 services costs two shallow copies. Pools, the candidates of a (model, capability),
are built when first asked for and live as long as their table.
"""

from collections.abc import Iterable, Mapping

from router.names.target import Target
from router.needs import INTERNAL
from router.route import CAPABILITIES
from router.upstream import Upstream

Upstreams = tuple[Upstream, ...]
Tiers = tuple[Upstreams, ...]
#: `source` of an upstream that a registry knows, and of one that the file names as a provider.
REGISTRY = "registry"
PROVIDER = "provider"
#: Kept at once.
POOLS_MAX = 20_000


class Pool:
    """The candidates for one target and capability, by the registry's word alone.

    Who is out or resting changes with traffic: Fitness keeps that in `tiers` and the like, and
    renews it when `version` is not its own any more or `until` has passed.
    """

    __slots__ = (
        "cache_types",
        "capped",
        "first",
        "fit",
        "last",
        "panic",
        "picky",
        "plain",
        "simple",
        "sound",
        "suspect",
        "target",
        "tiers",
        "tripped",
        "until",
        "version",
    )

    def __init__(self, target: Target, fit: Upstreams, suspect: Upstreams) -> None:
        self.target = target
        self.fit = fit
        self.suspect = suspect
        #: A candidate may refuse a request that says nothing of its needs.
        self.picky = any(
            u.privacy < INTERNAL or u.tenants or u.limiter is not None for u in (*fit, *suspect)
        )
        #: A candidate declares one: only then the size of a request's text matters.
        self.cache_types = any(u.cache_type for u in fit) or any(u.cache_type for u in suspect)
        #: Neither …
        self.simple = not self.picky and not self.cache_types
        #: … and nobody is known to take only so much at once: all requests that say nothing of
        #: their needs may be treated alike.
        self.plain = self.simple
        self.capped = False
        #: All that may be asked, best first, and those of them that count while a fallback is left.
        self.tiers: Tiers = ()
        self.first: Tiers = ()
        #: Out by breaker, and what is used when that is most of them; empty where it is not.
        self.tripped: Upstreams = ()
        self.panic: Tiers = ()
        #: What counts when no fallback is left, and how many of these tiers are none of those who
        #: are out: they wait their turn rather than go to one of these.
        self.last: Tiers = ()
        self.sound = 0
        self.version = -1
        self.until = 0.0


class Table:
    """`upstreams` by service name, `models` by model name: those that list it, fit or not."""

    __slots__ = ("_declared", "models", "pools", "upstreams")

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        models: Mapping[str, Upstreams],
        declared: frozenset[str],
        pools: dict[tuple[Target, str | None], Pool],
    ) -> None:
        self.upstreams = upstreams
        self.models = models
        self._declared = declared
        #: Those asked for so far. `pool` finds or makes one.
        self.pools = pools

    def pool(self, target: Target, capability: str | None) -> Pool:
        """The candidates of `target`. Empty ones are not kept: names are endless."""
        if capability is None or capability in self._declared:
            return self._kept(target, capability)
        # Nobody declares it, so only those that accept all may serve it: one pool for all such.
        pool = self._kept(target, _UNDECLARED)
        if capability in CAPABILITIES and (pool.fit or pool.suspect):
            self.pools[(target, capability)] = pool  # found at once by the next request
        return pool

    def _kept(self, target: Target, capability: str | None) -> Pool:
        pool = self.pools.get((target, capability))
        if pool is None:
            pool = self._build(target, capability)
            if pool.fit or pool.suspect:
                if len(self.pools) >= POOLS_MAX:
                    self.pools.clear()  # made again when asked for: names of patterns are endless
                self.pools[(target, capability)] = pool
        return pool

    def _build(self, target: Target, capability: str | None) -> Pool:
        eligible = [u for u in self.listed(target) if (u.fit or u.suspect) and u.serves(capability)]
        return Pool(
            target,
            tuple(u for u in eligible if u.fit),
            tuple(u for u in eligible if u.suspect),
        )

    def listed(self, target: Target) -> Iterable[Upstream]:
        """Of a target, fit or not."""
        if target.provider is not None:
            found = self.upstreams.get(target.provider)
            return () if found is None or found.source != PROVIDER else (found,)
        if not target.models:
            return self.upstreams.values()
        if len(target.models) == 1:
            return self.models.get(target.models[0], ())
        several = {u.name: u for model in target.models for u in self.models.get(model, ())}
        return (several[name] for name in sorted(several))

    def afresh(self) -> "Table":
        """Without pools: their targets are of a configuration that went."""
        return Table(self.upstreams, self.models, self._declared, {})

    def apply(self, changes: Mapping[str, Upstream | None]) -> "Table":
        """The table after `changes`: name to its new view, or to None where it is gone."""
        upstreams = dict(self.upstreams)
        touched: set[str] = set()
        declared = self._declared
        for name, new in changes.items():
            old = upstreams.get(name)
            if old is not None:
                touched.update(old.models)
            if new is None:
                upstreams.pop(name, None)
            else:
                touched.update(new.models)
                upstreams[name] = new
                declared |= new.capabilities
        return Table(
            upstreams,
            self._models_after(changes, touched),
            declared,
            {
                key: pool
                for key, pool in self.pools.items()
                if key[0].models
                and key[0].provider not in changes
                and touched.isdisjoint(key[0].models)
            },
        )

    def _models_after(
        self, changes: Mapping[str, Upstream | None], touched: set[str]
    ) -> dict[str, Upstreams]:
        models = dict(self.models)
        joined: dict[str, list[Upstream]] = {}
        for new in changes.values():
            if new is not None and new.openai:
                for model in new.models:
                    joined.setdefault(model, []).append(new)
        for model in touched:
            stayed = [u for u in models.get(model, ()) if u.name not in changes]
            listed = (*stayed, *joined.get(model, ()))
            if listed:
                # By name, so that every router and every restart goes round in the same order.
                models[model] = tuple(sorted(listed, key=_by_name))
            else:
                models.pop(model, None)
        return models


def _by_name(upstream: Upstream) -> str:
    return upstream.name


_UNDECLARED = "-"

EMPTY = Table({}, {}, frozenset(), {})
