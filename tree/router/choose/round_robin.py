"""Everyone in turn, in proportion to weight, smoothly. Pure."""

from router.choose.asked import Asked, Candidates, Forgetful
from router.upstream import Upstream


class RoundRobin(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        if len(candidates) == 1:
            return candidates[0]
        return asked.rotation.turn(candidates)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        """What each would stand at in the next turn: the highest has it."""
        standing = asked.rotation.standing
        return {
            upstream.name: f"stands at {standing(upstream) + upstream.weight:g}, "
            f"weight {upstream.weight:g}"
            for upstream in candidates
        }
