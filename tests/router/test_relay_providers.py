"""Providers behind a relay on sockets; who is asked, and with what edit, is the test's word."""

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.config import decode
from router.config import Config
from router.envelope import Envelope
from router.errors import Problem, failed
from router.nodes import Node
from router.outcome import Failure, Outcome, of_failure
from router.seam import Ask, Attempt, End, Step
from router.server import serve_relay
from tests.router.providing import KEY, config, node_for, node_of
from tests.support.fake_provider import Authority, fake_provider
from tests.support.fleet import toml
from tests.support.until import until

CHAT = "/v1/chat/completions"


class Desk:
    """Sends every request to `node`, renamed to `name` where one is given."""

    impatient = False

    def __init__(self, node: Node, name: str | None) -> None:
        self.node = node
        self.name = name
        self.ends: list[End] = []

    def begin(self, ask: Ask, now: float) -> "Ticket":
        return Ticket(self, ask.envelope)

    def refused(self, id: str, problem: Problem, started: float, now: float) -> None:
        raise AssertionError(problem)


class Ticket:
    wake: Callable[[], None] | None = None
    answer_model: str | None = None
    answer_head = b""
    comment_every_s = 0.0
    keeps = False

    def __init__(self, desk: Desk, envelope: Envelope) -> None:
        self.desk = desk
        self.envelope = envelope

    def next(self, now: float) -> Step:
        name = self.desk.name
        edit = None if name is None else self.envelope.edit(name)
        assert (edit is None) == (name is None)
        return Attempt(self.desk.node, 1, edit)

    def answered(self, status: int, retry_after_s: float | None, now: float) -> None:
        return None

    def failed(self, failure: Failure, sent: bool, now: float) -> Step:
        return failed(of_failure(failure), self.desk.node.name)

    def ended(self, end: End) -> None:
        self.desk.ends.append(end)


class Front:
    """A relay before one upstream, and a client of it."""

    def __init__(self, desk: Desk, port: int, client: aiohttp.ClientSession) -> None:
        self.desk = desk
        self.url = f"http://127.0.0.1:{port}"
        self._client = client

    async def post(
        self, path: str, body: Any = None, **how: Any
    ) -> tuple[int, dict[str, str], bytes]:
        if body is not None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            how["data"] = io.BytesIO(raw)
            how["headers"] = {"content-type": "application/json", **how.get("headers", {})}
        return await self.ask("POST", path, **how)

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, dict[str, str], bytes]:
        async with self._client.request(method, self.url + path, **how) as answer:
            return answer.status, dict(answer.headers), await answer.read()


@contextlib.asynccontextmanager
async def relayed(node: Node, name: str | None = None, **limits: int) -> AsyncIterator[Front]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    desk = Desk(node, name)
    settings = decode(toml({"registries": [], "limits": limits}), Config)
    relay = await serve_relay([listener], desk, settings, None)
    try:
        async with aiohttp.ClientSession() as client:
            yield Front(desk, listener.getsockname()[1], client)
        await until(lambda: relay.in_flight == 0)
        assert (relay.bodies.memory, relay.bodies.disk) == (0, 0)
    finally:
        await relay.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def chat(model: str = "gpt-a", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


async def test_a_chat_over_tls_carries_the_providers_key_not_the_clients(
    authority: Authority,
) -> None:
    mine = {"authorization": "Bearer client", "x-api-key": "client", "openai-organization": "o"}
    with fake_provider(key=KEY, authority=authority) as cloud:
        async with relayed(node_for(cloud)) as front:
            status, headers, body = await front.post(CHAT + "?a=1", chat(), headers=mine)
            assert status == 200, body
            assert json.loads(body)["choices"][0]["message"]["content"] == "hello there"
            assert KEY not in str(headers)
            _, _, events = await front.post(CHAT, chat(stream=True))
            assert events.endswith(b"data: [DONE]\n\n")
        assert [one.target for one in cloud.seen] == [CHAT + "?a=1", CHAT]
        seen = cloud.seen[0].headers
        assert seen["authorization"] == f"Bearer {KEY}"
        assert "x-api-key" not in seen
        assert seen["host"] == f"127.0.0.1:{cloud.port}"
        assert seen["openai-organization"] == "o"
        assert front.desk.ends[1].tokens_out == 2


async def test_a_certificate_of_an_unknown_authority_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    with fake_provider(key=KEY, authority=authority) as cloud:
        async with relayed(node_for(cloud, ca_file=str(other.ca_file))) as front:
            status, _, body = await front.post(CHAT, chat())
            assert status == 502, body
            assert front.desk.ends[0].outcome is Outcome.UNREACHABLE
        assert not cloud.seen


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    with fake_provider(key=KEY, authority=authority, hosts=["api.example.com"]) as cloud:
        async with relayed(node_for(cloud)) as front:
            assert (await front.post(CHAT, chat()))[0] == 502
        assert not cloud.seen


async def test_a_refused_keys_401_passes_through_as_it_is(authority: Authority) -> None:
    with fake_provider(key="sk-another-key-0123", authority=authority) as cloud:
        async with relayed(node_for(cloud)) as front:
            status, headers, body = await front.post(CHAT, chat())
            assert status == 401
            assert headers["x-creche-error"] == "upstream"
            assert json.loads(body)["error"]["code"] == "invalid_api_key"
            assert KEY.encode() not in body


@pytest.mark.parametrize("base", ["", "/v1", "/api/openai/v1", "/v1beta/openai"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_paths_with_and_without_v1_reach_every_base(
    base: str, tls: bool, authority: Authority
) -> None:
    used = authority if tls else None
    with fake_provider(key=KEY, base=base, authority=used) as cloud:
        async with relayed(node_for(cloud)) as front:
            assert (await front.post(CHAT, chat()))[0] == 200
            assert (await front.post("/chat/completions?q=/v1/x", chat()))[0] == 200
        under = f"{base or '/v1'}/chat/completions"
        assert [one.target for one in cloud.seen] == [under, under + "?q=/v1/x"]


async def test_ollamas_own_routes_pass_beside_v1() -> None:
    with fake_provider("ollama", models=["llama3"]) as ollama:
        async with relayed(node_for(ollama, key=None)) as front:
            _, _, tags = await front.ask("GET", "/api/tags")
            assert json.loads(tags)["models"][0]["digest"]
            assert (await front.post("/api/chat", chat("llama3")))[0] == 200
            assert (await front.post(CHAT, chat("llama3")))[0] == 200
            assert (await front.post("/chat/completions", chat("llama3")))[0] == 200
        assert [one.target for one in ollama.seen] == ["/api/tags", "/api/chat", CHAT, CHAT]
        assert all("authorization" not in one.headers for one in ollama.seen)


async def test_anthropics_messages_pass_with_the_clients_version(authority: Authority) -> None:
    with fake_provider("anthropic", key=KEY, models=["opus"], authority=authority) as cloud:
        async with relayed(node_for(cloud)) as front:
            version = {"anthropic-version": "2023-06-01", "authorization": "Bearer client"}
            assert (await front.post("/v1/messages", chat("opus"), headers=version))[0] == 200
        seen = cloud.seen[0].headers
        assert seen["x-api-key"] == KEY
        assert seen["anthropic-version"] == "2023-06-01"
        assert "authorization" not in seen


async def test_a_json_bodys_model_alone_is_rewritten(authority: Authority) -> None:
    before = b'{ "x": {"model":"code"}, "messages":[], "model" : "code" ,"seed":1.50}'
    with fake_provider(key=KEY, authority=authority) as cloud:
        async with relayed(node_for(cloud), name="gpt-a") as front:
            status, _, body = await front.post(CHAT, before)
            assert (status, json.loads(body)["model"]) == (200, "gpt-a")
        assert cloud.seen[0].body == before.replace(b'"model" : "code"', b'"model" : "gpt-a"')


@pytest.mark.parametrize("where", ["memory", "disk"])
async def test_a_large_json_bodys_model_is_rewritten(where: str, authority: Authority) -> None:
    padding = "x" * (3 << 20)
    body = json.dumps(chat("code", **{"metadata": {"model": "y"}, "pad": padding})).encode()
    limits = {"body_memory_bytes": 8 << 20} if where == "memory" else {}
    with fake_provider(key=KEY, authority=authority) as cloud:
        async with relayed(node_for(cloud), name="gpt-a", **limits) as front:
            assert (await front.post(CHAT, body))[0] == 200
        assert cloud.seen[0].body == body.replace(b'"model": "code"', b'"model": "gpt-a"')


@pytest.mark.parametrize("size", [1_000, 3 << 20], ids=["small", "on disk"])
async def test_a_forms_model_is_rewritten_behind_its_file(size: int, authority: Authority) -> None:
    def form(model: bytes) -> bytes:
        return (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
            + bytes(size)
            + b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
            + model
            + b"\r\n--b--\r\n"
        )

    kind = {"content-type": "multipart/form-data; boundary=b"}
    with fake_provider(key=KEY, authority=authority) as cloud:
        async with relayed(node_for(cloud), name="whisper-1") as front:
            path = "/v1/audio/transcriptions"
            assert (await front.post(path, form(b"hear"), headers=kind))[0] == 200
        assert cloud.seen[0].body == form(b"whisper-1")


async def test_a_realtime_querys_model_is_rewritten() -> None:
    asked: list[bytes] = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    chosen = config(base_url=f"http://127.0.0.1:{port}/v1")
    async with server, relayed(node_of(chosen), name="gpt/b c") as front:
        upgrade = {"connection": "Upgrade", "upgrade": "websocket"}
        target = "/v1/realtime?a=1&model=voice&z=2"
        status, _, _ = await front.ask("GET", target, headers=upgrade)
        assert status == 403
    assert asked[0].startswith(b"GET /v1/realtime?a=1&model=gpt/b%20c&z=2 HTTP/1.1\r\n")
    assert b"\r\n\r\n" in asked[0]
