"""Which upstream of a target has a request: who may serve it, then the strategy. Pure.

    pool ─ best tier ─ needs, limits ─▶ group of equals ─ preferences ─ strategy ─▶ upstream

Nothing is taken by choosing: the Plan counts the attempt, and has `hold` take what limits grant.
"""

from collections.abc import Iterable

from router import affinity, choose, needs, prefer
from router.choose import consistent_hash
from router.choose.asked import Policy, Strategy
from router.choose.direct import Direct
from router.choose.priority import Priority
from router.choose.score import Score
from router.config import Config
from router.envelope import Envelope
from router.known import Dice, Known
from router.limits import Decision, Limiter, lacks_place, reason, worst
from router.names.target import Target
from router.nodes import Node
from router.plan import Plan
from router.table import Pool, Tiers, Upstreams
from router.upstream import Upstream
from router.waiting.line import Key
from router.waiting.queues import Queues

#: Strategies that say themselves where a request belongs: no key of its own moves it.
_UNSWAYED = (Priority, Score, Direct)


class Picking(Known):
    """The Brain's part that chooses."""

    def __init__(self, config: Config, dice: Dice) -> None:
        Known.__init__(self, config, dice)
        self._strategies: dict[str, Strategy] = {}
        self._made_from: dict[str, object] = {}
        #: Those that wait for a place.
        self.queues = Queues(config.queue)
        self._offered_at = -1

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
        if target.limited:
            over = self.over(plan, target, now)
            if over:
                able = self.group(plan, pool, now) or plan.full
                plan.full = bool(able) and plan.told is None and lacks_place(over)
                return None
        group = self.group(plan, pool, now)
        found: Upstream | None
        if len(group) > 1 or (group and self._refuses):
            found = self.choose(plan, target, pool, group)
            if found is None:
                found = self._below(plan, target, pool, now)
        else:
            found = group[0] if group else None
        if found is not None:
            plan.full = False
        return found

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
        if pool.picky or pool.capped or plan.needs is not self._no_needs:
            return self._able(plan, pool, tiers, now)
        return tiers

    def _able(self, plan: Plan, pool: Pool, tiers: Tiers, now: float) -> Tiers:
        """Without those that may not serve this request, and those that are full: then it says so.

        Who finds the sound ones full waits for them rather than go to those that are out.
        """
        sound = pool.sound if plan.last_resort else len(tiers)
        picky = pool.picky or plan.needs is not self._no_needs
        plan.full = False
        kept = []
        for at, tier in enumerate(tiers):
            if plan.full and at >= sound:
                break
            if picky:
                able = self._allowed(plan, tier, now)
            elif not _any_busy(tier, now):
                able = tier
            else:
                able = tuple(one for one in tier if self._has_room(plan, one.node, now))
                plan.full = plan.full or len(able) < len(tier)
            if able:
                kept.append(able)
        return tuple(kept)

    def _allowed(self, plan: Plan, tier: Upstreams, now: float) -> Upstreams:
        """Those that may serve this request; why others may not is kept."""
        allowed = []
        refusals = plan.refusals or {}
        for upstream in tier:
            why = needs.refusal(upstream, plan.needs, now)
            limiter = upstream.limiter
            has_room = self._has_room(plan, upstream.node, now)
            if why is None and limiter is not None:
                why = self._refusal(plan, upstream, limiter, now)
                if why is not None and not has_room and self._lacks_place(plan, limiter, now):
                    why = None
            if why is not None:
                refusals[upstream.name] = why
            elif has_room:
                allowed.append(upstream)
            else:
                plan.full = True
        plan.refusals = refusals or None
        return tuple(allowed)

    def _has_room(self, plan: Plan, node: Node, now: float) -> bool:
        """Whether it takes one more. While there is anybody to wait for, one that asked for rest
        is left in peace."""
        slots = node.slots
        rests = node.rest_until > now and plan.unplaced is None
        if slots is None:
            return not (rests and plan.full)
        # The place that its running attempt holds is free before the next begins.
        return node.in_flight - (plan.node is node) < slots.cap and not rests

    def _lacks_place(self, plan: Plan, limiter: Limiter, now: float) -> bool:
        """A provider's limits that refuse do so for want of a place: it is full, no more."""
        tokens = plan.envelope.prompt().tokens
        return plan.told is None and lacks_place(limiter.decide(tokens, now))

    def is_full(self, upstream: Upstream) -> bool:
        slots = upstream.node.slots
        return slots is not None and upstream.node.in_flight >= slots.cap

    def capacity(
        self, targets: Iterable[Target], capability: str | None, now: float
    ) -> tuple[int, float | None]:
        """How many of `targets` run at once, and how long each takes. None: not known."""
        places, busy_s, known = 0, 0.0, 0
        for target in targets:
            pool = self.pool(target, capability, now)
            of_target = 0
            for upstream in (*pool.fit, *pool.suspect):
                slots, took_s = upstream.node.slots, upstream.node.answers.mean()
                cap = 1 if slots is None else slots.cap
                of_target += cap
                if took_s is not None:
                    busy_s += cap * took_s
                    known += cap
            most = [one.max_concurrency for _, one in target.limited if one.max_concurrency]
            places += min(of_target, *most) if most else of_target
        return places, busy_s / known if known else None

    def rests_s(self, targets: Iterable[Target], capability: str | None, now: float) -> float:
        """Until the first of those that are full may be asked again at all."""
        rests = [
            upstream.node.rest_until - now
            for target in targets
            for upstream in self.pool(target, capability, now).fit
        ]
        return max(min(rests, default=0.0), 0.0)

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

    def waiting_for(self, upstream: Upstream) -> int:
        """How many wait for a place there, or elsewhere as well."""
        lines = self.queues.lines.items()
        return sum(len(line.order) for key, line in lines if _reaches(key, upstream))

    def freed(self, now: float, upstream: Upstream | None = None) -> None:
        """A place has come free at `upstream`, or anything else may have changed for the better:
        it is offered to those that wait."""
        if not self.queues.waiting:
            return
        if upstream is None or self._offered_at != self.fitness.version:
            self._offered_at = self.fitness.version
            self.queues.offer(now)
        else:
            self.queues.offer(now, lambda key: _reaches(key, upstream))

    def over(self, plan: Plan, target: Target, now: float) -> tuple[Decision, ...]:
        """What the limits on the way to `target` say that refuse the request."""
        if not target.limited:
            return ()
        if plan.told is not None:
            return self._refused(plan, target)
        return self.limiters.refusing(target, plan.grants, _tokens(plan, target), now)

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
        tokens = plan.envelope.prompt().tokens if limiter.counts_tokens else 1
        return limiter.refusal(tokens, now, places=mine)

    def hold(self, plan: Plan, now: float) -> None:
        """Take what its target's limits grant, and give back those of one that it has left."""
        target = plan.target
        assert target is not None
        tokens = _tokens(plan, target)
        before = plan.grants.keys()
        plan.hold(self.limiters.take(target, plan.grants, tokens, now))
        if before - plan.grants.keys():
            self.freed(now)


def _any_busy(tier: Upstreams, now: float) -> bool:
    """Mostly not: then there is nothing to sift."""
    for upstream in tier:
        node = upstream.node
        if node.rest_until > now:
            return True
        slots = node.slots
        if slots is not None and node.in_flight >= slots.cap:
            return True
    return False


def _reaches(key: Key, upstream: Upstream) -> bool:
    """Whether a place at `upstream` may be for those that wait for `key`."""
    return any(
        provider == upstream.name
        if provider
        else not models or bool({*models} & {*upstream.models})
        for models, provider in key
    )


def _untried(tiers: tuple[Upstreams, ...], tried: tuple[Node, ...]) -> Upstreams:
    """The best tier's candidates that were not asked; all of the best tier when all were."""
    for tier in tiers:
        left = tuple(upstream for upstream in tier if upstream.node not in tried)
        if left:
            return left
    return tiers[0]


def _tokens(plan: Plan, target: Target) -> int:
    """What it is thought to cost, where a limit on the way to `target` counts that."""
    return plan.envelope.prompt().tokens if target.counts_tokens else 1
