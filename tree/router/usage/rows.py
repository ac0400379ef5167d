"""What is counted together, and what of it. Pure.

    Row ─▶ Counts      one for each hour (UTC), key, tenant, model, target and service

Money is counted in whole billionths, so that sums are exact in whatever order they are made.
"""

from collections.abc import Mapping
from typing import NamedTuple

HOUR_S, DAY_S = 3_600, 86_400
#: Billionths of whatever a price is given in.
NANOS = 1_000_000_000


class Row(NamedTuple):
    """`start`: unix seconds at which its hour begins. Empty: nothing to say."""

    start: int
    key_id: str
    key: str
    tenant: str
    #: As metrics call what was asked for: names that clients make up are one.
    model: str
    #: What the service was asked for.
    served: str
    service: str


class Counts:
    """requests = ok + failed, at every moment."""

    __slots__ = (
        "cost_nanos",
        "ok",
        "requests",
        "tokens_cached",
        "tokens_in",
        "tokens_out",
        "unknown",
        "unpriced",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.ok = 0
        #: A service worked for them and told no tokens: they are in no sum of tokens or cost.
        self.unknown = 0
        #: Tokens were told, but no price is declared: they are in no sum of cost.
        self.unpriced = 0
        self.tokens_in = 0
        #: Of tokens_in.
        self.tokens_cached = 0
        self.tokens_out = 0
        self.cost_nanos = 0

    def values(self) -> tuple[int, ...]:
        """In the order of COLUMNS."""
        return tuple(getattr(self, name) for name in COLUMNS)

    def add(self, other: "Counts") -> None:
        for name in COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COLUMNS = (
    "requests",
    "ok",
    "unknown",
    "unpriced",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "cost_nanos",
)

Rows = Mapping[Row, Counts]
