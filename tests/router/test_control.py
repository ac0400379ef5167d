from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from msgspec import json
from yarl import URL

from common.wire.registry import Health
from common.wire.router import RouterHealth, RouterServices, RouterStats
from router import control, loaded, metrics
from router.audit import Audit
from router.brain import Brain
from router.config import Usage
from router.door import Door
from router.keys.api import KeysApi
from router.keys.keeper import Keeper
from router.keys.sqlite_file import SqliteKeys
from router.outcome import Outcome
from router.reload import Reloader
from router.usage.api import UsageApi
from router.usage.book import SqliteStore
from router.usage.meter import Meter
from router.versions import Versions
from router.watch import Link
from tests.router.making import begin, brain, end, serve, service
from tests.router.test_reload import Router


def application(
    found: Brain,
    *,
    token: str | None = None,
    operator: bool = True,
    plain: bool = False,
    ready: bool = True,
) -> TestClient:  # type: ignore[type-arg]
    # Nothing here reloads: a Reloader that was never started.
    reloader = Reloader(Router(), loaded.load("", "router.toml"), None, Versions(Path("/none")))
    made = control.Control(
        found,
        metrics.registry(metrics.RouterCollector(found, lambda: True)),
        link=lambda: Link(True, "http://r", ""),
        epoch=lambda: "e",
        ready=lambda: ready,
        reloader=reloader,
        keys=KeysApi(Keeper(SqliteKeys(Path("/none/keys.db")), lambda _: None), required=False),
        audit=Audit(Path("/none")),
        usage=UsageApi(Meter(SqliteStore(Path("/none/usage.db")), Usage())),
    )
    app = control.application(made, Door(token, plain=plain), operator=operator)
    return TestClient(TestServer(app))


async def test_health_and_status_are_the_same_and_always_200() -> None:
    async with application(brain()) as client:
        for path in ("/health", "/status"):
            answer = await client.get(path)
            health = json.decode(await answer.read(), type=RouterHealth)
            assert (answer.status, health.status, health.healthy_services) == (
                200,
                "running",
                "0/0",
            )
    found = brain(service("a@h"), service("b@h", draining=True))
    async with application(found) as client:
        health = json.decode(await (await client.get("/health")).read(), type=RouterHealth)
    assert (health.status, health.healthy_services, health.epoch) == ("healthy", "1/2", "e")
    assert health.registry_url == "http://r"


async def test_ready_is_503_until_there_is_a_table() -> None:
    async with application(brain(), ready=False) as client:
        assert (await client.get("/ready")).status == 503
    async with application(brain()) as client:
        assert (await client.get("/ready")).status == 200


async def test_models_empty_is_a_list() -> None:
    async with application(brain()) as client:
        for path in ("/models", "/v1/models"):
            assert await (await client.get(path)).json() == {"object": "list", "data": []}


async def test_the_aggregate_has_fit_services_only_once_each_and_sorted() -> None:
    listed = {"models_list": [{"id": "z", "max_model_len": 9}, {"id": "b"}]}
    found = brain(
        service("a@h", metadata=listed),
        service("b@h", "b", "a"),
        service("c@h", "unfit", is_healthy=False, health_status=Health.UNHEALTHY),
        service("d@h", "drained", draining=True),
        service("e@h", "sitting", metadata={"type": "babysitter"}),
    )
    async with application(found) as client:
        data = (await (await client.get("/v1/models")).json())["data"]
    assert [one["id"] for one in data] == ["a", "b", "z"]
    assert data[2]["max_model_len"] == 9, "extra fields are kept"
    assert all(one["object"] == "model" for one in data)


@pytest.mark.parametrize("path", ["/v1/models/org/m", "/v1/models/org%2Fm"])
async def test_one_models_id_may_hold_a_slash(path: str) -> None:
    async with application(brain(service("a@h", "org/m"))) as client:
        answer = await client.get(URL(path, encoded=True))
        assert answer.status == 200
        assert (await answer.json())["id"] == "org/m"


async def test_an_unknown_model_is_404_in_openais_shape() -> None:
    async with application(brain()) as client:
        answer = await client.get("/v1/models/none")
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "model_not_found"
    async with application(brain(), plain=True) as client:
        assert "error" in await (await client.get("/v1/models/none")).json()


async def test_services_lists_all_with_metadata() -> None:
    found = brain(
        service("a@h", "m", weight=2.0, metadata={"babysitter_url": "http://b", "region": "eu"}),
        service("b@h", metadata={"type": "babysitter"}),
    )
    serve(found, "m")
    async with application(found) as client:
        answer = await client.get("/services")
        listed = json.decode(await answer.read(), type=RouterServices)
        everyone = json.decode(
            await (await client.get("/services?type=any")).read(), type=RouterServices
        )
    assert [one.name for one in everyone.services] == ["a@h", "b@h"]
    assert listed.total == 1
    one = listed.services[0]
    assert (one.name, one.weight, one.models, one.request_count) == ("a@h", 2.0, ["m"], 1)
    assert one.babysitter_url == "http://b"
    assert one.metadata["region"] == "eu"


async def test_stats_all_zero_at_start() -> None:
    async with application(brain(service("a@h", "m"))) as client:
        stats = json.decode(await (await client.get("/stats")).read(), type=RouterStats)
    assert (stats.total_requests, stats.successful_requests, stats.failed_requests) == (0, 0, 0)
    assert (stats.total_tokens, stats.active_streams, stats.avg_latency_ms) == (0, 0, 0.0)
    assert stats.services["a@h"].p50_ms is None
    assert stats.models["m"].ready == stats.models["m"].total == 1


async def test_three_of_45_ms_give_45_ms() -> None:
    found = brain(service("a@h", "m"))
    for _ in range(3):
        plan = begin(found, "m")
        plan.next(0.0)
        finished = end(now=0.045)
        finished.first_byte = 0.015
        finished.events = 10
        finished.tokens_out = 10
        plan.ended(finished)
    async with application(found) as client:
        stats = json.decode(await (await client.get("/stats")).read(), type=RouterStats)
        services = json.decode(await (await client.get("/services")).read(), type=RouterServices)
    one = stats.services["a@h"]
    assert (one.p50_ms, one.p99_ms, one.ttft_p50_ms) == (45.0, 45.0, 15.0)
    assert stats.avg_latency_ms == 45.0
    assert services.services[0].response_time == 0.045
    model = stats.models["m"]
    assert (model.ttft_p50_ms, model.ttft_p99_ms) == (15.0, 15.0)
    assert model.tokens_per_s > 0 and model.requests_per_s > 0
    assert stats.total_tokens == 30


async def test_one_request_and_no_service_is_one_failed() -> None:
    found = brain()
    plan = begin(found, "m")
    plan.next(0.0)
    plan.ended(end(Outcome.REFUSED, 503))
    async with application(found) as client:
        stats = json.decode(await (await client.get("/stats")).read(), type=RouterStats)
    assert (stats.total_requests, stats.failed_requests) == (1, 1)


async def test_every_answer_closes_its_connection() -> None:
    async with application(brain()) as client:
        for path in ("/health", "/none", "/v1/models/x", "/metrics"):
            answer = await client.get(path)
            assert answer.headers["Connection"] == "close", path
            assert "Server" not in answer.headers


async def test_what_should_have_been_relayed_is_misdirected() -> None:
    async with application(brain()) as client:
        assert (await client.post("/v1/chat/completions", json={})).status == 421
        assert (await client.get("/props")).status == 421
        assert (await client.post("/health")).status in (405, 421)


async def test_operators_paths_are_404_where_they_live_elsewhere() -> None:
    async with application(brain(), operator=False) as client:
        for path in ("/metrics", "/explain", "/dashboard", "/admin/reload"):
            assert (await client.get(path)).status == 404
    async with application(brain()) as client:
        assert (await client.get("/metrics")).status == 200


async def test_the_token_guards_all_but_the_open_paths() -> None:
    found = brain(service("a@h", "m"))
    async with application(found, token="cluster-token") as client:
        for path in ("/health", "/status", "/ready", "/models", "/v1/models", "/v1/models/m"):
            assert (await client.get(path)).status == 200, path
        for path in ("/stats", "/services", "/metrics", "/admin/x"):
            answer = await client.get(path)
            assert answer.status == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "error" in await answer.json()
        allowed = {"Authorization": "Bearer cluster-token"}
        assert (await client.get("/stats", headers=allowed)).status == 200


async def test_head_is_answered_without_a_body() -> None:
    async with application(brain()) as client:
        answer = await client.head("/health")
        assert answer.status == 200
        assert await answer.read() == b""


async def test_a_plain_answers_first_byte_is_no_first_token() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "m")
    plan.next(0.0)
    finished = end(now=42.0)
    finished.first_byte = 42.0
    plan.ended(finished)
    async with application(found) as client:
        stats = json.decode(await (await client.get("/stats")).read(), type=RouterStats)
    assert stats.models["m"].ttft_p50_ms is None
    assert stats.services["a@h"].ttft_p50_ms is None
    assert stats.services["a@h"].p50_ms == 42_000.0
