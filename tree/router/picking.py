"""Which upstream of a target has a request: who may serve it, then the strategy. Pure.

    pool ─ best tier ─ needs, limits ─▶ group of equals ─ preferences ─ strategy ─▶ upstream

Nothing is taken by choosing: the Plan counts the attempt, and has `hold` take what limits grant.
"""

from router import affinity, choose, needs, prefer
from router.choose import consistent_hash
from router.choose.asked import Policy, Strategy
from router.choose.direct import Direct
from router.choose.priority import Priority
from router.choose.score import Score
from router.config import Config
from router.envelope import Envelope
from router.known import Dice, Known
from router.limits import Decision, Limiter, reason, worst
from router.names.target import Target
from router.nodes import Node
from router.plan import Plan
from router.table import Pool, Tiers, Upstreams
from router.upstream import Upstream

#: Strategies that say themselves where a request belongs: no key of its own moves it.
_UNSWAYED = (Priority, Score, Direct)


class Picking(Known):
    """The Brain's part that chooses."""

    def __init__(self, config: Config, dice: Dice) -> None:
        Known.__init__(self, config, dice)
        self._strategies: dict[str, Strategy] = {}
        self._made_from: dict[str, object] = {}

    def _prefer(self, config: Config, policies: tuple[Policy, ...]) -> None:
        """What a configuration says of choosing. `policies` are an operator's."""
        self._needs = needs.default(config.needs)
        #: Needs that neither refuse nor prefer anybody; None where the file has others.
        little = needs.trivial(self._needs) and not prefer.is_choosy(self._needs)
        self._no_needs = self._needs if little else None
        self._load_factor = config.affinity.load_factor
        self._take_strategies(config, policies)

    # --- one of a target's ------------------------------------------------------------------------

    def pick(self, plan: Plan, target: Target, now: float) -> Upstream | None:
        """The upstream of `target` that `plan` should ask now. None: there is none."""
        pool = self.table.pools.get((target, plan.capability))
        if pool is None or pool.version != self.fitness.version or now >= pool.until:
            pool = self.pool(target, plan.capability, now)
        if not (
            pool.plain
            and target.bare
            and plan.needs is self._no_needs
            and plan.key is None
            and not plan.tried
        ):
            return self._pick(plan, target, pool, now)
        # Most requests come here: the strategy alone decides.
        tiers = pool.last if plan.last_resort else pool.first
        if not tiers:
            return None
        group = tiers[0]
        if len(group) == 1 and not self._refuses:
            return group[0]
        found = self._strategy.choose(group, plan)
        return self._below(plan, target, pool, now) if found is None else found

    def _pick(self, plan: Plan, target: Target, pool: Pool, now: float) -> Upstream | None:
        """Where limits, needs, preferences or a key may have a say, or another was asked before."""
        if target.limited and self.over(plan, target, now):
            return None
        group = self.group(plan, pool, now)
        if len(group) > 1 or (group and self._refuses):
            found = self.choose(plan, target, pool, group)
            return self._below(plan, target, pool, now) if found is None else found
        return group[0] if group else None

    def group(self, plan: Plan, pool: Pool, now: float) -> Upstreams:
        """The equals among which `plan` chooses: the best tier's, as far as they were not asked."""
        tiers = self._tiers(plan, pool, now)
        if not tiers:
            return ()
        return _untried(tiers, plan.tried) if plan.tried else tiers[0]

    def choose(self, plan: Plan, target: Target, pool: Pool, group: Upstreams) -> Upstream | None:
        """One of several that may all be asked. None: the strategy refuses them all."""
        strategy = self.strategy(target)
        if plan.needs is not self._no_needs or pool.cache_types or target.prefer_warm_s:
            group = self.preferred(plan, target, pool, group)
        if plan.key is not None and not isinstance(strategy, _UNSWAYED):
            return affinity.choose(group, plan.key, self._load_factor)
        return strategy.choose(group, plan)

    def preferred(self, plan: Plan, target: Target, pool: Pool, group: Upstreams) -> Upstreams:
        """Those of `group` that go first, whatever the strategy: never none."""
        if target.prefer_warm_s and not plan.attempts:
            group = prefer.warm(group, plan.now, target.prefer_warm_s)
        strategy = self.strategy(target)
        if not isinstance(strategy, Score):
            group = prefer.nearer(group, plan.needs)
        if pool.cache_types and (plan.key is None or isinstance(strategy, _UNSWAYED)):
            group = self._by_cache_type(group, plan.envelope)
        return group

    def numbers(self, plan: Plan, target: Target, group: Upstreams) -> dict[str, str]:
        """For each of `group` by name, what decides between them, in words."""
        strategy = self.strategy(target)
        if plan.key is not None and not isinstance(strategy, _UNSWAYED):
            return consistent_hash.places(group, plan.key, self._load_factor)
        return strategy.explain(group, plan)

    def took(self, plan: Plan, upstream: Upstream) -> None:
        """For strategies that learn from what they chose."""
        if plan.target is not None:
            strategy = self.strategy(plan.target)
            if strategy.learns:
                strategy.took(upstream, plan)

    def _below(self, plan: Plan, target: Target, pool: Pool, now: float) -> Upstream | None:
        """One of a later tier's, or one that was asked before: the best were all refused."""
        for tier in self._tiers(plan, pool, now):
            found = self.choose(plan, target, pool, tier)
            if found is not None:
                return found
        return None

    def _tiers(self, plan: Plan, pool: Pool, now: float) -> Tiers:
        """Those that `plan` may ask, best first."""
        tiers = pool.last if plan.last_resort else pool.first
        if pool.picky or plan.needs is not self._no_needs:
            return self._allowed(plan, tiers, now)
        return tiers

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
                    why = self._refusal(plan, upstream, limiter, now)
                if why is None:
                    allowed.append(upstream)
                else:
                    refusals[upstream.name] = why
            if allowed:
                kept.append(tuple(allowed))
        plan.refusals = refusals or None
        return tuple(kept)

    def _by_cache_type(self, group: Upstreams, envelope: Envelope) -> Upstreams:
        """Long texts prefer a static cache, short ones a paged one; nobody is left without."""
        large = envelope.text_bytes() > self.config.static_cache_above_bytes
        wanted = "static" if large else "paged"
        return tuple(u for u in group if u.cache_type == wanted) or group

    # --- strategies -------------------------------------------------------------------------------

    def _take_strategies(self, config: Config, policies: tuple[Policy, ...]) -> None:
        """The router's and those that entries name. One is kept, with what it has learnt, for as
        long as what it was made from stays the same."""
        named = [one.strategy for one in config.models.values()]
        named += [one.strategy for one in config.capabilities.values()]
        names = {choose.plain(one) for one in named if one is not None}
        names.add(choose.plain(config.strategy))
        names &= choose.MAKERS.keys()
        made_from = {name: choose.reads(name, config, policies) for name in names}
        self._strategies = {
            name: self._strategies[name]
            if name in self._strategies and self._made_from[name] == made_from[name]
            else choose.make(name, config, policies)
            for name in names
        }
        self._made_from = made_from
        self._strategy = self._strategies[choose.plain(config.strategy)]
        self.learns = any(one.learns for one in self._strategies.values())
        self._refuses = "score" in self._strategies
        self._paces_nodes = "usage_based" in self._strategies

    def strategy(self, target: Target) -> Strategy:
        """The router's own for a target of before a reload whose strategy went with it."""
        if target.strategy is None:
            return self._strategy
        return self._strategies.get(choose.plain(target.strategy), self._strategy)

    def strategy_name(self, target: Target) -> str:
        name = choose.plain(target.strategy or self.config.strategy)
        return name if name in self._strategies else choose.plain(self.config.strategy)

    # --- limits -----------------------------------------------------------------------------------

    def over(self, plan: Plan, target: Target, now: float) -> tuple[Decision, ...]:
        """What the limits on the way to `target` say that refuse the request."""
        if not target.limited:
            return ()
        if plan.told is not None:
            return self._refused(plan, target)
        return self.limiters.refusing(target, plan.grants, plan.envelope.prompt().tokens, now)

    def _refused(self, plan: Plan, target: Target) -> tuple[Decision, ...]:
        """What the limits on the way to `target` said when they were asked."""
        told = plan.told
        if not told:
            return ()
        of_target = self.limiters.of_target(target)
        return tuple(d for _, limiter in of_target for d in told.get(limiter.name, ()))

    def _refusal(self, plan: Plan, upstream: Upstream, limiter: Limiter, now: float) -> str | None:
        """Why a provider's limits refuse the request. None: they do not, as far as is known."""
        if plan.told is not None:
            told = plan.told.get(limiter.name)
            return None if told is None else reason(worst(told))
        # The place that its running attempt holds is free before the next begins.
        mine = plan.grant is not None and plan.node is upstream.node
        return limiter.refusal(plan.envelope.prompt().tokens, now, places=mine)

    def hold(self, plan: Plan, now: float) -> None:
        """Take what its target's limits grant, and give back those of one that it has left."""
        target = plan.target
        assert target is not None
        tokens = plan.envelope.prompt().tokens
        plan.hold(self.limiters.take(target, plan.grants, tokens, now))


def _untried(tiers: tuple[Upstreams, ...], tried: tuple[Node, ...]) -> Upstreams:
    """The best tier's candidates that were not asked; all of the best tier when all were."""
    for tier in tiers:
        left = tuple(upstream for upstream in tier if upstream.node not in tried)
        if left:
            return left
    return tiers[0]
