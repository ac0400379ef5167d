"""Which upstream should have this request, and what became of it: the relay's `seam.Desk`.

    begin ─ resolve(name) ─▶ targets ─▶ Plan ─ pick ─▶ candidates of a target ─ strategy ─▶ upstream

Owns all that changes: the table (replaced, never edited), the Nodes, the models' states, the
counts. Pure: time comes with each call, chance as `dice`, and what ended goes to `log`. One
thread, no await: between choosing an upstream and counting it nothing else runs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil

from common.wire.registry import Service
from router import affinity, choose, hooks, needs, prefer, table, toomany
from router.choose.asked import Strategy
from router.choose.direct import Direct
from router.choose.priority import Priority
from router.choose.score import Score
from router.config import Config
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError, invalid, no_service
from router.fitness import Fitness
from router.hooks import Hooks, Request
from router.limits import Limiter
from router.lives import MakeNode, engine
from router.named import Limits
from router.names.resolve import Names
from router.names.target import Resolution, Target
from router.nodes import Node
from router.outcome import Outcome
from router.plan import Plan
from router.route import Kind, Route, is_capability
from router.seam import Ask, End, Fields
from router.stats import ModelState
from router.table import Pool, Table, Tiers, Upstreams
from router.upstream import Identity, Upstream, identity

#: What a client that got 503 is told to wait: by then a lost engine has usually been replaced.
RETRY_AFTER_S = 5
#: Names remembered as once offered, names resolved, and states kept for models that are gone.
NAMES_MAX = 10_000
#: Strategies that say themselves where a request belongs: no key of its own moves it.
_UNSWAYED = (Priority, Score, Direct)

Dice = Callable[[], float]
Log = Callable[[Plan, End], None]


def _no_log(plan: Plan, end: End) -> None:
    pass


class Brain:
    def __init__(
        self,
        config: Config,
        dice: Dice,
        *,
        log: Log = _no_log,
        node: MakeNode = engine,
        names: Names | None = None,
        hooks: Hooks = hooks.NONE,
    ) -> None:
        """`node` makes the Node of a new life of a service; `names` are the configuration's,
        where they are compiled already; `hooks` are an operator's."""
        self.dice = dice
        self.log = log
        self.table: Table = table.EMPTY
        self.fitness = Fitness(config)
        #: Requests with `stream: true` whose answer began and has not ended.
        self.active_streams = 0
        self.models: dict[str, ModelState] = {}
        self._make_node = node
        self._identities: dict[str, Identity] = {}
        self._offered: dict[str, None] = {}
        #: For requests without a model, and for models that nothing has ever offered.
        self._no_model = ModelState("", config.retry)
        self._strategies: dict[str, Strategy] = {}
        #: Of [models] entries, by name.
        self._limiters: dict[str, Limiter] = {}
        self._made_from: object = None
        #: Whether who asks may have the answer explained in its headers.
        self.may_explain: Callable[[Fields | Mapping[str, str]], bool] = _anybody
        self.reconfigure(config, node=node, names=names, hooks=hooks)

    def reconfigure(
        self,
        config: Config,
        *,
        node: MakeNode = engine,
        names: Names | None = None,
        hooks: Hooks = hooks.NONE,
    ) -> None:
        """From the next request on. Those that run keep the targets that they began with."""
        self.config = config
        self._make_node = node
        self._hooks = hooks
        self._is_hooked = hooks.before_route is not None or hooks.ended is not None
        self.fitness.reconfigure(config)
        self.names = Names(config) if names is None else names
        self._named = config.models.keys() | config.capabilities.keys()
        self._resolved: dict[str | None, Resolution] = {}
        self._needs = needs.default(config.needs)
        self._needs_little = needs.trivial(self._needs)
        self._trusts_tenant = config.needs.trust_tenant_header
        self._take_strategies(config)
        self._session_header = config.affinity.header.lower()
        self._fallback_keys = config.affinity.user or config.affinity.client_address
        self._load_factor = config.affinity.load_factor
        for state in self.states():
            state.reconfigure(config.retry)

    # --- requests -------------------------------------------------------------------------------

    def begin(self, ask: Ask, now: float) -> Plan:
        """Take a request in. Raises RequestError; then nothing was taken or counted."""
        plan = self.consider(ask)
        state = plan.state
        state.in_flight += 1
        state.requests.count += 1
        return plan

    def consider(self, ask: Ask) -> Plan:
        """How a request would be routed. Nothing is taken or counted. Raises RequestError."""
        envelope = ask.envelope
        headers = ask.headers
        model = envelope.model
        request = None
        if self._is_hooked:
            request = self._hooked(ask)
            model, headers = request.model, request.headers
        capability = headers.get("x-creche-capability")
        if capability is None:
            capability = ask.route.capability
        elif not is_capability(capability):
            raise RequestError(invalid(f"x-creche-capability: unknown capability '{capability}'"))
        key = envelope.affinity_key or headers.get(self._session_header)
        if not key:
            key = self._fallback_key(ask) if self._fallback_keys else None
        wanted = needs.read(headers, self._needs, trusts_tenant=self._trusts_tenant)
        resolution = self._resolved.get(model)
        if resolution is None:
            resolution = self._resolve(ask, model, key)
        state = self._state(model, resolution)
        plan = Plan(self, ask, envelope, capability, key, state, resolution, wanted)
        if request is not None:
            plan.request = request
        if headers.get("x-creche-explain") == "1" and self.may_explain(ask.headers):
            plan.special = plan.explains = True
        return plan

    def _hooked(self, ask: Ask) -> Request:
        """The request as an operator's hooks left it. Raises RequestError where one refuses it."""
        headers = ask.headers
        tenant = headers.get("x-creche-tenant") if self._trusts_tenant else None
        envelope = ask.envelope
        request = Request(ask.id, envelope.model, ask.path, headers, envelope.stream, tenant)
        if self._hooks.before_route is None:
            return request
        found = self._hooks.before_route(request)
        if isinstance(found, Problem):
            raise RequestError(found)
        return found

    def refused(self, id: str, problem: Problem, started: float, now: float) -> None:
        """Count and log a request that ended before `begin` could take it in."""
        ask = Ask(id, "", "", _NOWHERE, {}, EMPTY, "", 0, started)
        self._no_model.in_flight += 1
        plan = Plan(self, ask, EMPTY, None, None, self._no_model, _NOTHING, self._needs)
        plan.problem = problem
        plan.ended(End(Outcome.REFUSED, problem.status, now))

    def pool(self, target: Target, capability: str | None, now: float) -> Pool:
        """The candidates of a target, ranked."""
        pool = self.table.pools.get((target, capability))
        if pool is None:
            pool = self.table.pool(target, capability)
        if pool.version != self.fitness.version or now >= pool.until:
            self.fitness.rank(pool, now)
        return pool

    def pick(self, plan: Plan, target: Target, now: float) -> Upstream | None:
        """The upstream of `target` that `plan` should ask now. None: there is none."""
        if target.limited and not self._within_limits(plan, target, now):
            return None
        pool = self.pool(target, plan.capability, now)
        group = self.group(plan, pool, now)
        if len(group) > 1 or (group and self._refuses):
            return self.choose(plan, target, pool, group)
        return group[0] if group else None

    def group(self, plan: Plan, pool: Pool, now: float) -> Upstreams:
        """The equals among which `plan` chooses: the best tier's, as far as they were not asked."""
        tiers = (pool.panic or pool.tiers) if plan.last_resort else pool.first
        if pool.picky or plan.needs is not self._needs or not self._needs_little:
            tiers = self._allowed(plan, tiers, now)
        if not tiers:
            return ()
        return _untried(tiers, plan.tried) if plan.tried else tiers[0]

    def choose(self, plan: Plan, target: Target, pool: Pool, group: Upstreams) -> Upstream | None:
        """One of several that may all be asked. None: the strategy refuses them all."""
        if target.prefer_warm_s and not plan.attempts:
            group = prefer.warm(group, plan.now, target.prefer_warm_s)
        strategy = self.strategy(target)
        if plan.needs is not self._needs and not isinstance(strategy, Score):
            group = prefer.nearer(group, plan.needs)
        if plan.key is not None and not isinstance(strategy, _UNSWAYED):
            return affinity.choose(group, plan.key, self._load_factor)
        if pool.cache_types:
            group = self._by_cache_type(group, plan.envelope)
        return strategy.choose(group, plan)

    def took(self, plan: Plan, upstream: Upstream) -> None:
        """For strategies that learn from what they chose."""
        if plan.target is not None:
            strategy = self.strategy(plan.target)
            if strategy.learns:
                strategy.took(upstream, plan)

    def _take_strategies(self, config: Config) -> None:
        """The router's and those that entries name. What one has learnt is kept for as long as
        what it was made from stays the same."""
        named = [one.strategy for one in config.models.values()]
        named += [one.strategy for one in config.capabilities.values()]
        names = {choose.plain(one) for one in named if one is not None}
        names.add(choose.plain(config.strategy))
        made_from = (config.prefix, config.score, config.affinity, self._hooks.policies)
        kept = self._strategies if made_from == self._made_from else {}
        self._made_from = made_from
        self._strategies = {
            name: kept.get(name) or choose.make(name, config, self._hooks.policies)
            for name in names & choose.MAKERS.keys()
        }
        self._strategy = self._strategies[choose.plain(config.strategy)]
        self.learns = any(one.learns for one in self._strategies.values())
        self._refuses = "score" in self._strategies
        self._paces_nodes = "usage_based" in self._strategies

    def strategy(self, target: Target) -> Strategy:
        if target.strategy is None:
            return self._strategy
        return self._strategies[choose.plain(target.strategy)]

    def strategy_name(self, target: Target) -> str:
        return choose.plain(target.strategy or self.config.strategy)

    def panicking(self, now: float) -> list[Target]:
        """Those of whose upstreams all are used, since most are out by breaker."""
        asked = list(self.table.pools)
        return [key[0] for key in asked if self.pool(*key, now).panic]

    def behind(self, name: str) -> Upstreams:
        """The upstreams of everything that a name of the file leads to, its chain left out."""
        facts = _Facts(name, {}, EMPTY, None, self._saturation)
        targets = self.names.resolve(facts, self._is_listed, self.dice).targets
        return tuple({u.name: u for t in targets for u in self.table.listed(t)}.values())

    def servable(self, target: Target, now: float) -> bool:
        """Whether an upstream of it is fit, by the registry's word."""
        return bool(self.pool(target, None, now).fit)

    def nothing_fit(self, plan: Plan, now: float) -> Problem:
        """What a request is told that nothing may serve, or could."""
        if plan.over:
            who = f"model '{plan.model}'" if plan.model else "this request"
            return toomany.problem(plan.over, who)
        if plan.refusals:
            unmet = needs.unmet(plan.needs, plan.refusals.values(), plan.model)
            if unmet is not None:
                return unmet
        model = plan.model
        ever = model is None or model in self._offered or bool(plan.resolution.targets)
        return no_service(model, ever_offered=ever, retry_after_s=self._back_in_s(plan, now))

    def count(self, plan: Plan, end: End) -> None:
        """An ended request, once: its model's counts, and the log."""
        state = plan.state
        outcome = end.outcome
        state.in_flight -= 1
        state.outcomes[outcome] += 1
        state.durations.add(end.ended - plan.started)
        if outcome is _REFUSED:
            if end.status < 500:
                state.refused_client += 1
        elif end.first_byte:
            first = end.first_byte - plan.started
            state.first_byte.add(first)
            if end.events:  # a plain answer's first byte tells nothing of its first token
                state.first_bytes.append(first)
        if end.tokens_in is not None:
            state.tokens_in += end.tokens_in
        if end.tokens_out is not None:
            state.tokens_out.count += end.tokens_out
        if end.tokens_cached is not None:
            self._told(plan, end)
        self.log(plan, end)
        if plan.request is not None and self._hooks.ended is not None:
            found = hooks.result(end, plan.started, service=plan.service, attempts=plan.attempts)
            self._hooks.ended(plan.request, found)

    def compact(self, plan: Plan, upstream: Upstream) -> str:
        """A choice in one line, for a real answer's header. /explain has the whole of it."""
        target = plan.target
        assert target is not None
        pool = self.pool(target, plan.capability, plan.now)
        return (
            f"{plan.resolution.how}; target={target.label}; strategy={self.strategy_name(target)}; "
            f"candidates={sum(map(len, pool.tiers))}; open={len(pool.tripped)}; "
            f"refused={len(plan.refusals or ())}; in_flight={upstream.node.in_flight}"
        )

    def tick(self) -> None:
        """Once a second: what paces and budgets are measured by."""
        for state in self.states():
            state.tick()
        if self._paces_nodes:
            for upstream in self.table.upstreams.values():
                upstream.node.tokens.tick()

    def states(self) -> Iterator[ModelState]:
        """Of every model that was asked for, and last of requests that named none known."""
        yield from self.models.values()
        yield self._no_model

    # --- the table ------------------------------------------------------------------------------

    def apply(
        self,
        changes: Mapping[str, Service | None],
        *,
        source: str = "registry",
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
            if fresh and node.set_aside and service.is_healthy:
                self.fitness.probed(node)
            upstream = Upstream(service, node, source=source, suspect=name in held_back)
            new[name] = upstream
            if upstream.openai:
                self._offer(upstream.models)
        while len(self._offered) > NAMES_MAX:
            del self._offered[next(iter(self._offered))]
        self.table = self.table.apply(new)

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

    # --- small parts ----------------------------------------------------------------------------

    def _resolve(self, ask: Ask, model: str | None, key: str | None) -> Resolution:
        facts = _Facts(model, ask.headers, ask.envelope, key, self._saturation)
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

    def _allowed(self, plan: Plan, tiers: Tiers, now: float) -> Tiers:
        """Without those that may not serve this request; why not is kept."""
        kept = []
        refusals = plan.refusals or {}
        for tier in tiers:
            allowed = []
            for upstream in tier:
                why = needs.refusal(upstream, plan.needs, now)
                limiter = upstream.limiter
                if why is None and limiter is not None:
                    tokens = plan.envelope.prompt().tokens
                    why = limiter.refusal(tokens, now)
                    if why is not None:
                        plan.over = limiter.decide(tokens, now)
                if why is None:
                    allowed.append(upstream)
                else:
                    refusals[upstream.name] = why
            if allowed:
                kept.append(tuple(allowed))
        plan.refusals = refusals or None
        return tuple(kept)

    def _back_in_s(self, plan: Plan, now: float) -> int:
        """When the first breaker lets a trial through, where that is why nothing is left."""
        waits = [
            upstream.node.breaker.until - now
            for target in (*plan.resolution.targets, *plan.resolution.fallbacks)
            for upstream in self.pool(target, plan.capability, now).tripped
        ]
        return max(ceil(min(waits)), 1) if waits else RETRY_AFTER_S

    def _within_limits(self, plan: Plan, target: Target, now: float) -> bool:
        """Whether the entries on the way to `target` let the request pass, once for all its tries.

        What one of them granted before another refused is given back as if never used.
        """
        if plan.holds(target):
            return True
        tokens = plan.envelope.prompt().tokens
        limiters = [self._limiter(name, limits) for name, limits in target.limited]
        refused = [one.decide(tokens, now) for one in limiters if not one.allows(tokens, now)]
        if refused:
            plan.over = tuple(decision for found in refused for decision in found)
            return False
        if not plan.imagined:
            plan.hold(target, [one.take(tokens, now) for one in limiters])
        return True

    def _limiter(self, name: str, limits: Limits) -> Limiter:
        found = self._limiters.get(name)
        if found is None:
            found = self._limiters[name] = Limiter(limits)
        return found

    def _told(self, plan: Plan, end: End) -> None:
        """The engine said how much of the prompt it had in its cache."""
        target, upstream = plan.target, plan.upstream
        if target is not None and upstream is not None:
            strategy = self.strategy(target)
            if strategy.learns:
                strategy.told(upstream, plan, end.tokens_cached or 0, end.tokens_in or 0)

    def _fallback_key(self, ask: Ask) -> str | None:
        headers = ask.headers
        affinity_config = self.config.affinity
        if affinity_config.user and ask.envelope.user:
            return ask.envelope.user
        if affinity_config.client_address:
            first = headers.get("x-forwarded-for", "").partition(",")[0].strip() or ask.client
            return f"{first} {headers.get('user-agent', '')}"
        return None

    def _by_cache_type(self, group: Upstreams, envelope: Envelope) -> Upstreams:
        """Long texts prefer a static cache, short ones a paged one; nobody is left without."""
        large = envelope.text_bytes() > self.config.static_cache_above_bytes
        wanted = "static" if large else "paged"
        return tuple(u for u in group if u.cache_type == wanted) or group

    def _state(self, model: str | None, resolution: Resolution) -> ModelState:
        """Counted under the asked name where that is a known one, else under what serves it.

        A name that nothing offers gets no state of its own: names are endless.
        """
        if model is None or not resolution.targets:
            return self._no_model
        state = self.models.get(model)
        if state is not None:
            return state
        if resolution.how not in ("exact", "capability"):
            model = resolution.targets[0].name or model
            state = self.models.get(model)
            if state is not None:
                return state
        elif model not in self.table.models and model not in self._named:
            return self._no_model
        if len(self.models) >= NAMES_MAX:
            self._drop_states()
        state = self.models[model] = ModelState(model, self.config.retry)
        return state

    def _drop_states(self) -> None:
        """Of models that are gone. What they counted stays in the totals."""
        known = self.table.models
        gone = [s for name, s in self.models.items() if not s.in_flight and name not in known]
        for state in gone:
            del self.models[state.name]
            self._no_model.absorb(state)


def _anybody(_: Fields | Mapping[str, str]) -> bool:
    return True


_REFUSED = Outcome.REFUSED
_NOWHERE = Route(Kind.RELAY)
_NOTHING = Resolution("", "none", ())


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


def _untried(tiers: tuple[Upstreams, ...], tried: tuple[Node, ...]) -> Upstreams:
    """The best tier's candidates that were not asked; all of the best tier when all were."""
    for tier in tiers:
        left = tuple(upstream for upstream in tier if upstream.node not in tried)
        if left:
            return left
    return tiers[0]
