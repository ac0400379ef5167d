"""What is known of the fleet right now: an immutable snapshot, replaced and never edited. Pure.

`Table.apply(changes)` gives the next table; only what a change touches is built anew, so a put
among 10,000 services costs two shallow copies. Pools, the candidates of a (model, capability),
are built when first asked for and live as long as their table.
"""

from collections.abc import Iterable, Mapping

from router.upstream import Upstream

Upstreams = tuple[Upstream, ...]


class Pool:
    """The candidates for one model and capability, by the registry's word alone.

    Who is out or resting changes with traffic: the Brain keeps that in `tiers`, and renews it
    when `version` is not its own any more or `until` has passed.
    """

    __slots__ = ("cache_types", "fit", "model", "suspect", "tiers", "until", "version")

    def __init__(self, model: str | None, fit: Upstreams, suspect: Upstreams) -> None:
        self.model = model
        self.fit = fit
        self.suspect = suspect
        #: A candidate declares one: only then the size of a request's text matters.
        self.cache_types = any(u.cache_type for u in fit) or any(u.cache_type for u in suspect)
        self.tiers: tuple[Upstreams, ...] = ()
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
        pools: dict[tuple[str | None, str | None], Pool],
    ) -> None:
        self.upstreams = upstreams
        self.models = models
        self._declared = declared
        #: Those asked for so far. `pool` finds or makes one.
        self.pools = pools

    def pool(self, model: str | None, capability: str | None) -> Pool:
        """The candidates of `model` (None: any). Empty ones are not kept: names are endless."""
        if capability is not None and capability not in self._declared:
            # Nobody declares it, so only those that accept all may serve it: one pool for all such.
            capability = _UNDECLARED
        pool = self.pools.get((model, capability))
        if pool is None:
            pool = self._build(model, capability)
            if pool.fit or pool.suspect:
                self.pools[(model, capability)] = pool
        return pool

    def _build(self, model: str | None, capability: str | None) -> Pool:
        if model is None:
            listed: Iterable[Upstream] = self.upstreams.values()
        else:
            listed = self.models.get(model, ())
        eligible = [u for u in listed if (u.fit or u.suspect) and u.serves(capability)]
        return Pool(
            model,
            tuple(u for u in eligible if u.fit),
            tuple(u for u in eligible if u.suspect),
        )

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
            {k: p for k, p in self.pools.items() if k[0] is not None and k[0] not in touched},
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
