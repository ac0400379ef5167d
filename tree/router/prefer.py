"""Who goes first where all may serve, and nobody is left without. Pure.

    warm     those that answered within `prefer_warm_ms`: what rests unloads models, or sleeps
    nearer   those of the wanted region, then those with the preferred GPU

Each gives the same candidates back where it tells none from the others.
"""

from collections.abc import Callable

from router.needs import Needs
from router.upstream import Upstream

Candidates = tuple[Upstream, ...]


def warm(candidates: Candidates, now: float, within_s: float) -> Candidates:
    """For first attempts: a retry goes wherever it may. `within_s` 0 prefers nobody."""
    if within_s <= 0:
        return candidates
    since = now - within_s

    def answered_lately(upstream: Upstream) -> bool:
        at = upstream.node.answered_at
        return at >= since and at > 0

    return _first(candidates, answered_lately)


def is_choosy(needs: Needs) -> bool:
    """Whether `nearer` has anything to prefer by."""
    return needs.region is not None or needs.gpu == "prefer"


def nearer(candidates: Candidates, needs: Needs) -> Candidates:
    """For every strategy but `score`, which weighs the region and breaks ties by the GPU itself."""
    region = needs.region
    if region is not None:
        candidates = _first(candidates, lambda upstream: upstream.region == region)
    if needs.gpu == "prefer":
        candidates = _first(candidates, lambda upstream: upstream.gpu)
    return candidates


def _first(candidates: Candidates, preferred: Callable[[Upstream], bool]) -> Candidates:
    found = tuple(upstream for upstream in candidates if preferred(upstream))
    return found if 0 < len(found) < len(candidates) else candidates
