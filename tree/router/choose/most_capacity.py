"""The largest context, in tokens; ties by least requests. Pure.

What declares no context counts as 0: chosen only where nobody declares one.
"""

from router.choose import least_requests
from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.upstream import Upstream


class MostCapacity(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        most = max([upstream.context_tokens for upstream in candidates])
        largest = tuple([u for u in candidates if u.context_tokens == most])
        return least_requests.choose(largest, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        return {
            upstream.name: f"context of {upstream.context_tokens or 'unknown'} tokens, "
            f"{in_flight(upstream)}"
            for upstream in candidates
        }
