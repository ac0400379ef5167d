"""What exists: the table, a Node for each life, and what a name resolves to. Pure: time is given.

    name ─ resolve ─▶ targets ─ pool ─▶ candidates, ranked by what traffic showed of them

Owns the table, which is replaced and never edited, and the Nodes.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from common.wire.registry import Service
from router import lives, table
from router.config import Config
from router.envelope import EMPTY, Envelope
from router.fitness import Fitness
from router.limiters import Limiters
from router.lives import MakeNode
from router.names.resolve import Names
from router.names.target import Resolution, Target
from router.nodes import Node
from router.seam import Fields
from router.table import Pool, Table, Upstreams
from router.upstream import Identity, Upstream, identity

#: Names remembered as once offered, and names whose resolution is kept.
NAMES_MAX = 10_000

Dice = Callable[[], float]


class Known:
    """The Brain's part that follows the fleet and the file."""

    def __init__(self, config: Config, dice: Dice) -> None:
        self.dice = dice
        self.table: Table = table.EMPTY
        self.fitness = Fitness(config)
        self.limiters = Limiters()
        self._identities: dict[str, Identity] = {}
        self._offered: dict[str, None] = {}

    def _know(self, config: Config, node: MakeNode, names: Names | None, now: float) -> None:
        """What a configuration says of names and nodes."""
        self.config = config
        self._make_node = node
        other_cooldown = config.retry != self.fitness.config.retry
        self.fitness.reconfigure(config)
        self.limiters.reconfigure(config, now)
        self.names = Names(config) if names is None else names
        self._resolved: dict[str | None, Resolution] = {}
        self.table = self.table.afresh()
        for upstream in self.table.upstreams.values():
            if other_cooldown:
                upstream.node.errors = None  # they are counted anew, by the present numbers
            if upstream.source != table.PROVIDER:
                lives.adjust(upstream.node, config)

    # --- the table ------------------------------------------------------------------------------

    def apply(
        self,
        changes: Mapping[str, Service | None],
        *,
        source: str = table.REGISTRY,
        suspect: Iterable[str] = (),
        fresh: bool = False,
    ) -> None:
        """Replace records (None: gone). Routable when this returns.

        Names in `suspect` are used only where nothing fit is left. `fresh`: a live `put` vouches
        for the service, so what a failed connect set aside gets another chance.
        """
        held_back = frozenset(suspect)
        new: dict[str, Upstream | None] = {}
        for name, service in changes.items():
            if service is None:
                self._forget(name)
                new[name] = None
                continue
            node = self._node(service)
            if source == table.PROVIDER:
                node.limiter = self.limiters.provider(name, node.limiter)
            if fresh and node.set_aside and service.is_healthy:
                self.fitness.probed(node)
            upstream = Upstream(service, node, source=source, suspect=name in held_back)
            node.declares(upstream.max_concurrency)
            new[name] = upstream
            if upstream.openai:
                self._offer(upstream.models)
        # All at once: to look for the first again after each would go over those that went.
        for name in list(islice(self._offered, max(0, len(self._offered) - NAMES_MAX))):
            del self._offered[name]
        before, self.table = self.table, self.table.apply(new)
        self._withdraw(before.upstreams[name] for name in new.keys() & before.upstreams.keys())

    def reported(self, loads: Mapping[str, dict[str, float]]) -> None:
        """What engines say of their own load, by service name: shown in /stats, decides nothing."""
        for name, load in loads.items():
            upstream = self.table.upstreams.get(name)
            if upstream is not None:
                upstream.node.load = load

    def _node(self, service: Service) -> Node:
        """The name's Node, or a new one for a new life or address."""
        name = service.name
        mark = identity(service)
        old = self.table.upstreams.get(name)
        if old is not None and self._identities.get(name) == mark:
            return old.node
        self._forget(name)
        self._identities[name] = mark
        return self._make_node(service, self.config)

    def _forget(self, name: str) -> None:
        self._identities.pop(name, None)
        old = self.table.upstreams.get(name)
        if old is not None:
            self.fitness.forget(old.node)

    def _offer(self, models: Iterable[str]) -> None:
        offered = self._offered
        for model in models:
            if model not in offered:
                offered[model] = None
                # A pattern or the default may have served this name until now.
                self._resolved.pop(model, None)

    def _withdraw(self, replaced: Iterable[Upstream]) -> None:
        """What the file offered and offers no more is not known for ever, as an engine's is that
        may come back: a pattern or the default may serve it now."""
        for upstream in replaced:
            if upstream.source != table.REGISTRY:
                for model in upstream.models:
                    if model not in self.table.models:
                        self._offered.pop(model, None)
                        self._resolved.pop(model, None)

    # --- names and candidates -------------------------------------------------------------------

    def pool(self, target: Target, capability: str | None, now: float) -> Pool:
        """The candidates of a target, ranked."""
        pool = self.table.pools.get((target, capability))
        if pool is None:
            pool = self.table.pool(target, capability)
        if pool.version != self.fitness.version or now >= pool.until:
            self.fitness.rank(pool, now)
        return pool

    def servable(self, target: Target, now: float) -> bool:
        """Whether an upstream of it is fit, by the registry's word."""
        return bool(self.pool(target, None, now).fit)

    def panicking(self, now: float) -> list[Target]:
        """Those of whose upstreams all are used, since most are out by breaker."""
        asked = list(self.table.pools)
        return [key[0] for key in asked if self.pool(*key, now).panic]

    def _resolve(
        self,
        model: str | None,
        headers: Fields | Mapping[str, str],
        envelope: Envelope,
        key: str | None,
    ) -> Resolution:
        facts = _Facts(model, headers, envelope, key, self._saturation)
        resolution = self.names.resolve(facts, self._is_listed, self.dice)
        if resolution.targets and not resolution.varies:
            if len(self._resolved) >= NAMES_MAX:
                self._resolved.clear()
            self._resolved[model] = resolution
        return resolution

    def _is_listed(self, model: str) -> bool:
        return model in self._offered or model in self.table.models

    def _saturation(self, models: Iterable[str]) -> float:
        """How much of what the registered upstreams of `models` can take at once is in flight."""
        found = {u for model in models for u in self.table.models.get(model, ())}
        local = [u for u in found if u.source != table.PROVIDER and u.fit]
        most = sum(u.max_concurrency or 0 for u in local)
        return sum(u.node.in_flight for u in local if u.max_concurrency) / most if most else 0.0

    def leads(self, name: str) -> Resolution:
        """Where a request goes that says nothing but this name."""
        facts = _Facts(name, {}, EMPTY, None, self._saturation)
        return self.names.resolve(facts, self._is_listed, self.dice)

    def behind(self, name: str) -> Upstreams:
        """The upstreams of everything that a name of the file leads to, its chain left out."""
        targets = self.leads(name).targets
        return tuple({u.name: u for t in targets for u in self.table.listed(t)}.values())


class _Facts:
    """What resolving may look at: `names.Facts`."""

    __slots__ = ("envelope", "headers", "key", "model", "saturation")

    def __init__(
        self,
        model: str | None,
        headers: Fields | Mapping[str, str],
        envelope: Envelope,
        key: str | None,
        saturation: Callable[[Iterable[str]], float],
    ) -> None:
        self.model = model
        self.headers = headers
        self.envelope = envelope
        self.key = key
        self.saturation = saturation
