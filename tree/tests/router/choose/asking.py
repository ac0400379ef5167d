"""Small makers for the strategies' tests: a fleet with numbers, and one request that asks."""

from collections.abc import Callable, Iterable
from itertools import cycle

from router.choose.asked import Asked, Strategy
from router.choose.rotation import Rotation
from router.envelope import EMPTY, Envelope, read_json
from router.needs import NONE, Needs
from router.nodes import NodeHealth
from router.upstream import Upstream
from tests.router.making import upstream


class Request:
    """What a Plan tells a strategy, settable."""

    def __init__(
        self,
        rotation: Rotation | None = None,
        *,
        dice: Iterable[float] | Callable[[], float] = (0.5,),
        now: float = 1000.0,
        key: str | None = None,
        envelope: Envelope = EMPTY,
        needs: Needs = NONE,
        models: tuple[str, ...] = ("m",),
    ) -> None:
        self.rotation = Rotation() if rotation is None else rotation
        if not callable(dice):
            rolls = cycle(dice)
            dice = lambda: next(rolls)  # noqa: E731
        self.dice = dice
        self.now = now
        self.key = key
        self.envelope = envelope
        self.needs = needs
        self.models = models
        self.model = models[0] if models else None
        self.note: object = None


def says(text: str) -> Envelope:
    """A chat request whose prompt's text is `text`."""
    return read_json(b'{"model":"m","prompt":"%s"}' % text.encode())


def fleet(*weights: float) -> tuple[Upstream, ...]:
    """a, b, c … with these weights."""
    return tuple(upstream("abcdefghijklmnop"[n], "m", weight=w) for n, w in enumerate(weights))


def engine(
    name: str,
    *models: str,
    weight: float = 1.0,
    in_flight: int = 0,
    asked: int | None = None,
    p50_ms: float | None = None,
    failures: int = 0,
    answered_at: float = 999.0,
    tokens: int = 0,
    answered: int = 0,
    health: NodeHealth = NodeHealth.HEALTHY,
    tokens_per_s: float | None = None,
    **metadata: object,
) -> Upstream:
    """An upstream whose Node has seen this much. `asked` None: once, if it has seen anything."""
    found = upstream(name, *(models or ("m",)), weight=weight, metadata=dict(metadata))
    node = found.node
    node.in_flight = in_flight
    node.failures = failures
    node.health = health
    node.tokens_per_s = tokens_per_s
    if p50_ms is not None:
        node.answers.extend([p50_ms / 1000] * 3)
        node.answered_at = answered_at
    node.tokens.count = tokens
    node.outcomes[0] = answered
    seen = p50_ms is not None or in_flight or failures or answered
    node.request_count = (1 if seen else 0) if asked is None else asked
    return found


def picks(
    strategy: Strategy, upstreams: tuple[Upstream, ...], count: int, asked: Asked | None = None
) -> str:
    """Who is chosen, `count` times in a row, with nothing sent: their names in a row."""
    asked = Request() if asked is None else asked
    found = ""
    for _ in range(count):
        chosen = strategy.choose(upstreams, asked)
        assert chosen is not None
        found += chosen.name
    return found
