"""By how much must be kept in mind: a long prompt, a conversation, or one question. Pure.

above 4,000 estimated prompt tokens: large     several turns: complex     else: standard
"""

from typing import ClassVar

from router.names.choosing.leveled import Level, Leveled, StandIns
from router.names.facts import Facts


class ContextBased(Leveled):
    # A stand-in can rather do too much than too little.
    stand_ins: ClassVar[StandIns] = {
        "standard": ("standard", "complex", "large"),
        "complex": ("complex", "large", "standard"),
        "large": ("large", "complex", "standard"),
    }

    def level(self, asked: Facts) -> Level:
        prompt = asked.envelope.prompt()
        above = self.levels.large_above_tokens
        if prompt.tokens > above:
            return Level("large", f"{prompt.tokens} prompt tokens, above {above}")
        if prompt.turns > 1:
            return Level("complex", f"{prompt.turns} turns")
        return Level("standard", f"{prompt.tokens} prompt tokens in one turn")
