"""What a choice costs: microseconds per strategy, at 16 and at 1,000 candidates; then what whole
decisions cost (`bench.decisions`).

    python -m bench.decide [--strict] [--only NAME …]

Each choice is one request's: the in-flight counts and one upstream's latency move between any two,
and strategies that look at the prompt get a new one of 8 KB (14 blocks of it read before). Budgets:
1 ms at 1,000 candidates; the default, at 16, 5 µs more than round robin. Best of a few rounds: what
disturbs only adds.
"""

import argparse
import sys
from collections.abc import Sequence
from random import Random
from time import process_time

from bench import cpu, decisions
from bench.figures import table, verdict
from common.wire.registry import Health, Service
from router import choose
from router.choose.asked import Strategy
from router.choose.rotation import Rotation
from router.config import Config
from router.envelope import EMPTY, Envelope, read_json
from router.needs import Needs
from router.nodes import Node, NodeHealth
from router.upstream import Upstream

FEW, MANY = 16, 1_000
BUDGET_US = 1_000
OVER_ROUND_ROBIN_US = 5
ROUNDS = 12
ROUND_S = 0.02
READ_BLOCKS = 14
PROMPT_BYTES = 8_192
WORDS = b"lorem ipsum dolor sit amet "
SEES_PROMPTS = ("prefix", "consistent_hash")


class Request:
    """What a Plan tells a strategy."""

    def __init__(self, random: Random) -> None:
        self.rotation = Rotation()
        self.dice = random.random
        self.now = 100.0
        self.key: str | None = None
        self.envelope: Envelope = EMPTY
        self.needs = Needs(region="eu")
        self.model = "m"
        self.models = ("m",)
        self.note: object = None


def fleet(count: int, random: Random, *, weighted: bool) -> tuple[Upstream, ...]:
    found = []
    for number in range(count):
        name = f"engine-{number:04}@host"
        node = Node(name, "127.0.0.1", 1)
        node.in_flight = random.randrange(1, 8)
        node.request_count = 1_000
        node.health = NodeHealth.HEALTHY
        node.answers.extend(random.uniform(0.2, 2.0) for _ in range(256))
        node.answered_at = 99.0
        node.tokens.count = random.randrange(100_000)
        node.outcomes[0] = 1_000
        metadata = {
            "type": "openai-api",
            "models": ["m"],
            "region": random.choice(["eu", "us"]),
            "cost": random.random(),
            "context_tokens": random.choice([8_192, 32_768]),
            "priority": random.randrange(2),
        }
        record = Service(
            name=name,
            host="127.0.0.1",
            port=1,
            hostname="bench",
            url="http://127.0.0.1:1",
            status="running",
            timestamp="2026-01-31T12:00:00.000000+00:00",
            last_heartbeat="2026-01-31T12:00:00.000000+00:00",
            health_status=Health.HEALTHY,
            weight=random.choice([1.0, 2.0]) if weighted else 1.0,
            instance_id=name,
            metadata=metadata,
        )
        found.append(Upstream(record, node))
    return tuple(found)


def body(random: Random, block_bytes: int) -> bytes:
    """A chat request: READ_BLOCKS blocks that all prompts share, then words of its own."""
    shared = (WORDS * PROMPT_BYTES)[: READ_BLOCKS * block_bytes]
    own = random.randbytes((PROMPT_BYTES - len(shared)) // 2).hex().encode()
    return b'{"model":"m","messages":[{"role":"user","content":"%s%s"}]}' % (shared, own)


def choices(
    strategy: Strategy | None,
    name: str,
    upstreams: tuple[Upstream, ...],
    bodies: Sequence[bytes],
    random: Random,
    count: int,
) -> float:
    """Seconds that `count` choices take. None: all else that the loop does."""
    asked = Request(random)
    nodes = [upstreams[random.randrange(len(upstreams))].node for _ in range(count)]
    sees_prompts = name in SEES_PROMPTS
    before = process_time()
    for at, node in enumerate(nodes):
        node.in_flight = at & 7
        node.answers.append(0.001 * (at & 1023))
        asked.note = None
        if sees_prompts:
            asked.envelope = read_json(bodies[at % len(bodies)])
        if strategy is not None:
            chosen = strategy.choose(upstreams, asked)
            if strategy.learns and chosen is not None:
                strategy.took(chosen, asked)
    return process_time() - before


def microseconds(name: str, count: int, *, weighted: bool = False) -> float:
    """Of one choice."""
    random = Random(name)
    config = Config()
    upstreams = fleet(count, random, weighted=weighted)
    strategy = choose.make(name, config)
    bodies = [body(random, config.prefix.block_bytes) for _ in range(64)]
    times = 100
    while (took := choices(strategy, name, upstreams, bodies, random, times)) < ROUND_S / 2:
        times = max(2 * times, int(times * ROUND_S / max(took, 1e-6)))
    with_it = [choices(strategy, name, upstreams, bodies, random, times) for _ in range(ROUNDS)]
    without = [choices(None, name, upstreams, bodies, random, times) for _ in range(ROUNDS)]
    return (min(with_it) - min(without)) / times * 1e6


class Cost:
    def __init__(self, name: str) -> None:
        self.name = name
        self.few = microseconds(name, FEW)
        self.many = microseconds(name, MANY)
        self.weighted = microseconds(name, MANY, weighted=True)

    @property
    def most(self) -> float:
        return max(self.many, self.weighted)


def rows(costs: Sequence[Cost], baseline: float) -> list[list[str]]:
    return [
        [
            one.name,
            f"{one.few:.2f}",
            f"{one.few - baseline:+.2f}",
            f"{one.many:.0f}",
            f"{one.weighted:.0f}",
            verdict(one.most, BUDGET_US),
        ]
        for one in costs
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="exit 1 when over budget")
    parser.add_argument("--only", nargs="+", choices=sorted(choose.MAKERS), help="these alone")
    args = parser.parse_args()
    if busy := cpu.machine_is_busy():
        print(busy, file=sys.stderr)
    baseline = microseconds("round_robin", FEW)
    costs = [Cost(name) for name in args.only or choose.MAKERS]
    head = ["µs per choice", "at 16", "over round robin", "at 1,000", "with weights", ""]
    print(table(head, rows(costs, baseline)))
    over = [one.name for one in costs if one.most > BUDGET_US]
    for one in costs:
        if one.name == choose.DEFAULT and one.few - baseline > OVER_ROUND_ROBIN_US:
            over.append(f"{one.name} at 16")
    if not args.only:
        head = ["µs per request, decided", "at 1", "at 16", "at 1,000", ""]
        shown, dear = decisions.rows(BUDGET_US, OVER_ROUND_ROBIN_US)
        print(table(head, shown))
        over += dear
    if over:
        print("over budget: " + ", ".join(over))
    return 1 if args.strict and over else 0


if __name__ == "__main__":
    sys.exit(main())
