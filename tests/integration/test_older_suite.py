"""More of the older suite: affinity, cache type, embeddings, limits, hangs, text, legacy paths."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common import tasks
from tests.support.fleet import Fleet, ask, chat
from tests.support.load import one, session, statuses
from tests.support.mock import ProcessMock, start_mock

pytestmark = pytest.mark.real


class Bench:
    """A router over static services, each a mock engine."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.engines: dict[str, ProcessMock] = {}

    async def engine(self, name: str, models: list[str], **flags: Any) -> ProcessMock:
        self.engines[name] = await start_mock(
            self.fleet.processes, name=name, models=models, **flags
        )
        return self.engines[name]

    def router(self, metadata: dict[str, dict[str, Any]] | None = None, **config: Any) -> str:
        services = [
            {
                "name": name,
                "host": "127.0.0.1",
                "port": engine.port,
                "metadata": {"models": ["m"], **(metadata or {}).get(name, {})},
            }
            for name, engine in self.engines.items()
        ]
        return self.fleet.router(registries=[], static_services=services, **config).url


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with Fleet(tmp_path) as fleet:
        yield Bench(fleet)


async def test_the_same_prompt_cache_key_goes_to_the_same_service(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        await bench.engine(name, ["m"])
    url = bench.router()
    served: dict[str, set[str]] = {}
    async with session() as http:
        for key in ("ana", "ben", "eva", "kim", "leo", "mia"):
            for _ in range(5):
                reply = await one(http, url, chat("m", prompt_cache_key=key))
                served.setdefault(key, set()).add(reply.service)
    assert all(len(services) == 1 for services in served.values()), served
    assert len(set.union(*served.values())) > 1, "keys spread over services"


async def test_a_small_prompt_prefers_paged_and_a_large_one_static(bench: Bench) -> None:
    await bench.engine("paged-one", ["m"])
    await bench.engine("static-one", ["m"])
    url = bench.router(
        {"paged-one": {"cache_type": "paged"}, "static-one": {"cache_type": "static"}}
    )
    async with session() as http:
        for _ in range(4):
            small = await one(http, url, chat("m", "x" * 51_200))
            large = await one(http, url, chat("m", "x" * 51_201))
            assert (small.service, large.service) == ("paged-one", "static-one")


async def test_a_cache_type_is_never_a_reason_to_fail(bench: Bench) -> None:
    await bench.engine("paged-one", ["m"])
    url = bench.router({"paged-one": {"cache_type": "paged"}})
    status, _ = await asyncio.to_thread(ask, f"{url}/v1/chat/completions", chat("m", "x" * 60_000))
    assert status == 200


async def test_embeddings_with_one_and_many_inputs(bench: Bench) -> None:
    await bench.engine("one", ["m"])
    url = bench.router()
    for given, count in (("a", 1), (["a", "b", "c"], 3)):
        body = {"model": "m", "input": given}
        status, answer = await asyncio.to_thread(ask, f"{url}/v1/embeddings", body)
        assert status == 200
        assert [item["index"] for item in answer["data"]] == list(range(count))


async def test_requests_beyond_an_engines_limit_wait(bench: Bench) -> None:
    engine = await bench.engine("narrow", ["m"], max_concurrency=2)
    url = bench.router()
    async with session() as http:
        hangs = {"x-mock-hang": "before"}
        first = [tasks.spawn(one(http, url, chat("m"), hangs), "a client") for _ in range(2)]
        await engine.saw(in_flight=2)
        others = [tasks.spawn(one(http, url, chat("m")), "a client") for _ in range(10)]
        await engine.saw(queued=10)
        await tasks.cancel(*first)
        replies = await asyncio.gather(*others)
    assert statuses(replies) == {200: 10}
    assert (await engine.stats())["in_flight_max"] == 2


async def test_an_engine_that_hangs_times_out_and_is_used_again_when_it_recovers(
    bench: Bench,
) -> None:
    engine = await bench.engine("moody", ["m", "patient"])
    url = bench.router(
        {"moody": {"models": ["m", "patient"]}},
        models={"m": {"timeouts": {"total_s": 0.3}}},
        health={"connect_probe_s": 0.2, "probe_s": 0.2},
    )
    await engine.faults({"hang": "before"})
    async with session() as http:
        hung = await one(http, url, chat("m"))
        assert hung.status == 504, hung.text
        await engine.saw(in_flight=0)  # the router let go of it
        await engine.faults()
        # However slow the machine is: of the other model an answer may take its time.
        recovered = await one(http, url, chat("patient"))
        assert recovered.status == 200, recovered.text
        assert recovered.service == "moody"


async def test_streamed_text_equals_plain_text(bench: Bench) -> None:
    await bench.engine("one", ["m"])
    url = bench.router()
    async with session() as http:
        plain = await one(http, url, chat("m", "tell me"))
        streamed = await one(http, url, chat("m", "tell me", stream=True))
    assert streamed.is_done
    chunks = [
        json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")
    ]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text == json.loads(plain.text)["choices"][0]["message"]["content"]


async def test_the_legacy_embedding_path_passes_through(bench: Bench) -> None:
    engine = await bench.engine("one", ["m"])
    url = bench.router()
    status, answer = await asyncio.to_thread(ask, f"{url}/embedding", {"content": "hello"})
    assert status == 200, answer
    assert (await engine.stats())["by_path"].get("/embedding") == 1


async def test_ollamas_tags_pass_through_unharmed(bench: Bench) -> None:
    engine = await bench.engine("one", ["m"])
    url = bench.router()
    direct = await asyncio.to_thread(ask, f"{engine.url}/api/tags")
    routed = await asyncio.to_thread(ask, f"{url}/api/tags")
    assert routed == direct
    assert {"name", "digest"} <= set(routed[1]["models"][0])
