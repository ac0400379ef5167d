"""As the file orders them: the preferred one first. Pure."""

from router.names.choosing.choice import Choice
from router.names.facts import Dice, Facts


class InOrder:
    varies = False

    def __init__(self, models: tuple[str, ...]) -> None:
        self.models = models
        self._choice = Choice(models, f"first of {len(models)}", ("models",))

    def order(self, asked: Facts, dice: Dice) -> Choice:
        return self._choice
