"""Streams that break off go on at another engine: real processes, killed or silenced midway."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.cutter import Cut, Cutter
from tests.support.engines import wait_in_use
from tests.support.fleet import Fleet, ask, chat, mock
from tests.support.load import session
from tests.support.ports import free_ports
from tests.support.until import until

pytestmark = pytest.mark.real

ENGINES = ("one", "two", "alone")
#: Of each.
ARGS = ["--anonymous", "--tokens", "32", "--pace-ms", "10"]
#: Where a stream is that is to be struck: it cannot end before.
MIDWAY = {"hang": "middle", "after": 8}
#: Longer than any pause of a shared machine.
STALL_S = 6
USAGE = {"stream_options": {"include_usage": True}}


class Answer:
    """A stream as a client reads it; `text` grows while it comes."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.chunks: list[dict[str, Any]] = []
        self.done = 0

    @property
    def text(self) -> str:
        said = [one for chunk in self.chunks for one in chunk.get("choices", ())]
        return "".join(
            one["text"] if "text" in one else one["delta"].get("content", "") for one in said
        )

    @property
    def error(self) -> dict[str, Any] | None:
        return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]

    @property
    def ids(self) -> set[str]:
        return {chunk["id"] for chunk in self.chunks if "id" in chunk}

    def deltas_with(self, key: str) -> int:
        said = [one for chunk in self.chunks for one in chunk.get("choices", ())]
        return sum(key in one["delta"] for one in said)

    async def read(self, http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> "Answer":
        async with http.post(url, json=body) as answer:
            assert answer.status == 200
            self.headers = {name.lower(): value for name, value in answer.headers.items()}
            async for line in answer.content:
                if line.startswith(b"data: [DONE]"):
                    self.done += 1
                elif line.startswith(b"data: "):
                    self.chunks.append(json.loads(line[6:]))
        return self


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("resume")) as fleet:
        fleet.registry()
        models = ("m", "stalls", "exact", "plain")
        engines = [mock(name, *models, args=ARGS) for name in ("one", "two")]
        fleet.babysitter(
            "sitter",
            [*engines, mock("alone", "lonely", args=ARGS)],
            defaults={"backoff_first_s": 0.1, "backoff_max_s": 0.2, "max_restarts": 1000},
        )
        fleet.router(
            models={
                "m": {"resume": True},
                "stalls": {"resume": True, "timeouts": {"between_chunks_s": STALL_S}},
                "exact": {"resume": "tokens"},
                "lonely": {"resume": True},
            },
            breaker={"failures": 1000},
        )
        yield fleet


@pytest.fixture
async def http(fleet: Fleet) -> AsyncIterator[aiohttp.ClientSession]:
    await asyncio.to_thread(wait_in_use, fleet, *ENGINES)
    async with session() as http:
        yield http


def engines_of(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What the babysitter says of each, by its service."""
    told = [fleet.parts["sitter"].get(f"/engines/{name}") for name in ENGINES]
    return {one["service"]: one for one in told}


async def disturbed(
    fleet: Fleet,
    http: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any],
    *,
    how: signal.Signals = signal.SIGKILL,
) -> Answer:
    """The answer to `body` when its engine is struck after some tokens. Whoever is asked for the
    rest says it to its end."""
    answer = Answer()
    engines = await asyncio.to_thread(engines_of, fleet)

    def all_do(*faults: dict[str, Any]) -> None:
        for one in engines.values():
            assert ask(one["url"] + "/mock/faults", list(faults))[0] == 200

    await asyncio.to_thread(all_do, MIDWAY)
    task = asyncio.ensure_future(answer.read(http, fleet.url + path, body))  # noqa: TID251
    await until(lambda: len(answer.chunks) > 5, what="some tokens")
    await asyncio.to_thread(all_do)
    victim = engines[answer.headers["x-creche-service"]]["pid"]
    os.kill(victim, how)
    try:
        return await asyncio.wait_for(task, 60)
    finally:
        if how == signal.SIGSTOP:
            os.kill(victim, signal.SIGCONT)


CHAT = "/v1/chat/completions"


async def test_the_text_of_a_chat_is_the_undisturbed_one(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    body = chat("m", "a story please", stream=True, **USAGE)
    whole = await Answer().read(http, fleet.url + CHAT, body)
    cut = await disturbed(fleet, http, CHAT, body)
    assert cut.error is None
    assert cut.text == whole.text
    assert cut.usages == whole.usages
    assert (len(cut.ids), cut.done, cut.deltas_with("role")) == (1, 1, 1)
    assert cut.headers["x-creche-resume"] == "text"


async def test_a_stalled_stream_goes_on_elsewhere(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    body = chat("stalls", "a story please", stream=True, **USAGE)
    whole = await Answer().read(http, fleet.url + CHAT, body)
    cut = await disturbed(fleet, http, CHAT, body, how=signal.SIGSTOP)
    assert (cut.error, cut.text, cut.done) == (None, whole.text, 1)
    assert cut.usages == whole.usages


@pytest.mark.parametrize(("model", "mode"), [("m", "text"), ("exact", "tokens")])
async def test_the_text_of_a_completion_is_the_undisturbed_one(
    fleet: Fleet, http: aiohttp.ClientSession, model: str, mode: str
) -> None:
    body = {"model": model, "prompt": "one day", "stream": True, **USAGE}
    whole = await Answer().read(http, fleet.url + "/v1/completions", body)
    cut = await disturbed(fleet, http, "/v1/completions", body)
    assert (cut.error, cut.text, cut.done, len(cut.ids)) == (None, whole.text, 1, 1)
    assert cut.usages == whole.usages
    assert cut.headers["x-creche-resume"] == mode
    assert not any("token_ids" in one for chunk in cut.chunks for one in chunk["choices"])


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
    ],
)
async def test_what_could_come_out_wrong_ends_in_band(
    fleet: Fleet, http: aiohttp.ClientSession, more: dict[str, Any]
) -> None:
    cut = await disturbed(fleet, http, CHAT, chat("m", "a story", stream=True, **more))
    assert cut.error is not None
    assert cut.error["code"] == "upstream_cut"
    assert cut.done == 0
    assert cut.headers["x-creche-resume"] == "none"


async def test_it_ends_in_band_where_no_other_engine_is_left(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    cut = await disturbed(fleet, http, CHAT, chat("lonely", "a story", stream=True))
    assert cut.error is not None
    assert cut.error["code"] == "upstream_cut"
    assert cut.done == 0


async def test_other_models_are_as_ever(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    cut = await disturbed(fleet, http, CHAT, chat("plain", "a story", stream=True))
    assert cut.error is not None
    assert cut.error["code"] == "upstream_cut"
    assert "x-creche-resume" not in cut.headers


async def test_what_became_of_them_is_counted_and_nothing_stays_taken(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    await disturbed(fleet, http, CHAT, chat("m", "once more", stream=True))
    async with http.get(fleet.url + "/metrics") as answer:
        page = await answer.text()
    assert 'creche_resumes_total{model="m",outcome="ok"}' in page

    def written() -> bool:
        lines = fleet.parts["router"].process.log.splitlines()
        return any('"outcome":"ok"' in line and '"resumed":1' in line for line in lines)

    await until(written, what="a line of the access log")

    def idle() -> bool:
        stats = fleet.parts["router"].get("/stats")
        return stats["active_streams"] == 0

    await until(lambda: asyncio.to_thread(idle), what="no stream is left")


#: Of the answer that is cut at every one of its events: one tells the role, one why it ended, one
#: the usage.
ANSWER_TOKENS = 24
ANSWER_EVENTS = ANSWER_TOKENS + 3


async def test_two_llama_cpp_servers_give_one_whole_answer_wherever_it_is_cut(
    tmp_path: Path,
) -> None:
    model = tmp_path / "tiny.gguf"
    tiny = Path(__file__).parents[2] / "scripts" / "tiny_gguf.py"
    await asyncio.to_thread(subprocess.run, [sys.executable, tiny, model], check=True)
    ports, cut = free_ports(2), Cut()
    more = {"max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True, **USAGE}
    body = chat("tiny", "hello there", stream=True, **more)
    with Fleet(tmp_path) as fleet:
        fleet.registry()
        fleet.babysitter(
            "sitter",
            [
                {"kind": "xllamacpp", "name": f"e{port}", "port": port, "model": str(model)}
                for port in ports
            ],
            start=False,
        ).start(ready=None)
        async with Cutter(ports[0], cut) as one, Cutter(ports[1], cut) as two, session() as http:
            fleet.router(
                registries=[],
                static_services=[static("one", one.port), static("two", two.port)],
                models={"tiny": {"resume": True}},
                breaker={"failures": 1000},
                retry={"budget_floor_per_s": 1000},
            )
            sitter = fleet.parts["sitter"]
            await sitter.process.ready(sitter.url + "/health", 100)
            for events in range(1, ANSWER_EVENTS + 1):
                cut.after = events
                answer = await Answer().read(http, fleet.url + CHAT, body)
                assert cut.after is None, f"nothing was cut behind event {events}"
                assert answer.error is None
                assert (len(answer.ids), answer.done, answer.deltas_with("role")) == (1, 1, 1)
                assert [one["completion_tokens"] for one in answer.usages] == [ANSWER_TOKENS]
                assert answer.headers["x-creche-resume"] == "text"
        router = fleet.parts["router"].process
        await until(lambda: router.log.count('"resumed":1') >= ANSWER_TOKENS, what="their lines")


def static(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "host": "127.0.0.1", "port": port, "metadata": {"models": ["tiny"]}}
