"""The fewest requests in flight per weight; ties take turns by weight. Pure.

With equal weights, the usual case, ties go round by a cursor.
"""

from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.choose.rotation import Rotation
from router.upstream import Upstream


class LeastRequests(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        return choose(candidates, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        return {upstream.name: in_flight(upstream) for upstream in candidates}


def choose(candidates: Candidates, rotation: Rotation) -> Upstream:
    """For other strategies too: whatever they hold equal, the least busy serves."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    if not rotation.is_even(candidates):
        return _weighted(candidates, rotation)
    at = rotation.cursor
    if at >= count:
        at = 0
    best = at
    best_load = candidates[at].node.in_flight
    if best_load:
        for upstream in candidates[at:] + candidates[:at]:
            load = upstream.node.in_flight
            if load < best_load:
                best, best_load = at, load
                if not load:
                    break
            at += 1
        best %= count
    rotation.cursor = best + 1
    return candidates[best]


def _weighted(candidates: Candidates, rotation: Rotation) -> Upstream:
    best_load = float("inf")
    tied: list[Upstream] = []
    for upstream in candidates:
        load = upstream.node.in_flight / upstream.weight
        if load < best_load:
            best_load = load
            tied = [upstream]
        elif load == best_load:
            tied.append(upstream)
    return tied[0] if len(tied) == 1 else rotation.turn(tied)
