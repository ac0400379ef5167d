"""Small makers for the router's tests: records, a Brain, a request's way through it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from common.wire.registry import Health, Service
from router import providers
from router.brain import Brain
from router.caller import ANYBODY, Caller
from router.config import Config
from router.envelope import EMPTY, Envelope
from router.named import Provider
from router.names.target import Target
from router.nodes import Node
from router.outcome import Outcome
from router.plan import Plan
from router.route import resolve
from router.seam import Ask, Attempt, End
from router.upstream import Upstream


def service(
    name: str, *models: str, metadata: dict[str, Any] | None = None, **more: Any
) -> Service:
    """A fit engine's record at a port of its own."""
    port = more.pop("port", 1024 + sum(map(ord, name)) % 60_000)
    return Service(
        name=name,
        host="127.0.0.1",
        port=port,
        hostname="test",
        url=more.pop("url", f"http://127.0.0.1:{port}"),
        status=more.pop("status", "running"),
        timestamp="2026-01-31T12:00:00.000000+00:00",
        last_heartbeat="2026-01-31T12:00:00.000000+00:00",
        health_status=more.pop("health_status", Health.HEALTHY),
        metadata={"type": "openai-api", "models": list(models), **(metadata or {})},
        **more,
    )


@cache
def target(model: str | None) -> Target:
    """As a plain name resolves; the same object each time, as pools are kept by it."""
    return Target(() if model is None else (model,))


def upstream(name: str, *models: str, **more: Any) -> Upstream:
    return Upstream(service(name, *models, **more), Node(name, "127.0.0.1", 1))


def brain(*services: Service, dice: float = 0.5, config: Config | None = None) -> Brain:
    found = Brain(config or Config(), lambda: dice)
    found.apply({one.name: one for one in services})
    return found


def with_file(config: Config, *services: Service, dice: float = 0.5) -> Brain:
    """As `brain`, with the providers that the file itself names."""
    settled = providers.settle(config, {})
    found = Brain(config, lambda: dice, node=settled.node)
    found.apply({one.name: one for one in services})
    found.apply(settled.services, source=providers.SOURCE)
    return found


def reload(found: Brain, config: Config, now: float = 0.0) -> None:
    """As the router puts another file in force."""
    before = providers.settle(found.config, {}).services
    settled = providers.settle(config, {})
    found.reconfigure(config, node=settled.node, now=now)
    found.apply(dict.fromkeys(before.keys() - settled.services.keys()))
    found.apply(settled.services, source=providers.SOURCE)


def cloud(port: int = 9, **more: Any) -> Provider:
    return Provider(type="openai", base_url=f"http://127.0.0.1:{port}/v1", **more)


def ask(
    model: str | None = None,
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    envelope: Envelope | None = None,
    stream: bool = False,
    now: float = 0.0,
    client: str = "127.0.0.1",
    caller: Caller = ANYBODY,
) -> Ask:
    if envelope is None:
        envelope = Envelope(model, stream) if model is not None or stream else EMPTY
    route = resolve(method, path)
    return Ask("id", method, path, route, headers or {}, envelope, client, 0, now, caller)


def begin(found: Brain, model: str | None = None, *, now: float = 0.0, **more: Any) -> Plan:
    return found.begin(ask(model, now=now, **more), now)


def end(outcome: Outcome = Outcome.OK, status: int = 200, now: float = 1.0) -> End:
    return End(outcome, status, now)


def name_of(step: object) -> str:
    """The upstream of an Attempt; fails for anything else."""
    assert isinstance(step, Attempt), step
    return step.upstream.name


def serve(found: Brain, model: str | None = None, *, now: float = 0.0, **more: Any) -> str:
    """One request that is answered well; who served it."""
    plan = begin(found, model, now=now, **more)
    chosen = name_of(plan.next(now))
    assert plan.answered(200, None, now) is None
    plan.ended(end(now=now))
    return chosen


def in_flight(found: Brain) -> int:
    """Everything handed out that has not come back."""
    nodes = sum(one.node.in_flight for one in found.table.upstreams.values())
    states = sum(state.in_flight + state.queued for state in found.states())
    return nodes + states + found.active_streams
