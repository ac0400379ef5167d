"""Always the first by name: for a single fixed upstream, and a spare. Pure.

The second is asked where the first is out, resting or tried.
"""

from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.upstream import Upstream


class Direct(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        return candidates[0] if len(candidates) == 1 else min(candidates, key=_name)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        order = sorted(candidates, key=_name)
        return {
            upstream.name: f"{place} of {len(order)} by name, {in_flight(upstream)}"
            for place, upstream in enumerate(order, 1)
        }


def _name(upstream: Upstream) -> str:
    return upstream.name
