"""Extraction, 6, and what the aggregate of models holds: through a real router."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.fleet import Fleet, Part, ask, chat
from tests.support.load import session
from tests.support.mock import ProcessMock, start_mock
from tests.support.ports import free_port
from tests.support.until import until

pytestmark = pytest.mark.real


class Setup:
    def __init__(self, fleet: Fleet, registry: Part, router: Part) -> None:
        self.fleet, self.registry, self.router = fleet, registry, router
        self.engines: dict[str, ProcessMock] = {}

    async def register(self, name: str, *models: str, **more: Any) -> ProcessMock:
        """A mock engine under `name`; `more` goes into its metadata."""
        engine = await start_mock(self.fleet.processes, name=name, models=models)
        self.engines[name] = engine
        self.record(name, engine.port, {"models": list(models), **more})
        await asyncio.to_thread(self.fleet.wait_service, name)
        return engine

    def record(self, name: str, port: int, metadata: dict[str, Any], **more: Any) -> None:
        status, answer = self.registry.post(
            "/services",
            {
                "name": name,
                "host": "127.0.0.1",
                "port": port,
                "hostname": "localhost",
                "url": f"http://127.0.0.1:{port}",
                "status": "running",
                "metadata": {"type": "openai-api", **metadata},
                **more,
            },
        )
        assert status == 201, answer

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        return await asyncio.to_thread(ask, self.router.url + path, body, headers)

    async def leave(self) -> None:
        """Nothing is registered any more, and the router knows."""
        for one in self.registry.get("/services")["services"]:
            await asyncio.to_thread(
                ask, f"{self.registry.url}/services/{one['name']}", method="DELETE"
            )
        for engine in self.engines.values():
            await asyncio.to_thread(engine.process.stop)
        await until(lambda: not self.router.get("/services?type=any")["services"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("extraction")) as fleet:
        fleet.registry()
        fleet.router()
        yield fleet


@pytest.fixture
async def setup(fleet: Fleet) -> AsyncIterator[Setup]:
    """The same registry and router for every test, with nothing registered."""
    one = Setup(fleet, fleet.parts["registry"], fleet.parts["router"])
    yield one
    await one.leave()


async def test_the_model_is_read_from_a_post_body(setup: Setup) -> None:
    await setup.register("one", "model-1")
    two = await setup.register("two", "model-2")
    status, _ = await setup.post("/v1/chat/completions", chat("model-2"))
    assert status == 200
    assert (await two.stats())["by_model"] == {"model-2": 1}
    assert (await setup.engines["one"].stats())["requests"] == 0


async def test_an_unknown_models_text_names_it(setup: Setup) -> None:
    await setup.register("one", "model-1")
    status, answer = await setup.post("/v1/chat/completions", chat("nope"))
    assert status == 503
    assert answer["error"]["message"] == "No healthy services available for model 'nope'"


async def test_no_model_goes_in_rotation(setup: Setup) -> None:
    one = await setup.register("one", "model-1")
    two = await setup.register("two", "model-2")
    for _ in range(6):
        await setup.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
    counts = [(await engine.stats())["requests"] for engine in (one, two)]
    assert counts == [3, 3]


async def test_a_get_extracts_nothing(setup: Setup) -> None:
    one = await setup.register("one", "model-1")
    body = b'{"model": "nope"}'
    status, _ = await asyncio.to_thread(ask, f"{setup.router.url}/anything", body, None, "GET")
    assert status == 404, "the engine's own answer: the body of a GET names no model"
    assert (await one.stats())["requests"] == 1


async def test_invalid_json_degrades_to_no_model(setup: Setup) -> None:
    one = await setup.register("one", "model-1")
    status, _ = await setup.post("/v1/chat/completions", b'{"model": "model-1", broken')
    assert status == 400, "the engine gives its own error"
    assert (await one.stats())["requests"] == 1


async def test_models_is_an_empty_list_when_nothing_serves(setup: Setup) -> None:
    assert setup.router.get("/models") == {"object": "list", "data": []}


async def test_only_fit_services_of_type_openai_api_are_listed(setup: Setup) -> None:
    await setup.register("fit", "fit-model")
    setup.record("loading", free_port(), {"models": ["loading-model"]}, status="starting")
    setup.record("sitter", free_port(), {"type": "babysitter", "models": ["sitter-model"]})
    assert setup.fleet.models() == ["fit-model"]


async def test_models_list_comes_first_and_models_is_the_fallback(setup: Setup) -> None:
    await setup.register(
        "both", "plain-name", models_list=[{"id": "listed-name", "max_model_len": 4096}]
    )
    await setup.register("only-plain", "plain-only")
    listed = setup.router.get("/v1/models")["data"]
    assert [item["id"] for item in listed] == ["listed-name", "plain-only"]
    assert listed[0]["max_model_len"] == 4096


async def test_models_are_deduplicated_and_sorted(setup: Setup) -> None:
    await setup.register("one", "zeta", "shared")
    await setup.register("two", "shared", "alpha")
    assert setup.fleet.models() == ["alpha", "shared", "zeta"]


async def test_multipart_names_its_model_after_the_file(setup: Setup) -> None:
    await setup.register("one", "model-1")
    two = await setup.register("two", "whisper")
    boundary = "----creche"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        f"Content-Type: audio/wav\r\n\r\n{'x' * 100_000}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
        f"--{boundary}--\r\n"
    ).encode()
    status, answer = await setup.post(
        "/v1/audio/transcriptions",
        parts,
        **{"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    assert status == 200, answer
    assert (await two.stats())["by_model"] == {"whisper": 1}


async def test_weights_are_kept_through_the_registry(setup: Setup) -> None:
    setup.record("light", free_port(), {"models": ["m"]}, weight=1)
    setup.record("heavy", free_port(), {"models": ["m"], "weight": 2})
    weights = {
        name: (await asyncio.to_thread(setup.fleet.wait_service, name))["weight"]
        for name in ("light", "heavy")
    }
    assert weights == {"light": 1, "heavy": 2}


async def test_two_services_are_kept_and_one_babysitter_filtered(setup: Setup) -> None:
    await setup.register("one", "m")
    await setup.register("two", "m")
    setup.record("sitter", free_port(), {"type": "babysitter"})
    listed = setup.router.get("/services")
    assert sorted(one["name"] for one in listed["services"]) == ["one", "two"]


async def test_counts_move_by_one_and_response_time_is_tracked(setup: Setup) -> None:
    await setup.register("one", "m")

    def service() -> dict[str, Any]:
        found = setup.fleet.service("one")
        assert found is not None
        return found

    assert (service()["request_count"], service()["response_time"]) == (0, 0)
    before = setup.router.get("/stats")
    status, _ = await setup.post("/v1/chat/completions", chat("m"))
    assert status == 200
    after = service()
    assert after["request_count"] == 1
    assert after["error_count"] == 0
    assert after["response_time"] > 0
    stats = setup.router.get("/stats")
    assert stats["total_requests"] == before["total_requests"] + 1
    assert stats["successful_requests"] == before["successful_requests"] + 1


async def test_get_and_post_are_forwarded_with_query_and_status(setup: Setup) -> None:
    await setup.register("one", "m")
    url = f"{setup.router.url}/echo/path?a=1&b=%2F"
    status, seen = await asyncio.to_thread(ask, url)
    assert status == 200
    assert (seen["method"], seen["path"], seen["query"]) == ("GET", "/echo/path", "a=1&b=%2F")
    status, seen = await asyncio.to_thread(ask, url, {"a": 1})
    assert (seen["method"], seen["query"], seen["body"]) == ("POST", "a=1&b=%2F", '{"a": 1}')
    status, _ = await setup.post("/v1/chat/completions", chat("m"), **{"x-mock-status": "418"})
    assert status == 418


async def test_nothing_available_is_503(setup: Setup) -> None:
    status, answer = await setup.post("/v1/chat/completions", {"messages": []})
    assert status == 503
    assert answer["error"]["message"] == "No healthy services available"


async def test_a_shared_model_is_balanced_under_load(setup: Setup) -> None:
    """All of them are in flight at once, so that it does not matter how fast either engine is."""
    await setup.register("one", "m")
    await setup.register("two", "m")
    url = f"{setup.router.url}/v1/chat/completions"
    body, hangs = chat("m", stream=True), {"x-mock-hang": "middle"}
    async with session() as http, AsyncExitStack() as kept:
        asked = (http.post(url, json=body, headers=hangs) for _ in range(40))
        answers = await asyncio.gather(*map(kept.enter_async_context, asked))
        by_service = Counter(answer.headers["x-creche-service"] for answer in answers)
    assert by_service == {"one": 20, "two": 20}
