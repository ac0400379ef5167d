"""The best score of all (`router.score`). Pure.

Scores that differ by less than TIE are equal: then GPUs first, if the request prefers them, then
the fewest in flight per weight, then in turn.

One whose health is not known goes first while it has nothing in flight: two good answers and it is
known. Else the first to answer would keep all traffic, and a restarted one would never get any.
"""

from collections.abc import Sequence

from router.choose.asked import Asked, Candidates, Forgetful, Policy, in_flight
from router.choose.least import least
from router.choose.medians import Medians, p50s
from router.config import Config
from router.nodes import NodeHealth
from router.score import REFUSED, Formula, all_are_unhealthy
from router.upstream import Upstream

#: 25 ms of p50 where all weights are 1. Without it, all would go to whatever is a hair better.
TIE = 0.001
UNKNOWN = NodeHealth.UNKNOWN


class Score(Forgetful):
    def __init__(self, config: Config, policies: Sequence[Policy] = ()) -> None:
        self._formula = Formula(config.score, policies)
        self._config = config.score
        self._medians = Medians()

    def choose(self, candidates: Candidates, asked: Asked) -> Upstream | None:
        scores = self._formula.scores(candidates, self._medians.of(candidates), asked)
        best = max(scores)
        if best == REFUSED:
            return None
        unknown = [
            (score, upstream)
            for score, upstream in zip(scores, candidates, strict=True)
            if upstream.node.health is UNKNOWN and not upstream.node.in_flight and score > REFUSED
        ]
        if unknown:
            return max(unknown, key=_first)[1]
        tied = [u for u, s in zip(candidates, scores, strict=True) if s > best - TIE]
        if len(tied) == 1:
            return tied[0]
        if asked.needs.gpu is not None:
            tied = [upstream for upstream in tied if upstream.gpu] or tied
        loads = [upstream.node.in_flight / upstream.weight for upstream in tied]
        return least(tied, loads, asked.rotation)

    def explain(self, candidates: Candidates, asked: Asked) -> dict[str, str]:
        return {name: one.text for name, one in self.scored(candidates, asked).items()}

    def scored(self, candidates: Candidates, asked: Asked) -> dict[str, "Scored"]:
        """Every candidate's score, its parts and why it is refused. Changes nothing."""
        all_unhealthy = all_are_unhealthy(candidates)
        config = self._config
        found: dict[str, Scored] = {}
        for upstream, p50 in zip(candidates, p50s(candidates), strict=True):
            parts, refused = self._formula.parts(upstream, p50, asked, all_unhealthy=all_unhealthy)
            mean = self._formula.mean(parts)
            if refused is None and not mean >= config.least:
                refused = f"scores {mean:.2f}, below {config.least:g}"
            found[upstream.name] = Scored(mean, parts, refused, in_flight(upstream))
        kept = sorted((one for one in found.values() if not one.refused), key=_points)[::-1]
        for one in kept[config.kept :]:
            one.refused = f"scores {one.score:.2f}, not among the {config.kept} best"
        return found


class Scored:
    """`refused`: why it is not chosen, or None. `parts` are by name, before their weights."""

    __slots__ = ("load", "parts", "refused", "score")

    def __init__(
        self, score: float, parts: dict[str, float], refused: str | None, load: str
    ) -> None:
        self.score = score
        self.parts = parts
        self.refused = refused
        self.load = load

    @property
    def text(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        parts = ", ".join(f"{name} {part:.2f}" for name, part in self.parts.items())
        return f"scores {self.score:.3f}: {parts}; {self.load}"


def _first(scored: tuple[float, Upstream]) -> float:
    return scored[0]


def _points(one: Scored) -> float:
    return one.score
