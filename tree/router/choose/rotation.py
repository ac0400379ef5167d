"""Whose turn it is: the memory of one model's rotation. Pure.

Smooth weighted round robin, as nginx does it: every turn each candidate gains its weight, the
richest serves and pays the sum. Weights 3 and 1 give a a b a, not a a a b.
"""

from collections.abc import Sequence

from router.upstream import Upstream


class Rotation:
    """Keeps standings by service name, so they survive changes of the candidates."""

    __slots__ = ("_even", "_seen", "_standings", "cursor")

    def __init__(self) -> None:
        self._seen: Sequence[Upstream] = ()
        self._even = True
        self.cursor = 0
        self._standings: dict[str, float] = {}

    def is_even(self, candidates: Sequence[Upstream]) -> bool:
        """Whether all weigh the same. Candidates change rarely: the answer is kept for them."""
        if candidates is not self._seen:
            self._seen = candidates
            self._even = len({upstream.weight for upstream in candidates}) <= 1
        return self._even

    def standing(self, upstream: Upstream) -> float:
        """What it has saved up: positive where others were served since its last turn."""
        return self._standings.get(upstream.name, 0.0)

    def copy(self) -> "Rotation":
        """To try a choice on, without taking anybody's turn."""
        other = Rotation()
        other._seen = self._seen
        other._even = self._even
        other.cursor = self.cursor
        other._standings = dict(self._standings)
        return other

    def turn(self, candidates: Sequence[Upstream]) -> Upstream:
        """The candidate whose turn it is. `candidates` may not be empty."""
        standings = self._standings
        if len(standings) > 2 * len(candidates) + 16:
            self._forget(candidates)
            standings = self._standings
        best = candidates[0]
        best_standing = float("-inf")
        total = 0.0
        for upstream in candidates:
            weight = upstream.weight
            total += weight
            standing = standings.get(upstream.name, 0.0) + weight
            standings[upstream.name] = standing
            if standing > best_standing:
                best, best_standing = upstream, standing
        standings[best.name] -= total
        return best

    def _forget(self, candidates: Sequence[Upstream]) -> None:
        names = {upstream.name for upstream in candidates}
        self._standings = {n: s for n, s in self._standings.items() if n in names}
