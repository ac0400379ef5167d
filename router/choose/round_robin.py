"""Everyone in turn, in proportion to weight, smoothly. Pure."""

from collections.abc import Callable

from router.choose.rotation import Rotation
from router.upstream import Upstream


def choose(
    candidates: tuple[Upstream, ...], rotation: Rotation, dice: Callable[[], float]
) -> Upstream:
    if len(candidates) == 1:
        return candidates[0]
    return rotation.turn(candidates)
