"""By the level of what is asked: its model first, then the others as the file has them. Pure.

Each strategy says what a request's level is, and which level stands in where the file gives one
no model.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

from router.named import Levels
from router.names.choosing.choice import Choice
from router.names.facts import Dice, Facts

#: A level to those that may serve it, itself first.
StandIns = Mapping[str, tuple[str, ...]]


class Level(NamedTuple):
    name: str
    #: `240 prompt tokens, above 100`.
    why: str


class Leveled:
    """Subclasses say `level`."""

    stand_ins: ClassVar[StandIns]
    varies = True

    def __init__(self, levels: Levels, targets: Iterable[str]) -> None:
        """`targets`: those that follow, beside the levels' own."""
        self.levels = levels
        self._models = {
            level: model
            for level in self.stand_ins
            if (model := getattr(levels, level)) is not None
        }
        self.models = tuple(
            dict.fromkeys((*targets, *self._models.values(), *levels.tiers.values()))
        )

    def level(self, asked: Facts) -> Level:
        raise NotImplementedError

    def order(self, asked: Facts, dice: Dice) -> Choice:
        level = self.level(asked)
        for name in self.stand_ins[level.name]:
            model = self._models.get(name)
            if model is not None:
                said = level.name if name == level.name else f"{level.name}, served as {name}"
                return self._first(model, f"{said}: {level.why}", name)
        return Choice(
            self.models, f"{level.name}: {level.why}; no level names a model", ("levels",)
        )

    def _first(self, model: str, why: str, *place: str) -> Choice:
        others = (other for other in self.models if other != model)
        return Choice((model, *others), why, ("levels", *place))
