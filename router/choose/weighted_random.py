"""By chance, in proportion to weight. Pure: the dice are given."""

from collections.abc import Callable

from router.choose.rotation import Rotation
from router.upstream import Upstream


def choose(
    candidates: tuple[Upstream, ...], rotation: Rotation, dice: Callable[[], float]
) -> Upstream:
    total = 0.0
    for upstream in candidates:
        total += upstream.weight
    point = dice() * total
    for upstream in candidates:
        point -= upstream.weight
        if point < 0:
            return upstream
    return candidates[-1]
