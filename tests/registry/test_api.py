"""The registry over HTTP: shapes, statuses and messages, as older clients know them."""

import asyncio
from pathlib import Path

import pytest

from common.clock import parse_wire_time
from common.errors import RefusalError
from registry.config import Limits
from registry.state import Batch
from registry.store import MemoryStore, StoreError
from tests.registry.running import SHORT, SHORT_LEGACY, body_of, running
from tests.support.until import until

TOKEN = "a-token-for-these-tests"


async def test_an_older_client_registers_beats_is_listed_and_expires_by_the_older_rule() -> None:
    """InfiniLM-SVC's babysitter: no lease, no instance_id, heartbeats without a body."""
    async with running(legacy=SHORT_LEGACY) as registry:
        body = body_of("a-server", 8100, metadata={"type": "openai-api", "models": ["m"]})
        status, said = await registry.ask("POST", "/services", body)
        assert status == 201
        assert said["message"] == "Service 'a-server' registered successfully"
        service = said["service"]
        assert (service["is_healthy"], service["health_status"]) == (True, "unknown")
        assert (service["lease_s"], service["instance_id"], service["weight"]) == (None, None, 1.0)
        assert said["lease_s"] is None
        for _ in range(3):
            status, said = await registry.ask("POST", "/services/a-server/heartbeat")
            assert (status, said["message"]) == (200, "Heartbeat received")
            parse_wire_time(said["timestamp"])
        listed = await registry.get("/services?healthy=true&type=openai-api&model=m")
        assert (listed["total"], listed["services"][0]["name"]) == (1, "a-server")

        async def gone() -> bool:
            return (await registry.ask("GET", "/services/a-server"))[0] == 404

        async def unfit() -> bool:
            return not (await registry.get("/services/a-server"))["is_healthy"]

        await until(unfit)
        assert (await registry.get("/services/a-server"))["reasons"][0]["code"] == "heartbeat_old"
        await until(gone)


async def test_put_delete_and_their_messages() -> None:
    async with running() as registry:
        await registry.post("a", 8100)
        status, said = await registry.ask("PUT", "/services/a", {"status": "draining"})
        assert (status, said["message"]) == (200, "Service 'a' updated successfully")
        assert said["service"]["status"] == "draining"
        status, said = await registry.ask("DELETE", "/services/a")
        assert (status, said) == (200, {"message": "Service 'a' unregistered successfully"})
        for method, path in (
            ("GET", ""),
            ("PUT", ""),
            ("DELETE", ""),
            ("POST", "/heartbeat"),
            ("POST", "/drain"),
            ("POST", "/undrain"),
            ("GET", "/health"),
        ):
            status, said = await registry.ask(method, "/services/a" + path, b"{}")
            assert status == 404, (method, path)
            assert said == {"error": "Service 'a' not found", "code": "not_found"}


async def test_a_lease_is_granted_by_the_registry_and_told_with_the_beat() -> None:
    async with running(lease=SHORT) as registry:
        status, said = await registry.post("a", 8100, lease_s=99, instance_id="x")
        assert (status, said["lease_s"], said["beat_s"]) == (201, 1.0, 0.2)
        assert said["service"]["lease_s"] == 1.0


async def test_refusals_carry_a_code_and_the_holder() -> None:
    async with running() as registry:
        await registry.post("a", 8100, lease_s=1, instance_id="x")
        status, said = await registry.post("a", 8200, lease_s=1, instance_id="y")
        assert (status, said["code"], said["holder"]) == (409, "name_conflict", "127.0.0.1:8100")
        status, said = await registry.post("b", 8100, lease_s=1, instance_id="y")
        assert (status, said["code"], said["holder"]) == (409, "address_conflict", "a")
        await registry.ask("DELETE", "/services/a?instance_id=x")
        status, said = await registry.ask("POST", "/services/a/heartbeat", {"instance_id": "x"})
        assert (status, said["code"]) == (409, "stale_instance")
        assert "holder" not in said
        status, said = await registry.ask("DELETE", "/services/a", {"instance_id": "x"})
        assert (status, said["code"]) == (409, "stale_instance")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/services", b"{", 400, "invalid"),
        ("POST", "/services", b"{}", 400, "invalid"),
        ("POST", "/services", {**body_of("a", 1), "host": "0.0.0.0"}, 400, "invalid"),
        ("PUT", "/services/a", b"[]", 400, "invalid"),
        ("POST", "/services/a/heartbeat", b"no", 400, "invalid"),
        ("POST", "/services", b" " * 1_040_000, 413, "too_large"),
        ("GET", "/services?healthy=perhaps", None, 400, "invalid"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PATCH", "/services", None, 405, "method_not_allowed"),
        ("POST", "/health", None, 405, "method_not_allowed"),
    ],
)
async def test_every_refusal_is_json(
    method: str, path: str, body: object, status: int, code: str
) -> None:
    async with running(limits=Limits(body_bytes_max=1_000_000)) as registry:
        got, said = await registry.ask(method, path, body)
        assert (got, said["code"]) == (status, code)
        assert isinstance(said["error"], str)


async def test_health_stats_and_one_services_health() -> None:
    async with running() as registry:
        await registry.post("a", 8100, lease_s=1)
        await registry.post("b", 8200, lease_s=1, status="backoff")
        health = await registry.get("/health")
        assert (health["status"], health["registry"]) == ("healthy", "running")
        assert (health["registered_services"], health["healthy_services"]) == (2, 1)
        assert (health["suspect"], len(health["epoch"])) == (False, 16)
        stats = await registry.get("/stats")
        assert (stats["total_services"], stats["unhealthy_services"]) == (2, 1)
        assert stats["status_distribution"] == {"running": 1, "backoff": 1}
        one = await registry.get("/services/b/health")
        assert (one["service"], one["health_status"], one["is_healthy"]) == (
            "b",
            "unhealthy",
            False,
        )
        assert one["reasons"] == [{"code": "status", "text": "it says that it is backoff"}]
        async with registry.session.get(registry.url + "/metrics") as answer:
            text = await answer.text()
        assert 'creche_registry_services{health="unhealthy"} 1.0' in text
        assert "creche_registry_registrations_total 2.0" in text


async def test_drain_and_undrain() -> None:
    async with running() as registry:
        await registry.post("a", 8100)
        _, said = await registry.ask("POST", "/services/a/drain")
        assert (said["service"]["draining"], said["service"]["is_healthy"]) == (True, False)
        _, said = await registry.ask("POST", "/services/a/undrain")
        assert (said["service"]["draining"], said["service"]["is_healthy"]) == (False, True)


async def test_mass_expiry_shows_in_health() -> None:
    async with running(lease=SHORT) as registry:
        await asyncio.gather(*(registry.post(f"s{n}", 8100 + n, lease_s=1) for n in range(4)))

        async def suspect() -> bool:
            return bool((await registry.get("/health"))["suspect"])

        await until(suspect)
        health = await registry.get("/health")
        assert "the network is suspected" in health["text"]
        assert (await registry.get("/services/s0"))["health_status"] == "suspect"
        await registry.ask("POST", "/services/s0/heartbeat")
        assert (await registry.get("/services/s0"))["is_healthy"]


async def test_a_stranger_without_the_token_can_neither_register_nor_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    async with running(token_file=str(file)) as registry:
        for method, path, body in (
            ("GET", "/services", None),
            ("GET", "/services/a", None),
            ("GET", "/watch", None),
            ("GET", "/stats", None),
            ("GET", "/metrics", None),
            ("POST", "/services", body_of("a", 8100)),
            ("POST", "/services/a/heartbeat", None),
            ("POST", "/services/a/drain", None),
            ("DELETE", "/services/a", None),
        ):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                status, said = await registry.ask(method, path, body, **headers)
                assert (status, said["code"]) == (401, "unauthorized"), (method, path)
        for path in ("/health", "/ready"):
            assert (await registry.ask("GET", path))[0] == 200
        good = {"Authorization": f"Bearer {TOKEN}"}
        status, _ = await registry.ask("POST", "/services", body_of("a", 8100), **good)
        assert status == 201


async def test_off_loopback_without_a_word_about_auth_it_refuses_to_start() -> None:
    with pytest.raises(RefusalError, match="reachable by others"):
        async with running(listen="0.0.0.0:0"):
            pass


class FullStore(MemoryStore):
    async def commit(self, batch: Batch) -> None:
        raise StoreError("/state/registry.db can't be written: database or disk is full")


async def test_a_full_disk_is_503_and_nothing_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.app.store_of", lambda _: FullStore())
    async with running() as registry:
        status, said = await registry.post("a", 8100)
        assert (status, said["code"]) == (503, "store")
        assert "disk is full" in said["error"]
        assert (await registry.get("/services"))["services"] == []
        health = await registry.get("/health")
        assert health["status"] == "degraded"
        assert "disk is full" in health["text"]


async def test_many_register_at_once() -> None:
    async with running() as registry:
        answers = await asyncio.gather(
            *(registry.post(f"s{n}", 1000 + n, lease_s=1) for n in range(300))
        )
        assert {status for status, _ in answers} == {201}
        listed = await registry.get("/services")
        assert (listed["total"], listed["revision"]) == (300, 300)
