"""Which of several equal candidates gets a request: one small module per strategy. Pure.

    make(name, config) -> Strategy        strategy.choose(candidates, asked) -> Upstream

A strategy sees only upstreams that may be used, and decides nothing else. A new one is a module
with a class of the shape `asked.Strategy`, a line in MAKERS and its name in `named.Strategy`.
"""

from collections.abc import Callable, Sequence

from router.choose.asked import Candidates, Dice, Policy, Strategy
from router.choose.consistent_hash import ConsistentHash
from router.choose.direct import Direct
from router.choose.least_latency import LeastLatency
from router.choose.least_requests import LeastRequests
from router.choose.most_capacity import MostCapacity
from router.choose.power_of_two import PowerOfTwo
from router.choose.prefix import Prefix
from router.choose.priority import Priority
from router.choose.round_robin import RoundRobin
from router.choose.score import Score
from router.choose.usage_based import UsageBased
from router.choose.weighted_random import WeightedRandom
from router.config import Config

DEFAULT = "least_requests"

MAKERS: dict[str, Callable[[Config, Sequence[Policy]], Strategy]] = {
    "least_requests": lambda config, policies: LeastRequests(),
    "round_robin": lambda config, policies: RoundRobin(),
    "weighted_random": lambda config, policies: WeightedRandom(),
    "power_of_two": lambda config, policies: PowerOfTwo(),
    "least_latency": lambda config, policies: LeastLatency(),
    "usage_based": lambda config, policies: UsageBased(),
    "most_capacity": lambda config, policies: MostCapacity(),
    "consistent_hash": lambda config, policies: ConsistentHash(config),
    "prefix": lambda config, policies: Prefix(config),
    "priority": lambda config, policies: Priority(),
    "score": Score,
    "direct": lambda config, policies: Direct(),
}

#: What of the configuration a strategy is made from, where it is from any. While that stays the
#: same so does the strategy, with what it has learnt.
READS: dict[str, Callable[[Config, Sequence[Policy]], object]] = {
    "consistent_hash": lambda config, policies: (config.affinity, config.prefix),
    "prefix": lambda config, policies: config.prefix,
    "score": lambda config, policies: (config.score, tuple(policies)),
}

#: Names that other routers use for the same thing.
ALIASES = {
    "least_loaded": "least_requests",
    "least_connections": "least_requests",
    "fastest_response": "least_latency",
    "random": "weighted_random",
    "priority_based": "priority",
    "load_balance": "round_robin",
}


def plain(name: str) -> str:
    """A strategy's own name, for an alias too."""
    return ALIASES.get(name, name)


def make(name: str, config: Config, policies: Sequence[Policy] = ()) -> Strategy:
    """Once per configuration and strategy, not per request: what it learns is in it.

    `policies` are an operator's, for `score`. Raises KeyError for a name that is neither a
    strategy nor an alias.
    """
    return MAKERS[plain(name)](config, policies)


def reads(name: str, config: Config, policies: Sequence[Policy] = ()) -> object:
    """Equal for two configurations of which `make` makes the same."""
    read = READS.get(plain(name))
    return None if read is None else read(config, policies)


__all__ = [
    "ALIASES",
    "DEFAULT",
    "MAKERS",
    "Candidates",
    "Dice",
    "Policy",
    "Strategy",
    "make",
    "reads",
]
