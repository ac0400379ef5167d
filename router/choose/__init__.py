"""Which of several equal candidates gets a request: one small module per strategy. Pure.

    strategy.choose(candidates, rotation, dice) -> Upstream

`candidates` is never empty and holds only upstreams that may be used: a strategy decides nothing
else. `rotation` is this model's own memory and survives table swaps. `dice` returns a float in
[0, 1). A new strategy is a module with a `choose` of this shape and a line in STRATEGIES.
"""

from collections.abc import Callable
from typing import Protocol

from router.choose import least_requests, round_robin, weighted_random
from router.choose.rotation import Rotation
from router.upstream import Upstream

Dice = Callable[[], float]


class Strategy(Protocol):
    def __call__(
        self, candidates: tuple[Upstream, ...], rotation: Rotation, dice: Dice
    ) -> Upstream: ...


DEFAULT = "least_requests"

STRATEGIES: dict[str, Strategy] = {
    "least_requests": least_requests.choose,
    "round_robin": round_robin.choose,
    "weighted_random": weighted_random.choose,
}

#: Names that other routers use for the same thing.
ALIASES = {
    "least_loaded": "least_requests",
    "least_connections": "least_requests",
    "load_balance": "round_robin",
    "random": "weighted_random",
}


def strategy(name: str) -> Strategy:
    """Raises KeyError for a name that is neither a strategy nor an alias."""
    return STRATEGIES[ALIASES.get(name, name)]
