"""The fewest tokens this minute per weight, prompts and answers; ties by least requests. Pure.

What is in flight has not been counted yet: each such request counts as many tokens as an answered
one of these candidates had on the average. Without it, all of a burst would go to one upstream.
"""

from router.choose import least_requests
from router.choose.asked import Asked, Candidates, Forgetful
from router.outcome import Outcome
from router.upstream import Upstream

_OK = int(Outcome.OK)


class UsageBased(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        costs = _costs(candidates)
        best = min(costs)
        if costs.count(best) == 1:
            return candidates[costs.index(best)]
        tied = tuple(u for u, cost in zip(candidates, costs, strict=True) if cost == best)
        return least_requests.choose(tied, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        each = _tokens_each(candidates)
        return {
            upstream.name: f"{upstream.node.tokens.last()} tokens this minute, "
            f"{upstream.node.in_flight} in flight of {each:.0f}, weight {upstream.weight:g}: "
            f"{cost:.0f}"
            for upstream, cost in zip(candidates, _costs(candidates), strict=True)
        }


def _costs(candidates: Candidates) -> list[float]:
    each = _tokens_each(candidates)
    costs = []
    for upstream in candidates:
        node = upstream.node
        tokens = node.tokens
        recent = tokens.count - tokens.minute_ago
        costs.append((recent + node.in_flight * each) / upstream.weight)
    return costs


def _tokens_each(candidates: Candidates) -> float:
    """Tokens of an answered request, on the average. 0: nothing is known."""
    answered = sum([upstream.node.outcomes[_OK] for upstream in candidates])
    if not answered:
        return 0.0
    return sum([upstream.node.tokens.count for upstream in candidates]) / answered
