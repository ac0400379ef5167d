"""What a request is told that nothing could serve: the nearest reason of all its targets'. Pure.

somebody could, but for a limit      429, when the first of them has room
nobody meets what it needs           503, which need
else                                 503, when the first breaker lets a trial through
"""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING

from router import needs, toomany
from router.errors import Problem, no_service
from router.limits import Decision, worst
from router.upstream import Upstream

if TYPE_CHECKING:
    from router.brain import Brain
    from router.plan import Plan
    from router.table import Pool

#: What a client that got 503 is told to wait: by then a lost engine has usually been replaced.
RETRY_AFTER_S = 5


def problem(brain: "Brain", plan: "Plan", now: float) -> Problem:
    """For a `plan` that nobody was found for, now."""
    resolution, model = plan.resolution, plan.model
    refusals: list[str] = []
    over: list[Sequence[Decision]] = []
    waits: list[float] = []
    anybody = False
    for target in resolution.all:
        pool = brain.pool(target, plan.capability, now)
        able = list(_able(plan, pool, refusals, now))
        if not able:
            continue
        anybody = True
        capable = set(able)
        waits += [one.node.breaker.until - now for one in pool.tripped if one in capable]
        refusing = brain.over(plan, target, now)
        over += [refusing] if refusing else _over(plan, able, now)
    if over:
        soonest = min(over, key=lambda decisions: worst(decisions).retry_after_s)
        return toomany.problem(soonest, f"model '{model}'" if model else "this request")
    if refusals and not anybody:
        unmet = needs.unmet(plan.needs, refusals, model)
        if unmet is not None:
            return unmet
    back_in_s = max(ceil(min(waits)), 1) if waits else RETRY_AFTER_S
    known = resolution.how != "none"
    return no_service(model, ever_offered=known, retry_after_s=back_in_s)


def _able(plan: "Plan", pool: "Pool", refusals: list[str], now: float) -> Iterator[Upstream]:
    """Those that meet its needs, whatever else keeps them from serving; `refusals`: why not."""
    for upstream in (*pool.fit, *pool.suspect):
        why = needs.refusal(upstream, plan.needs, now)
        if why is None:
            yield upstream
        else:
            refusals.append(why)


def _over(plan: "Plan", able: Sequence[Upstream], now: float) -> list[Sequence[Decision]]:
    """What providers' own limits say, of those that refuse."""
    found: list[Sequence[Decision]] = []
    for upstream in able:
        limiter = upstream.limiter
        if limiter is not None and plan.told is not None:
            if limiter.name in plan.told:
                found.append(plan.told[limiter.name])
        elif limiter is not None:
            tokens = plan.envelope.prompt().tokens
            if not limiter.allows(tokens, now):
                found.append(limiter.decide(tokens, now))
    return found
