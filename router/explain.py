"""What would become of a request, and why: `/explain`, without sending anything. Pure.

The same functions decide as for a real one; what they would remember is left out.
"""

from collections.abc import Callable

from msgspec import Struct, to_builtins

from router.brain import Brain
from router.cache.question import Question
from router.choose.score import Score, Scored
from router.fitness import Tier, tier_of
from router.limits import reason, worst
from router.names.target import Target
from router.needs import PRIVACY, Needs
from router.nodes import NodeHealth
from router.plan import Plan
from router.seam import Ask
from router.table import Pool
from router.upstream import Upstream


class Candidate(Struct, frozen=True, kw_only=True):
    """`state`: chosen, candidate (it could have been), later (another tier goes first), refused."""

    name: str
    state: str
    #: The numbers that decided, or why it was refused.
    why: str
    tier: str
    in_flight: int
    #: Of the strategy `score`.
    score: float | None = None
    parts: dict[str, float] | None = None


class TargetExplained(Struct, frozen=True, kw_only=True):
    model: str | None
    provider: str | None
    fallback: bool
    strategy: str
    #: After so long without an event a stream is asked of a second upstream too. 0: never.
    hedge_after_ms: int
    candidates: list[Candidate]


class ResolutionExplained(Struct, frozen=True, kw_only=True):
    how: str
    why: str
    #: `router.toml:21`, where the file is known.
    place: str | None
    targets: list[str]
    fallbacks: list[str]


class Explanation(Struct, frozen=True, kw_only=True):
    model: str | None
    capability: str | None
    resolution: ResolutionExplained
    #: Those that the request states, or the defaults.
    needs: dict[str, str | float]
    targets: list[TargetExplained]
    chosen: str | None
    #: Of a model whose answers are kept: whether this one would be, or is there already.
    cache: str | None
    #: Where all that could serve it is full: who else waits, and how fast that goes.
    queue: str | None
    #: What the client would be told, where nothing can serve it.
    error: str | None


#: Where a key stands in the configuration file: `router.toml:21`, or None.
Place = Callable[[tuple[str | int, ...]], str | None]


def explain(brain: Brain, ask: Ask, now: float, place: Place | None = None) -> Explanation:
    """Raises RequestError where the request itself would be refused. Counts nothing."""
    plan = brain.consider(ask, imagined=True)
    upstream = _look(plan, now)
    waits = bool(plan.crowded) and brain.config.queue.waiting_max > 0
    resolution = plan.resolution
    return Explanation(
        model=plan.model,
        capability=plan.capability,
        resolution=ResolutionExplained(
            how=resolution.how,
            why=resolution.why,
            place=place(resolution.path) if place is not None and resolution.path else None,
            targets=[target.label for target in resolution.targets],
            fallbacks=[target.label for target in resolution.fallbacks],
        ),
        needs=_stated(plan.needs),
        targets=[_target(brain, plan, target, upstream, now) for target in resolution.all],
        chosen=None if upstream is None else upstream.name,
        cache=_cache(brain, plan, ask, now),
        queue=_queue(brain, plan, now) if waits else None,
        error=None if upstream is not None or waits else brain.nothing_fit(plan, now).message,
    )


def _queue(brain: Brain, plan: Plan, now: float) -> str:
    line = brain.queues.lines.get(frozenset(target.key for target in plan.crowded))
    if line is None:
        return "it would wait for a place, the first to do so"
    others, gap_s = len(line.order), line.gap_s(now)
    said = f"it would wait for a place, as {others} {'others do' if others > 1 else 'other does'}"
    return said if gap_s is None else f"{said}; one has its turn every {gap_s:.3g} s"


def _cache(brain: Brain, plan: Plan, ask: Ask, now: float) -> str | None:
    question = brain.question(ask, plan.capability, plan.resolution, plan.needs)
    if not isinstance(question, Question):
        return question and f"not kept: {question}"
    entry = brain.cache.memory.peek(question.key, now)
    if entry is None or question.anew:
        return "miss: the answer will be kept"
    return f"hit: {entry.service} answered it {now - entry.made:.0f} s ago"


def _look(plan: Plan, now: float) -> Upstream | None:
    """As `Plan.next` looks, with a copy of the rotation that it would move."""
    plan.rotation = plan.rotation.copy()
    return plan.look(now)


def _stated(needs: Needs) -> dict[str, str | float]:
    found = {name: value for name, value in to_builtins(needs).items() if value is not None}
    return {**found, "privacy": PRIVACY[needs.privacy]}


def _target(
    brain: Brain, plan: Plan, target: Target, chosen: Upstream | None, now: float
) -> TargetExplained:
    current, plan.target = plan.target, target  # strategies ask for the models of the target
    pool = brain.pool(target, plan.capability, now)
    over = brain.over(plan, target, now)
    group = brain.group(plan, pool, now)
    first = brain.preferred(plan, target, pool, group) if group else ()
    winner = chosen if target is current else None
    numbers: dict[str, str] = {}
    scores: dict[str, Scored] = {}
    strategy = brain.strategy(target)
    # The winner is none of the first where the strategy refused all of them.
    for equals in (first, () if winner is None or winner in first else (winner,)):
        if equals:
            numbers |= brain.numbers(plan, target, equals)
        if equals and isinstance(strategy, Score):
            scores |= strategy.scored(equals, plan)
    wishes = "" if len(first) == len(group) else f"after those {_wishes(plan, target, pool)}"
    explained = TargetExplained(
        model=target.name or (target.models[0] if target.models else None),
        provider=target.provider,
        fallback=target.fallback,
        strategy=brain.strategy_name(target),
        hedge_after_ms=round(target.hedge_after_s * 1000),
        candidates=[
            _candidate(
                one,
                one is winner,
                one in first and target is current,
                reason(worst(over)) if over else _full(brain, one),
                numbers.get(one.name, "") or (wishes if one in group else ""),
                scores.get(one.name),
                plan,
                now,
            )
            for one in (*pool.fit, *pool.suspect)
        ],
    )
    plan.target = current
    return explained


def _candidate(
    upstream: Upstream,
    chosen: bool,
    equal: bool,
    over: str | None,
    numbers: str,
    scored: Scored | None,
    plan: Plan,
    now: float,
) -> Candidate:
    tier = tier_of(upstream, now)
    refusal = (plan.refusals or {}).get(upstream.name) or over
    if scored is not None and scored.refused and not chosen:
        refusal = scored.refused
    in_flight = upstream.node.in_flight
    if chosen:
        state = "chosen"
    elif refusal is not None or (tier is Tier.OPEN and not equal):
        state = "refused"
    else:
        state = "candidate" if equal else "later"
    why = refusal or numbers or _of_tier(upstream, tier, now) or f"{in_flight} in flight"
    return Candidate(
        name=upstream.name,
        state=state,
        why=why,
        tier=tier.value,
        in_flight=in_flight,
        score=None if scored is None else round(scored.score, 3),
        parts=None
        if scored is None
        else {name: round(part, 3) for name, part in scored.parts.items()},
    )


def _full(brain: Brain, upstream: Upstream) -> str | None:
    slots = upstream.node.slots
    if slots is None or not brain.is_full(upstream):
        return None
    waiting = brain.waiting_for(upstream)
    said = f"at capacity: {upstream.node.in_flight} of {slots.cap} in flight"
    return f"{said}; {waiting} waiting" if waiting else said


def _wishes(plan: Plan, target: Target, pool: Pool) -> str:
    """What those that go before equals have."""
    needs = plan.needs
    wishes = {
        "that answered lately": target.prefer_warm_s > 0,
        f"in {needs.region}": needs.region is not None,
        "with a GPU": needs.gpu == "prefer",
        "of the cache type for its size": pool.cache_types,
    }
    return ", ".join(wish for wish, holds in wishes.items() if holds)


def _of_tier(upstream: Upstream, tier: Tier, now: float) -> str:
    node = upstream.node
    match tier:
        case Tier.OPEN:
            return node.breaker.describe(now)
        case Tier.RESTING:
            return f"rests {node.rest_until - now:.0f} s more"
        case Tier.OUT | Tier.LOST:
            if node.set_aside:
                return "set aside: a connect failed"
            assert node.health is NodeHealth.UNHEALTHY
            return f"unhealthy: {node.failures} failures in a row"
        case Tier.SUSPECT:
            return "suspect: used only where nothing fit is left"
        case Tier.WELL:
            return ""
