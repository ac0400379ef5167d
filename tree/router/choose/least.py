"""The least of some costs; equal ones take turns by weight. Pure."""

from collections.abc import Sequence

from router.choose.rotation import Rotation
from router.upstream import Upstream


def least(candidates: Sequence[Upstream], costs: Sequence[float], rotation: Rotation) -> Upstream:
    """`costs` are the candidates', in their order. Neither may be empty."""
    best = min(costs)
    first = costs.index(best)
    if costs.count(best) == 1:
        return candidates[first]
    return rotation.turn([u for u, cost in zip(candidates, costs, strict=True) if cost == best])
