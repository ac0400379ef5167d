"""The shortest time that an answer will probably take. Pure.

    p50 of its good answers x (1 + in flight / weight) x (1 + failures in a row)

Never asked: first of all, by one request each, and then no more until that one is answered.
Asked, and never answered well (it fails, however fast; or the first answer is on its way): counts
as the slowest of the others, so it neither attracts requests nor starves. Nobody has answered
yet: all count alike, so the fewest in flight.

A p50 fades once it is a minute old, to 60 s / age of itself: what was slow once is tried again.
"""

from collections.abc import Sequence

from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.choose.least import least
from router.choose.medians import Medians, p50s
from router.upstream import Upstream

#: A p50 younger than this holds in full.
FRESH_S = 60.0
#: What all count as while nobody has answered. Any number would do.
UNKNOWN_S = 1.0


class LeastLatency(Forgetful):
    def __init__(self) -> None:
        self._medians = Medians()

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        new = [upstream for upstream in candidates if not upstream.node.request_count]
        if new:
            return new[0] if len(new) == 1 else asked.rotation.turn(new)
        expected = _costs(candidates, self._medians.of(candidates), asked.now)
        return least(candidates, expected, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        medians = p50s(candidates)
        expected = _costs(candidates, medians, asked.now)
        return {
            upstream.name: _shown(upstream, p50, cost)
            for upstream, p50, cost in zip(candidates, medians, expected, strict=True)
        }


def _costs(candidates: Candidates, medians: Sequence[float | None], now: float) -> list[float]:
    """Seconds that each is expected to take."""
    unknown = max([p50 for p50 in medians if p50 is not None], default=UNKNOWN_S)
    faded = now - FRESH_S
    costs = []
    for upstream, p50 in zip(candidates, medians, strict=True):
        node = upstream.node
        seconds = unknown if p50 is None else p50
        answered_at = node.answered_at
        if answered_at < faded and answered_at:
            seconds *= FRESH_S / (now - answered_at)
        cost = seconds * (1.0 + node.in_flight / upstream.weight)
        costs.append(cost * (1 + node.failures) if node.failures else cost)
    return costs


def _shown(upstream: Upstream, p50: float | None, cost: float) -> str:
    node = upstream.node
    if not node.request_count:
        return "never asked: tried first"
    known = "no good answer yet" if p50 is None else f"p50 {1000 * p50:.0f} ms"
    failures = f", {node.failures} failures in a row" if node.failures else ""
    return f"{known}, {in_flight(upstream)}{failures}: {1000 * cost:.0f} ms expected"
