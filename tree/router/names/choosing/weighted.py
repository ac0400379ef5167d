"""By its targets' weights: what a virtual model does that names no other strategy. Pure."""

from collections.abc import Mapping

from router.names.choosing.choice import Choice, Place
from router.names.choosing.weights import Weights
from router.names.facts import Dice, Facts


class Weighted:
    def __init__(self, targets: Mapping[str, float]) -> None:
        self.models = tuple(targets)
        self.varies = len(targets) > 1
        self._weights = Weights(targets)

    def order(self, asked: Facts, dice: Dice) -> Choice:
        key = asked.key
        models = self._weights.order(key, dice)
        why = self._weights.share(models[0])
        if key is not None and self.varies:
            why += ", kept for its session"
        return Choice(models, why, _PLACE)


_PLACE: Place = ("targets",)
