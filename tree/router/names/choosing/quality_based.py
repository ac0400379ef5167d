"""By the quality that the client asks for, or that a long prompt deserves. Pure.

x-quality-tier: a name of `tiers`, standard or high     above 1,000 characters: high
else, and for a tier that nobody named: standard
"""

from typing import ClassVar

from router.names.choosing.choice import Choice
from router.names.choosing.leveled import Level, Leveled, StandIns
from router.names.facts import Dice, Facts

HEADER = "x-quality-tier"


class QualityBased(Leveled):
    stand_ins: ClassVar[StandIns] = {
        "standard": ("standard", "high"),
        "high": ("high", "standard"),
    }

    def order(self, asked: Facts, dice: Dice) -> Choice:
        tier = asked.headers.get(HEADER)
        model = None if tier is None else self.levels.tiers.get(tier)
        if model is None:
            return super().order(asked, dice)
        return self._first(model, f"{tier}: {HEADER} says so", "tiers", str(tier))

    def level(self, asked: Facts) -> Level:
        tier = asked.headers.get(HEADER)
        if tier is not None and tier in self.stand_ins:
            return Level(tier, f"{HEADER} says so")
        characters = asked.envelope.prompt().characters
        above = self.levels.high_above_characters
        if characters > above:
            return Level("high", f"{characters} characters, above {above}")
        return Level("standard", f"{characters} characters")
