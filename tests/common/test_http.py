"""The control port: limits, errors, tokens; seen through a real server and raw sockets."""

import asyncio
import gzip
import io
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from msgspec import Struct
from structlog.testing import capture_logs

from common import http, listen, logs
from common.address import Address
from common.http import HttpError, Server
from tests.support.ports import free_port
from tests.support.until import until

TOKEN = "correct-horse-battery"


class Beat(Struct, frozen=True):
    status: str
    load: dict[str, float] = {}


Serve = Callable[..., Awaitable[Server]]


async def health(_: web.Request) -> web.Response:
    return http.json_response({"status": "healthy"})


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await http.read_body(request))


async def beat(request: web.Request) -> web.Response:
    return http.json_response(await http.read_json(request, Beat))


async def impatient(request: web.Request) -> web.Response:
    return web.Response(body=await http.read_body(request, timeout_s=0.2))


async def fails(_: web.Request) -> web.Response:
    raise ValueError("the password is hunter2hunter2")


async def refuses(_: web.Request) -> web.Response:
    raise HttpError(409, "taken", "name_conflict", extra={"holder": "a:1"}, headers={"X-Y": "1"})


async def waits(request: web.Request) -> web.Response:
    request.app[STARTED].set()
    await request.app[GATE].wait()
    return web.Response(text="late")


async def slow_stream(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(4):
        await asyncio.sleep(0.15)
        await answer.write(b"x")
    return answer


async def large(_: web.Request) -> web.Response:
    return web.Response(body=b"y" * 20_000_000)


async def websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


GATE = web.AppKey("gate", asyncio.Event)
STARTED = web.AppKey("started", asyncio.Event)


def application(token: str | None = None) -> web.Application:
    app = http.application(token=token)
    app[GATE] = asyncio.Event()
    app[STARTED] = asyncio.Event()
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/fails", fails),
            web.get("/refuses", refuses),
            web.get("/waits", waits),
            web.get("/stream", slow_stream),
            web.get("/large", large),
            web.get("/ws", websocket),
            web.post("/echo", echo),
            web.post("/beat", beat),
            web.post("/impatient", impatient),
        ]
    )
    return app


@pytest.fixture
async def start() -> AsyncIterator[Serve]:
    servers: list[Server] = []

    async def serve(app: web.Application | None = None, **options: Any) -> Server:
        sockets = listen.bind(Address("127.0.0.1", 0))
        server = await http.serve(app or application(), sockets, **options)
        servers.append(server)
        return server

    yield serve
    for one in servers:
        await one.close(0.1)
        assert one.connections == 0


class Raw:
    """A client that sends what it likes, when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, server: Server, first: bytes = b"") -> "Raw":
        """`first` is there before the server knows of the connection: no pause comes between."""
        one = socket.create_connection(("127.0.0.1", server.port))
        one.sendall(first)
        return cls(*await asyncio.open_connection(sock=one))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """One answer with a Content-Length."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return head + await asyncio.wait_for(self.reader.readexactly(length), 30)

    async def rest(self) -> bytes:
        """All until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 30)
        finally:
            self.writer.close()


GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_structs_travel_as_json(start: Serve) -> None:
    server = await start()
    body = Beat("running", {"q": 1.5})
    async with http.client() as client, client.post(f"{server.url}/beat", json=body) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert msgspec.json.decode(await answer.read(), type=Beat).load == {"q": 1.5}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"{}", "missing required field `status`"),
        (b'{"status": 1}', "Expected `str`, got `int` - at `$.status`"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
async def test_a_bad_body_is_a_400_that_says_why(start: Serve, body: bytes, says: str) -> None:
    server = await start()
    async with http.client() as client, client.post(f"{server.url}/beat", data=body) as answer:
        assert answer.status == 400
        said = await answer.json()
        assert says in said["error"]
        assert said["code"] == "invalid"


async def test_a_body_over_the_limit_is_413_however_it_is_framed(start: Serve) -> None:
    server = await start()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"z" * 100_000

    async with http.client() as client:
        for body in (io.BytesIO(b"z" * (http.BODY_BYTES_MAX + 1)), chunks()):
            async with client.post(f"{server.url}/echo", data=body) as answer:
                assert answer.status == 413
        async with client.post(
            f"{server.url}/echo", data=io.BytesIO(b"z" * http.BODY_BYTES_MAX)
        ) as answer:
            assert answer.status == 200
            assert len(await answer.read()) == http.BODY_BYTES_MAX


async def test_a_body_that_does_not_come_is_408(start: Serve) -> None:
    raw = await Raw.to(await start())
    raw.send(b"POST /impatient HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    assert b" 408 " in await raw.answer()
    raw.writer.close()


async def test_an_unknown_error_is_a_500_that_tells_nothing_inner(start: Serve) -> None:
    server = await start()
    with capture_logs() as lines:
        async with http.client() as client, client.get(f"{server.url}/fails") as answer:
            assert (answer.status, await answer.json()) == (
                500,
                {"error": "internal error", "code": "internal"},
            )
    assert [(one["event"], one["path"]) for one in lines] == [("handler failed", "/fails")]


async def test_raised_answers_and_aiohttps_own_have_the_same_shape(start: Serve) -> None:
    server = await start()
    async with http.client() as client:
        async with client.get(f"{server.url}/refuses") as answer:
            assert (answer.status, answer.headers["X-Y"]) == (409, "1")
            assert await answer.json() == {
                "error": "taken",
                "code": "name_conflict",
                "holder": "a:1",
            }
        async with client.get(f"{server.url}/nowhere") as answer:
            assert answer.status == 404
            assert await answer.json() == {
                "error": "no such path: /nowhere",
                "code": "not_found",
            }
        async with client.delete(f"{server.url}/beat") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
            assert (await answer.json())["code"] == "method_not_allowed"


async def test_a_token_is_wanted_everywhere_but_on_open_paths(start: Serve) -> None:
    server = await start(application(TOKEN))
    wrong = ["", "Bearer", "Bearer ", "Bearer correct-horse-batterz", f"Basic {TOKEN}", TOKEN,
             f"Bearer {TOKEN}x", "Bearer caf\u00e9"]  # fmt: skip
    async with http.client() as anyone:
        async with anyone.get(f"{server.url}/health") as answer:
            assert answer.status == 200
        for header in wrong:
            headers = {"Authorization": header}
            async with anyone.get(f"{server.url}/refuses", headers=headers) as answer:
                assert (answer.status, header) == (401, header)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in await answer.text()
        async with anyone.get(f"{server.url}/nowhere") as answer:
            assert answer.status == 401
        async with anyone.get(f"{server.url}//health") as answer:
            assert answer.status == 401
    async with http.client(token=TOKEN) as trusted, trusted.get(f"{server.url}/refuses") as answer:
        assert answer.status == 409


# How long a head may take.


@pytest.mark.parametrize("first", [b"", b"G", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
async def test_a_first_head_has_a_limit_from_the_connect_on(start: Serve, first: bytes) -> None:
    raw = await Raw.to(await start(head_timeout_s=0.1), first)
    said = await raw.rest()
    assert (b" 408 " in said) == bool(first)
    assert b"Connection: close" in said or not first


async def test_a_head_that_trickles_is_cut(start: Serve) -> None:
    server = await start(head_timeout_s=0.3)
    raw = await Raw.to(server, GET[:1])
    said = b""
    for byte in (GET * 10)[1:]:
        raw.send(bytes([byte]) if byte != 13 else b"a")
        try:
            said = await asyncio.wait_for(raw.reader.read(1000), 0.02)
            break
        except TimeoutError:
            continue
    assert b" 408 " in said
    raw.writer.close()


async def test_a_later_head_has_the_same_limit(start: Serve) -> None:
    raw = await Raw.to(await start(head_timeout_s=1), GET)
    assert b" 200 " in await raw.answer()
    for _ in range(2):
        raw.send(GET)
        assert b" 200 " in await raw.answer()
    raw.send(GET[:-2])
    assert b" 408 " in await raw.rest()


async def test_waiting_between_requests_is_bounded_by_the_idle_limit_alone(start: Serve) -> None:
    raw = await Raw.to(await start(head_timeout_s=0.3), GET)
    assert b" 200 " in await raw.answer()
    await asyncio.sleep(0.5)  # longer than a head may take, shorter than idleness may last
    raw.send(GET)
    assert b" 200 " in await raw.answer()
    raw.writer.close()
    bounded = await Raw.to(await start(idle_timeout_s=0.2), GET)
    assert b" 200 " in await bounded.answer()
    assert await bounded.rest() == b""


async def test_bodies_streams_and_pipelines_are_not_touched(start: Serve) -> None:
    server = await start(head_timeout_s=0.3)
    raw = await Raw.to(server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
    for byte in b"abcd":
        await asyncio.sleep(0.15)
        raw.send(bytes([byte]))
    assert (await raw.answer()).endswith(b"abcd")
    raw.send(GET * 5)
    for _ in range(5):
        assert b" 200 " in await raw.answer()
    raw.writer.close()
    async with http.client() as client, client.get(f"{server.url}/stream") as answer:
        assert await answer.read() == b"xxxx"


async def test_websockets_are_not_touched(start: Serve) -> None:
    server = await start(head_timeout_s=0.5, idle_timeout_s=0.1)
    async with http.client() as client, client.ws_connect(f"{server.url}/ws") as ws:
        for word in ("one", "two"):
            await asyncio.sleep(0.6)
            await ws.send_str(word)
            assert (await ws.receive(30)).data == word


async def test_a_slow_reader_gets_its_answer_and_one_that_stopped_is_cut(start: Serve) -> None:
    server = await start(idle_timeout_s=2)
    slow, stopped = await Raw.to(server), await Raw.to(server)
    stopped.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    slow.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    size = 0
    while part := await slow.reader.read(2_000_000):
        size += len(part)
        await asyncio.sleep(0.03)
    assert size > 20_000_000
    await until(lambda: server.connections == 0)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await stopped.reader.readexactly(20_000_001)
    slow.writer.close()
    stopped.writer.close()


async def test_connections_beyond_the_limit_get_503(start: Serve) -> None:
    server = await start(connections_max=2)
    held = [await Raw.to(server) for _ in range(2)]
    for one in held:
        one.send(GET)
        assert b" 200 " in await one.answer()
    extra = await Raw.to(server)
    assert b" 503 " in await extra.rest()
    held[0].writer.close()
    await held[0].writer.wait_closed()
    await until(lambda: server.connections == 1)
    again = await Raw.to(server)
    again.send(GET)
    assert b" 200 " in await again.answer()
    for one in (held[1], again):
        one.writer.close()


async def test_a_client_that_leaves_cancels_its_handler(start: Serve) -> None:
    app = application()
    server = await start(app)
    raw = await Raw.to(server)
    raw.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(app[STARTED].wait(), 30)
    raw.writer.close()
    await until(lambda: server.connections == 0)


async def test_closing_lets_answers_in_progress_end(start: Serve) -> None:
    app = application()
    server = await start(app)
    idle, busy = await Raw.to(server), await Raw.to(server)
    idle.send(GET)
    await idle.answer()
    busy.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(app[STARTED].wait(), 30)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.close(30))
        with pytest.raises(ConnectionError):
            assert await idle.rest() == b""
            raise ConnectionResetError  # a FIN is as good
        with pytest.raises(OSError):
            await Raw.to(server)
        app[GATE].set()
        assert b"late" in await busy.rest()


async def test_closing_cuts_what_does_not_end(start: Serve) -> None:
    app = application()
    server = await start(app)
    raw = await Raw.to(server)
    raw.send(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(app[STARTED].wait(), 30)
    await asyncio.wait_for(server.close(0.05), 30)
    assert server.connections == 0
    raw.writer.close()


async def test_a_connection_can_be_handed_over(start: Serve) -> None:
    server = await http.serve(application(), head_timeout_s=1)

    class First(asyncio.Protocol):
        """Reads the head itself, then hands the connection on."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            protocol = server.protocol()
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            protocol.data_received(data)

    loop = asyncio.get_running_loop()
    front = await loop.create_server(First, sock=listen.bind(Address("127.0.0.1", 0))[0])
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    raw = Raw(reader, writer)
    raw.send(GET)
    assert b"healthy" in await raw.answer()
    raw.send(GET[:9])
    assert b" 408 " in await raw.rest()
    front.close()
    await server.close(0.1)


# What aiohttp's server logs.

SECRET = "sk-live-0123456789abcdef"
MALFORMED = [
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\x00\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {SECRET}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthori zation: Basic {SECRET}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: x\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nX: {SECRET}{'a' * 9000}\r\n\r\n",
    f"GET /{SECRET} HTTP/9.9\r\n\r\n",
    f"{SECRET}\r\n\r\n",
]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("head", MALFORMED)
async def test_a_malformed_head_leaves_no_secret_in_the_log(
    start: Serve, head: str, form: str, restored_logging: None
) -> None:
    out = io.StringIO()
    logs.set_up("registry", level="debug", form=form, stream=out)
    server = await start()
    raw = await Raw.to(server)
    raw.send(head.encode("latin-1"))
    assert b" 400 " in await raw.rest()
    assert SECRET not in out.getvalue()
    assert "Traceback" not in out.getvalue()


async def test_a_malformed_head_is_still_told_of(start: Serve, restored_logging: None) -> None:
    out = io.StringIO()
    logs.set_up("registry", form="json", stream=out)
    raw = await Raw.to(await start())
    raw.send(MALFORMED[0].encode("latin-1"))
    await raw.rest()
    assert "malformed request" in out.getvalue()
    assert logging.getLogger("aiohttp.access").disabled


async def test_a_session_takes_no_proxy_and_keeps_no_cookies(
    start: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = await start()
    async with http.client() as client:
        async with client.get(f"{server.url}/health") as answer:
            assert answer.status == 200
        assert isinstance(client.cookie_jar, aiohttp.DummyCookieJar)


async def test_a_call_that_failed_is_told_without_inner_detail() -> None:
    async with http.client() as session:
        with pytest.raises(aiohttp.ClientError) as refused:
            await session.get(f"http://127.0.0.1:{free_port()}/")
    assert http.why_failed(refused.value) == "connection refused"
    assert http.why_failed(TimeoutError()) == "no answer in time"
    assert http.why_failed(OSError(104, "x")) == "connection reset by peer"
    both = OSError("Multiple exceptions: [Errno 111] ('::1', 1), [Errno 111] ('127.0.0.1', 1)")
    assert http.why_failed(aiohttp.ClientConnectorError(None, both)) == "connection refused"  # type: ignore[arg-type]
    assert http.why_failed(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("POST", "http://evil.test", 403),
        ("POST", "null", 403),
        ("POST", None, 200),
        ("POST", "http://{own}", 200),
        ("GET", "http://evil.test", 200),
    ],
)
async def test_a_web_page_of_another_origin_changes_nothing(
    start: Serve, method: str, origin: str | None, status: int
) -> None:
    async def done(_: web.Request) -> web.Response:
        return http.json_response({})

    app = http.application()
    app.router.add_route("*", "/x", done)
    server = await start(app)
    own = server.url.removeprefix("http://")
    headers = {} if origin is None else {"Origin": origin.format(own=own)}
    async with (
        http.client() as client,
        client.request(method, f"{server.url}/x", headers=headers) as answer,
    ):
        assert answer.status == status
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_a_compressed_body_is_refused_unread(start: Serve) -> None:
    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await http.read_body(request))

    app = http.application()
    app.router.add_post("/x", read)
    server = await start(app)
    sent = gzip.compress(b"{}" * 1000)
    async with (
        http.client() as client,
        client.post(f"{server.url}/x", data=sent, headers={"Content-Encoding": "gzip"}) as answer,
    ):
        assert answer.status == 415
