"""By weights that change with what is asked and with how busy the own machines are. Pure.

the first of `weights` whose condition holds     batch: several inputs in one request
else the entry's own                             local_saturated: above 0.8 of max_concurrency
                                                 complexity: of that level
"""

from collections.abc import Mapping, Sequence

from router.named import Levels, WeightWhen
from router.names.choosing.choice import Choice, Place
from router.names.choosing.complexity_based import complexity
from router.names.choosing.weights import Weights
from router.names.facts import Dice, Facts


class AdaptiveWeighted:
    varies = True

    def __init__(
        self,
        targets: Mapping[str, float],
        weights: Sequence[WeightWhen],
        levels: Levels,
        *,
        local: tuple[str, ...],
        place: Place,
    ) -> None:
        """`local`: what registered upstreams call the targets. `place`: where those stand."""
        whens = [model for when in weights for model in when.targets]
        self.models = tuple(dict.fromkeys((*targets, *whens)))
        self._base = Weights(targets)
        self._whens = [(when, Weights(when.targets)) for when in weights]
        self._levels = levels
        self._local = local
        self._place = place

    def order(self, asked: Facts, dice: Dice) -> Choice:
        for at, (when, weights) in enumerate(self._whens):
            held = self._holds(when, asked)
            if held is not None:
                return self._drawn(weights, held, ("weights", at), asked, dice)
        return self._drawn(self._base, "no condition holds", self._place, asked, dice)

    def _drawn(self, weights: Weights, held: str, place: Place, asked: Facts, dice: Dice) -> Choice:
        if not weights.models:
            return Choice(self.models, held, place)
        drawn = weights.order(asked.key, dice)
        others = (model for model in self.models if model not in drawn)
        return Choice((*drawn, *others), f"{weights.share(drawn[0])}: {held}", place)

    def _holds(self, when: WeightWhen, asked: Facts) -> str | None:
        """What made the condition hold."""
        if when.when == "batch":
            batch = asked.envelope.prompt().batch
            return f"a batch of {batch}" if batch > 1 else None
        if when.when == "local_saturated":
            share = asked.saturation(self._local)
            above = when.saturated_above
            return f"own upstreams {share:.0%} busy, above {above:.0%}" if share > above else None
        level = complexity(asked.envelope.prompt().tokens, self._levels)
        return f"{level.name} complexity, {level.why}" if level.name == when.level else None
