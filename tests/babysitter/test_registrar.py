"""Telling registries over real sockets: several addresses, answers in pieces, none at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from babysitter.registrar import Registrar, RegistryClient
from babysitter.registration import Register, SendBeat
from common.http import client
from common.tasks import spawn
from common.wire.registry import Beat, Registration
from tests.support.ports import free_port
from tests.support.until import until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RECORD = Registration(
    name="x", host="127.0.0.1", port=1, hostname="h", url="http://127.0.0.1:1",
    status="running", instance_id="a", weight=1.0,
)  # fmt: skip
BEAT = SendBeat("x", Beat(status="running", instance_id="a"))


class FakeRegistry:
    """Answers as `answer` says, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.answer: Handler = self.well
        self.url = ""

    async def well(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.path == "/services":
            return web.Response(status=201, body=registered())
        return web.json_response({"message": "ok"})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.heard.append(f"{request.method} {request.path}")
        return await self.answer(request)


def registered(beat_s: float = 0.3) -> bytes:
    service = {
        **msgspec.to_builtins(RECORD), "timestamp": "t", "last_heartbeat": "t",
        "health_status": "healthy", "is_healthy": True,
    }  # fmt: skip
    return msgspec.json.encode(
        {"message": "registered", "service": service, "lease_s": 1.0, "beat_s": beat_s}
    )


@asynccontextmanager
async def fake() -> AsyncIterator[FakeRegistry]:
    registry = FakeRegistry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stands still for a while is not away."""
    monkeypatch.setattr("babysitter.registrar.TIMEOUT", aiohttp.ClientTimeout(total=60))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as http:
        yield http


async def test_an_answer_that_comes_in_pieces_is_read_whole(http: aiohttp.ClientSession) -> None:
    async def slowly(request: web.Request) -> web.StreamResponse:
        body = registered(beat_s=0.3)
        response = web.StreamResponse(status=201, headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        for part in (body[:20], body[20:-1], body[-1:]):
            await response.write(part)
            await asyncio.sleep(0.01)
        return response

    async with fake() as registry:
        registry.answer = slowly
        answer = await RegistryClient(http, [registry.url]).send(Register(RECORD))
    assert answer is not None
    assert (answer.status, answer.beat_s) == (201, 0.3), "the registry decides how often it beats"


async def test_the_first_of_several_addresses_that_answers_is_used_and_kept(
    http: aiohttp.ClientSession,
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with fake() as one, fake() as two:
        registry = RegistryClient(http, [nobody, one.url, two.url])
        assert await registry.send(Register(RECORD)) is not None
        assert not registry.away

        async def broken(_: web.Request) -> web.StreamResponse:
            return web.Response(status=500)

        one.answer = broken
        assert await registry.send(BEAT) is not None, "5xx: the next is asked"
        one.answer = one.well
        assert await registry.send(BEAT) is not None
        assert one.heard == ["POST /services", "POST /services/x/heartbeat"]
        assert two.heard == ["POST /services/x/heartbeat"] * 2, "the one that answered is kept"


async def test_none_answers_and_one_comes_back(http: aiohttp.ClientSession) -> None:
    async with fake() as registry:
        client = RegistryClient(http, [f"http://127.0.0.1:{free_port()}", registry.url])

        async def broken(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        registry.answer = broken
        assert await client.send(BEAT) is None
        assert client.away
        registry.answer = registry.well
        assert await client.send(BEAT) is not None
        assert not client.away


async def test_an_end_waits_once_and_shortly_for_a_registry_that_does_not_answer(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("babysitter.registrar.DEREGISTER_S", 0.1)

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with fake() as registry:
        registrar = Registrar(RegistryClient(http, [registry.url]), "x", lambda: None)
        registrar.want(RECORD)
        await until(lambda: registrar.registered)
        registry.answer = never
        registrar.want(None)
        await until(lambda: registry.heard[-1] == "DELETE /services/x")
        assert not await registrar.settled()
        again = spawn(registrar.settled(), "settled")
        for _ in range(10):  # turns of the loop, not time
            await asyncio.sleep(0)
        assert again.done() and not again.result(), "the second wait is over at once"
        await registrar.close()


async def test_a_registry_that_is_away_is_told_in_plain_words() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with client() as http:
        with capture_logs() as said:
            assert await RegistryClient(http, [nowhere]).send(BEAT) is None
    assert [one["why"] for one in said] == [f"{nowhere}: connection refused"]
