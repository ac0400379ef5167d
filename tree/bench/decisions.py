"""What a whole decision costs: one request begun, placed, answered and counted, without sockets.

Headers are those of OpenAI's Python SDK, parsed anew each time; the body's model is known already.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from time import process_time

from bench.figures import verdict
from common.wire.registry import Health, Service
from router.brain import Brain
from router.config import Config
from router.envelope import Envelope
from router.head import Fields
from router.named import Capability, Model, Pattern, Provider, Rule, When
from router.outcome import Outcome
from router.route import resolve
from router.seam import Ask, End

COUNTS = (1, 16, 1_000)
ROUNDS = 40
ROUND_S = 0.01

#: Entries for other names than the one that is asked for.
NAMED = Config(
    models={
        "code": Model(targets={"big": 9, "small": 1}, fallbacks=("small",)),
        "chat": Model(backend_model="big"),
    },
    providers={"cloud": Provider(type="openai", base_url="https://127.0.0.1:1/v1")},
    patterns=(Pattern(match="gpt-.*", provider="cloud"),),
    capabilities={"fast": Capability(models=("small",))},
    rules=(Rule(when=When(model="o[13]-.*", prompt_tokens_min=1_000), model="big"),),
)
NEEDY = {"X-Creche-Privacy": "internal", "X-Creche-Region": "eu", "X-Creche-Gpu": "prefer"}
#: A title to the configuration and the request's own headers.
CASES: Mapping[str, tuple[Config, Mapping[str, str]]] = {
    "least_requests, the default": (Config(), {}),
    "round_robin": (Config(strategy="round_robin"), {}),
    "other names configured": (NAMED, {}),
    "needs in headers": (Config(), NEEDY),
    "a session": (Config(), {"X-Session-Id": "ana"}),
    "score": (Config(strategy="score"), {}),
}
SDK = {
    "Host": "127.0.0.1:8000",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "Authorization": "Bearer sk-0123456789abcdef",
    "User-Agent": "OpenAI/Python 1.109.1",
    "X-Stainless-Lang": "python",
    "X-Stainless-Retry-Count": "0",
    "Content-Length": "120",
}
_PATH = "/v1/chat/completions"
_ROUTE = resolve("POST", _PATH)


def brain(config: Config, count: int) -> Brain:
    found = Brain(config, Random(1).random)
    found.apply({f"engine-{at:04}@host": _engine(f"engine-{at:04}@host") for at in range(count)})
    return found


def _engine(name: str) -> Service:
    return Service(
        name=name,
        host="127.0.0.1",
        port=1,
        hostname="bench",
        url="http://127.0.0.1:1",
        status="running",
        timestamp="2026-01-31T12:00:00.000000+00:00",
        last_heartbeat="2026-01-31T12:00:00.000000+00:00",
        health_status=Health.HEALTHY,
        instance_id=name,
        metadata={"type": "openai-api", "models": ["m"], "region": "eu"},
    )


def requests(found: Brain, own: Mapping[str, str], count: int) -> float:
    """Seconds of CPU that `count` of them take."""
    headers = [(name.encode(), value.encode()) for name, value in {**SDK, **own}.items()]
    before = process_time()
    for _ in range(count):
        fields, said = Fields(headers), Envelope("m")
        plan = found.begin(
            Ask("id", "POST", _PATH, _ROUTE, fields, said, "127.0.0.1", 120, 100.0), 100.0
        )
        plan.next(100.0)
        plan.answered(200, None, 100.1)
        ended = End(Outcome.OK, 200, 100.2)
        ended.first_byte = 100.1
        ended.tokens_in, ended.tokens_out = 100, 20
        plan.ended(ended)
    return process_time() - before


def microseconds(config: Config, own: Mapping[str, str], count: int) -> float:
    """Of one request, best of a few rounds: what disturbs only adds."""
    found = brain(config, count)
    round_of = partial(requests, found, own)
    times = max(10, int(ROUND_S / (round_of(50) / 50 + 1e-9)))
    return min(round_of(times) for _ in range(ROUNDS)) / times * 1e6


def rows(budget_us: float, over_us: float) -> tuple[list[list[str]], list[str]]:
    """A table's rows, and what is over budget: at the most candidates, and the default at 16
    against round robin."""
    found = {
        title: [microseconds(config, own, count) for count in COUNTS]
        for title, (config, own) in CASES.items()
    }
    over = [title for title, costs in found.items() if costs[-1] > budget_us]
    if _at_16(found, "least_requests, the default") - _at_16(found, "round_robin") > over_us:
        over.append("the default at 16")
    shown = [
        [title, *(f"{cost:.1f}" for cost in costs), verdict(costs[-1], budget_us)]
        for title, costs in found.items()
    ]
    return shown, over


def _at_16(found: Mapping[str, Sequence[float]], title: str) -> float:
    return found[title][COUNTS.index(16)]
