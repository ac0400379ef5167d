"""By how long the prompt is: short questions to a small model, long ones to a large. Pure.

estimated prompt tokens     below 50: low     50 to 100: medium     above 100: high
"""

from typing import ClassVar

from router.named import Levels
from router.names.choosing.leveled import Level, Leveled, StandIns
from router.names.facts import Facts


class ComplexityBased(Leveled):
    # A stand-in can rather do too much than too little.
    stand_ins: ClassVar[StandIns] = {
        "low": ("low", "medium", "high"),
        "medium": ("medium", "high", "low"),
        "high": ("high", "medium", "low"),
    }

    def level(self, asked: Facts) -> Level:
        return complexity(asked.envelope.prompt().tokens, self.levels)


def complexity(tokens: int, levels: Levels) -> Level:
    if tokens > levels.high_above_tokens:
        return Level("high", f"{tokens} prompt tokens, above {levels.high_above_tokens}")
    if tokens >= levels.medium_from_tokens:
        return Level("medium", f"{tokens} prompt tokens, from {levels.medium_from_tokens}")
    return Level("low", f"{tokens} prompt tokens, below {levels.medium_from_tokens}")
