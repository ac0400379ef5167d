"""A relay on a free port of this loop, raw upstreams that follow a script, raw clients.

Bytes go in and out by hand, so that a test reads as a transcript. At the end of every `serving`
block what was handed out is counted: in flight, connections, bodies.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from common import clock, http
from router import static
from router.brain import Brain
from router.config import Config, Limits, Timeouts
from router.outcome import Outcome
from router.plan import Plan
from router.seam import End
from router.server import Relay, serve_relay
from tests.support.until import until

Script = Callable[["Talk"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHAT = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","stream":true,"messages":[]}'


class Talk:
    """One connection to an upstream, from the upstream's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        #: Heads and bodies of the requests, as they came.
        self.requests: list[tuple[bytes, bytes]] = []

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: its head, its body. Raises IncompleteReadError when it has left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        count = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                count = int(line.split(b":")[1])
        body = await self.reader.readexactly(count)
        self.requests.append((head, body))
        return head, body

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def left(self) -> bool:
        """Waits until the relay has closed its end."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        return True

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


class Upstream:
    """Runs `script` for each connection. `talks` are all there were."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.talks: list[Talk] = []
        self.port = 0
        self.closed = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def requests(self) -> list[tuple[bytes, bytes]]:
        return [request for talk in self.talks for request in talk.requests]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        talk = Talk(reader, writer)
        self.talks.append(talk)
        try:
            await self.script(talk)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.closed += 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def always(answer: bytes) -> Script:
    """Every request gets these bytes; the connection is kept."""

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(answer)

    return script


def once(answer: bytes) -> Script:
    """The first request gets these bytes, then the connection closes."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer)

    return script


def events(*texts: bytes, done: bytes = b"data: [DONE]\n\n") -> bytes:
    """A whole event stream, each event in a chunk."""
    out = SSE
    for text in (*texts, done):
        if text:
            out += b"%x\r\n%b\r\n" % (len(text), text)
    return out + b"0\r\n\r\n"


class Rig:
    def __init__(self, relay: Relay, brain: Brain, port: int, upstreams: list[Upstream]) -> None:
        self.relay = relay
        self.brain = brain
        self.port = port
        self.upstreams = upstreams
        self.ends: list[tuple[Plan, End]] = []

    @property
    def outcomes(self) -> list[Outcome]:
        return [end.outcome for _, end in self.ends]

    async def client(self) -> "Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Client(reader, writer)

    async def ask(self, data: bytes) -> bytes:
        """Send these bytes on a connection of their own; everything until the relay closes."""
        client = await self.client()
        try:
            client.writer.write(data)
            return await client.rest()
        finally:
            await client.close()

    async def post(
        self, path: str, body: bytes, *headers: bytes, method: bytes = b"POST"
    ) -> "Answer":
        client = await self.client()
        try:
            client.send(path, body, *headers, method=method)
            return await client.answer(method)
        finally:
            await client.close()

    def skip(self, seconds: float) -> None:
        """Whatever will be too late in so many seconds is so now; nothing else gets older."""
        self.relay._sweep_clients(clock.monotonic() + seconds)

    async def quiet(self) -> None:
        await until(lambda: self.relay.in_flight == 0)


class Answer:
    def __init__(self, head: bytes, body: bytes, raw: bytes) -> None:
        self.raw = raw
        self.head = head
        self.body = body
        self.status = int(head.split(b" ", 2)[1])
        self.headers: dict[str, str] = {}
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            if name:
                self.headers[name.lower()] = value.strip()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, path: str, body: bytes = b"", *headers: bytes, method: bytes = b"POST") -> None:
        lines = [b"%b %b HTTP/1.1" % (method, path.encode()), b"Host: test", *headers]
        if body:
            lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
        self.writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, method: bytes = b"POST") -> Answer:
        """One answer, by its framing."""
        head = await self.head()
        lower = head.lower()
        if method == b"HEAD" or lower.startswith((b"http/1.1 204", b"http/1.1 304")):
            return Answer(head, b"", head)
        if b"transfer-encoding: chunked" in lower:
            raw, body = await self.chunks()
            return Answer(head, body, head + raw)
        if b"content-length:" in lower:
            count = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            body = await self.reader.readexactly(count)
            return Answer(head, body, head + body)
        body = await self.rest()
        return Answer(head, body, head + body)

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> tuple[bytes, bytes]:
        raw, body = bytearray(), bytearray()
        while True:
            line = await self.reader.readuntil(b"\r\n")
            size = int(line, 16)
            data = await self.reader.readexactly(size + 2)
            raw += line + data
            if not size:
                return bytes(raw), bytes(body)
            body += data[:-2]

    async def rest_of_chunks(self) -> bytes:
        return (await self.chunks())[1]

    async def rest(self) -> bytes:
        """Until the relay closes. A reset raises ConnectionResetError."""
        return await asyncio.wait_for(self.reader.read(), 30)

    def leave(self) -> None:
        """A FIN, as a client sends that has gone."""
        self.writer.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def config(**changes: Any) -> Config:
    """A config without registry. `timeouts` and `limits` are given as dicts; `named` are its
    [models] entries. Connections are given more time than a machine stands still."""
    models = changes.pop("named", {})
    timeouts = Timeouts(**{"connect_s": 30, "upstream_idle_s": 60, **changes.pop("timeouts", {})})
    limits = Limits(**changes.pop("limits", {}))
    return Config(registries=(), models=models, timeouts=timeouts, limits=limits, **changes)


@contextlib.asynccontextmanager
async def serving(
    *scripts: Script | int,
    models: tuple[str, ...] = ("m",),
    control: web.Application | None = None,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """A relay with an upstream per script; an int is a port where nobody listens."""
    settings = config(**changes)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, fault: faults.append(fault))
    brain = Brain(settings, random.Random(1).random)
    brain.cache.soon = asyncio.get_running_loop().call_soon
    upstreams: list[Upstream] = []
    items = []
    for number, script in enumerate(scripts):
        port = script if isinstance(script, int) else 0
        if not isinstance(script, int):
            upstream = Upstream(script)
            await upstream.start()
            upstreams.append(upstream)
            port = upstream.port
        items.append(
            static.Item(
                name=f"up-{number}",
                host="127.0.0.1",
                port=port,
                weight=1,
                metadata={"type": "openai-api", "models": list(models)},
            )
        )
    brain.apply(static.services(items), source="static")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    handed = None if control is None else await http.serve(control)
    relay = await serve_relay([listener], brain, settings, handed)
    rig = Rig(relay, brain, listener.getsockname()[1], upstreams)

    def ended(plan: Plan, end: End) -> None:
        rig.ends.append((plan, end))

    brain.log = ended
    try:
        yield rig
        await until(lambda: relay.in_flight == 0)
        assert relay.in_flight == 0, "requests in flight"
        # A thread may still be reading the file of a body that was given up.
        await until(lambda: (relay.bodies.memory, relay.bodies.disk) == (0, 0), what="bodies")
        assert all(u.node.in_flight == 0 for u in brain.table.upstreams.values()), "upstreams"
        assert all(state.in_flight == 0 and state.queued == 0 for state in brain.states())
        assert brain.cache.room.used == 0, "answers that were collected"
        assert len(brain.cache.flights) == 0, "requests that others would wait for"
        # One that was dropped is told so in the loop's next turn.
        await until(
            lambda: len(relay.pool.open) == relay.pool.kept,
            what="no connection is neither used nor kept",
        )
        assert faults == []
    finally:
        await relay.close()
        assert not relay.pool.open
        if handed is not None:
            await handed.close(timeout_s=0.1)
        for upstream in upstreams:
            await upstream.close()


def splits(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` in pieces, cut at these positions."""
    last = 0
    for cut in sorted({c % (len(data) + 1) for c in cuts}):
        if cut > last:
            yield data[last:cut]
            last = cut
    if last < len(data):
        yield data[last:]
