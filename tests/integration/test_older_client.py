"""A client of the older registry: plain JSON, no lease, no instance_id, no babysitter_url.

The older rule's times are config keys; a test that sees one of them pass has it short, and the
other so long that it never comes.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.clock import parse_wire_time
from tests.support.fleet import Fleet, ask, chat
from tests.support.mock import start_mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

UNFIT_S = 1.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
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


async def test_it_registers_beats_and_is_routed(fleet: Fleet) -> None:
    registry = fleet.registry()
    fleet.router()
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
    assert registry.post("/services/old-service/heartbeat")[0] == 200


async def test_it_lives_as_long_as_it_beats_and_is_unfit_when_it_stops(fleet: Fleet) -> None:
    registry = fleet.registry(legacy={"unfit_s": UNFIT_S, "removed_s": 600.0})
    fleet.router()
    engine = await start_mock(fleet.processes, name="old-engine", models=["old-model"])
    assert registry.post("/services", registration(engine.port))[0] == 201
    first = registry.get("/services/old-service")["last_heartbeat"]

    unfit_too_early: list[Any] = []

    def lives() -> bool:
        """It beats. Whether it is seen fit, beyond its second: nothing is said of a look in which
        the test itself stood still for as long."""
        began = time.monotonic()
        registry.post("/services/old-service/heartbeat")
        seen = registry.get("/services/old-service")
        listed = fleet.models()
        if time.monotonic() - began >= UNFIT_S:
            return False
        if not seen["is_healthy"]:
            unfit_too_early.append(seen)
        return listed == ["old-model"] and _seconds(seen, since=first) > 2 * UNFIT_S

    until_sync(lives, what="two seconds of beats")
    assert unfit_too_early == []

    def unfit() -> dict[str, Any] | None:
        seen: dict[str, Any] = registry.get("/services/old-service")
        return None if seen["is_healthy"] else seen

    silent = until_sync(unfit, what="unfit after a second without a beat")
    assert silent is not None and silent["reasons"]
    until_sync(lambda: fleet.models() == [], what="the router leaves it out")
    status, answer = ask(f"{fleet.url}/v1/chat/completions", chat("old-model"))
    assert status == 503
    assert answer["error"]["code"] == "no_healthy_services"


def test_it_is_removed_when_it_was_silent_for_longer(fleet: Fleet) -> None:
    registry = fleet.registry(legacy={"unfit_s": 0.2, "removed_s": 0.5})
    assert registry.post("/services", registration(18181))[0] == 201
    until_sync(lambda: ask(f"{registry.url}/services/old-service")[0] == 404, what="it is removed")
    assert registry.post("/services/old-service/heartbeat")[0] == 404


def _seconds(service: dict[str, Any], *, since: str) -> float:
    return parse_wire_time(service["last_heartbeat"]) - parse_wire_time(since)


async def test_registering_again_replaces_its_record(fleet: Fleet) -> None:
    registry = fleet.registry()
    one = registration(18181)
    two = {**registration(18182), "weight": 5}
    assert registry.post("/services", one)[0] == 201
    assert registry.post("/services", two)[0] == 201
    assert registry.get("/services/old-service")["port"] == 18182
    assert registry.get("/services")["total"] == 1


async def test_it_deregisters(fleet: Fleet) -> None:
    registry = fleet.registry()
    registry.post("/services", registration(18181))
    assert ask(f"{registry.url}/services/old-service", method="DELETE")[0] == 200
    assert ask(f"{registry.url}/services/old-service")[0] == 404
