"""A client of the older registry: plain JSON, no lease, no instance_id, no babysitter_url.

The older rule's times are config keys; here they are a second, so that a test can see them pass.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import parse_wire_time
from tests.support.fleet import Fleet, ask, chat
from tests.support.mock import start_mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        fleet.registry(legacy={"unfit_s": 1.0, "removed_s": 3.0})
        fleet.router()
        yield fleet


def registration(port: int) -> dict[str, Any]:
    return {
        "name": "old-service",
        "host": "127.0.0.1",
        "port": port,
        "hostname": "localhost",
        "url": f"http://127.0.0.1:{port}",
        "status": "running",
        "metadata": {"type": "openai-api", "models": ["old-model"]},
        "weight": 2,
    }


async def test_it_registers_beats_is_routed_and_expires(fleet: Fleet) -> None:
    registry = fleet.parts["registry"]
    engine = await start_mock(fleet.processes, name="old-engine", models=["old-model"])

    status, answer = registry.post("/services", registration(engine.port))
    assert status == 201, answer
    assert answer["message"] == "Service 'old-service' registered successfully"
    assert answer["service"]["lease_s"] is None

    fleet.wait_models("old-model")
    assert fleet.wait_service("old-service")["weight"] == 2
    status, answer = ask(f"{fleet.url}/v1/chat/completions", chat("old-model"))
    assert status == 200
    assert "old-engine" in answer["system_fingerprint"]

    def beat() -> int:
        return registry.post("/services/old-service/heartbeat")[0]

    # It lives beyond its second as long as it beats.
    first = registry.get("/services/old-service")["last_heartbeat"]
    until_sync(
        lambda: (
            beat() == 200 and _seconds(registry.get("/services/old-service"), since=first) > 2.0
        ),
        10,
        "two seconds of beats",
    )
    assert registry.get("/services/old-service")["is_healthy"] is True
    assert fleet.models() == ["old-model"]

    # It stops: first unfit, with the reason, then removed.
    unfit = until_sync(
        lambda: (
            one
            if not (one := registry.get("/services/old-service")).get("is_healthy", True)
            else None
        ),
        10,
        "unfit after a second without a beat",
    )
    assert unfit["reasons"]
    until_sync(lambda: fleet.models() == [], 5, "the router leaves it out")
    status, answer = ask(f"{fleet.url}/v1/chat/completions", chat("old-model"))
    assert status == 503
    assert answer["error"]["code"] == "no_healthy_services"
    until_sync(
        lambda: ask(f"{registry.url}/services/old-service")[0] == 404, 10, "removed after three"
    )
    assert beat() == 404


def _seconds(service: dict[str, Any], *, since: str) -> float:
    return parse_wire_time(service["last_heartbeat"]) - parse_wire_time(since)


async def test_registering_again_replaces_its_record(fleet: Fleet) -> None:
    registry = fleet.parts["registry"]
    one = registration(18181)
    two = {**registration(18182), "weight": 5}
    assert registry.post("/services", one)[0] == 201
    assert registry.post("/services", two)[0] == 201
    assert registry.get("/services/old-service")["port"] == 18182
    assert registry.get("/services")["total"] == 1


async def test_it_deregisters(fleet: Fleet) -> None:
    registry = fleet.parts["registry"]
    registry.post("/services", registration(18181))
    assert ask(f"{registry.url}/services/old-service", method="DELETE")[0] == 200
    assert ask(f"{registry.url}/services/old-service")[0] == 404
