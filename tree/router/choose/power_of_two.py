"""Two different candidates by chance, the less busy of them. Pure: the dice are given.

Nearly as even as asking for the least busy of all, and routers that do not know of each other's
requests do not all run to the same one. Mitzenmacher, "The power of two choices in randomized load
balancing" (2001).
"""

from router.choose.asked import Asked, Candidates, Forgetful, in_flight
from router.upstream import Upstream


class PowerOfTwo(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        """In flight per weight decides; if equal the heavier, then the first drawn."""
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first = int(asked.dice() * count)
        second = int(asked.dice() * (count - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        load = one.node.in_flight / one.weight
        other_load = other.node.in_flight / other.weight
        if other_load == load:
            return other if other.weight > one.weight else one
        return other if other_load < load else one

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        return {upstream.name: in_flight(upstream) for upstream in candidates}
