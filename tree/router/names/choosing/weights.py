"""Models in a random order in which each comes first as often as its weight says. Pure.

With a key the order is the key's own, by weighted rendezvous: a session keeps its model, and a
model that leaves moves only its own share. Without one it is drawn, without replacement.
"""

from collections.abc import Mapping

from router import affinity
from router.affinity import name_hash
from router.names.facts import Dice


class Weights:
    """`weights` are positive and need not add up to anything."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.models = tuple(weights)
        self._weights = dict(weights)
        self._hashes = {model: name_hash(model) for model in weights}
        total = sum(weights.values())
        self._shares = {
            model: f"weight {weight:.6g} of {total:.6g}" for model, weight in weights.items()
        }

    def order(self, key: str | None, dice: Dice) -> tuple[str, ...]:
        if len(self.models) == 1:
            return self.models
        if key is not None:
            return self._of_key(name_hash(key))
        return self._drawn(dice)

    def _of_key(self, key: int) -> tuple[str, ...]:
        hashes, weights = self._hashes, self._weights
        return tuple(
            sorted(
                self.models,
                key=lambda model: affinity.score(key, hashes[model], weights[model]),
                reverse=True,
            )
        )

    def _drawn(self, dice: Dice) -> tuple[str, ...]:
        left = dict(self._weights)
        found: list[str] = []
        while len(left) > 1:
            point = dice() * sum(left.values())
            for model in left:  # the last one, where rounding let the point pass them all
                point -= left[model]
                if point < 0:
                    break
            del left[model]
            found.append(model)
        return (*found, *left)

    def share(self, model: str) -> str:
        """`weight 9 of 10`."""
        return self._shares[model]
