"""By chance, in proportion to weight. Pure: the dice are given."""

from router.choose.asked import Asked, Candidates, Forgetful
from router.upstream import Upstream


class WeightedRandom(Forgetful):
    def choose(self, candidates: Candidates, asked: Asked) -> Upstream:
        total = 0.0
        for upstream in candidates:
            total += upstream.weight
        point = asked.dice() * total
        for upstream in candidates:
            point -= upstream.weight
            if point < 0:
                return upstream
        return candidates[-1]

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        total = sum(upstream.weight for upstream in candidates)
        return {
            upstream.name: f"{100 * upstream.weight / total:.3g} % by weight"
            for upstream in candidates
        }
