"""One client's connection: bytes in, jobs done one after another, bytes out.

    idle ──first byte──▶ RECEIVING ──complete──▶ QUEUED ──room──▶ WAITING ──first write──▶ STREAMING
      ▲                                        (plain answers without faults skip to the end)  │
      └────────────────────────────── answered whole, kept alive ──────────────────────────────┘

A client that leaves (FIN or RST) is noticed in every phase, since reading never pauses while a job
is at work; only the fault `slow-read` breaks that, as a busy engine would.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import cast

import httptools

from babysitter.mock import script, shapes
from babysitter.mock.answers import Plain, Request
from babysitter.mock.engine import Engine, Job
from babysitter.mock.faults import HEADER_PREFIX, NO_FAULTS
from babysitter.mock.gate import Entry
from babysitter.mock.script import Action, End, Framing, Wait
from babysitter.mock.settings import BODY_BYTES_MAX
from babysitter.mock.stats import Phase
from babysitter.mock.websocket import Echo, accept_key
from common import clock
from common.tasks import spawn

#: Requests that may wait behind one that is being answered. More is no client of ours.
PIPELINED_MAX = 16
#: So that what was written before an RST arrives before it.
RESET_PAUSE_S = 0.01
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    def __init__(self, engine: Engine, open_connections: "set[Connection]") -> None:
        self._engine = engine
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._drained: asyncio.Future[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._served = 0
        # the request being received
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._asked: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._read_bytes_s: int | None = None
        # the request being answered
        self._phase: Phase | None = None
        self._job: Job | None = None
        self._request: Request
        self._task: asyncio.Task[None] | None = None
        self._echo: Echo | None = None
        self._pending: deque[tuple[Request, list[tuple[bytes, bytes]], bool]] = deque()

    # ---- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)
        self._engine.stats.connected()
        self._rest()

    def data_received(self, data: bytes) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._echo is not None:
            self._relay_back(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(400, f"not HTTP: {error}")
        else:
            if self._read_bytes_s and self._phase is Phase.RECEIVING:
                self._breathe(len(data) / self._read_bytes_s)

    def eof_received(self) -> bool:
        """A FIN: the client has left, as far as an engine can tell."""
        if self._job is not None:
            self._transport.abort()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self)
        self._engine.stats.connections_open -= 1
        if self._idle is not None:
            self._idle.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._job is not None:
            self._left(self._job)
        elif self._phase is Phase.RECEIVING:
            self._engine.stats.aborted(Phase.RECEIVING, "", clock.monotonic())
            self._phase = None
        self._pending.clear()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # ---- what the parser tells

    def on_message_begin(self) -> None:
        self._target, self._headers, self._asked = b"", [], []
        self._body, self._body_bytes, self._read_bytes_s = [], 0, None
        if self._job is None:
            self._phase = Phase.RECEIVING

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._headers.append((name, value))
        if name.startswith(HEADER_PREFIX):
            self._asked.append((name, value))

    def on_headers_complete(self) -> None:
        for name, value in self._headers:
            if name == b"expect" and value.lower() == b"100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._asked or self._engine.standing:
            path = self._target.partition(b"?")[0].decode("latin-1")
            self._read_bytes_s = self._engine.slow_read(path, self._asked)

    def on_body(self, part: bytes) -> None:
        self._body_bytes += len(part)
        if self._body_bytes > BODY_BYTES_MAX:
            self._body.clear()
            self._refuse(413, f"the body has more than {BODY_BYTES_MAX} bytes")
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        if self._transport.is_closing():  # refused before it was complete
            return
        parser = self._parser
        request = Request(
            method=parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=self._headers,
            body=b"".join(self._body),
            keep_alive=parser.should_keep_alive(),
            http10=parser.get_http_version() == "1.0",
        )
        self._body = []
        upgrade = (request.header(b"upgrade") or "").lower() == "websocket"
        if self._job is None:
            self._begin(request, self._asked, upgrade)
        elif len(self._pending) < PIPELINED_MAX:
            self._pending.append((request, self._asked, upgrade))
        else:
            self._transport.abort()

    # ---- a job's way

    def _begin(self, request: Request, asked: list[tuple[bytes, bytes]], upgrade: bool) -> None:
        engine = self._engine
        job = engine.decide_websocket(request) if upgrade else engine.decide(request, asked)
        self._request = request
        self._job = job
        if job.control:
            self._phase = Phase.WAITING
            self._start()
            return
        entry = engine.gate.enter(self)
        engine.loaded()
        if entry is Entry.RUNNING:
            self._phase = Phase.WAITING
            self._start()
        elif entry is Entry.QUEUED:
            self._phase = Phase.QUEUED
        else:
            body = shapes.error(429, "too many requests wait already", code="rate_limit_exceeded")
            job.answer, job.control = Plain(429, body), True
            self._phase = Phase.WAITING
            self._start()

    def admitted(self) -> None:
        """The gate has let this job in. Soon, since a long queue must not be a deep stack."""
        self._phase = Phase.WAITING
        asyncio.get_running_loop().call_soon(self._start_if_there)

    def _start_if_there(self) -> None:
        if self._phase is Phase.WAITING:
            self._start()

    def _start(self) -> None:
        job = cast(Job, self._job)
        request = self._request
        answer = job.answer
        self._engine.stats.by_status[answer.status] += 1
        if answer.status == 101:
            self._upgrade()
            return
        framing = Framing(
            self._engine.name,
            request.keep_alive,
            request.http10,
            request.method == "HEAD" or answer.status in (204, 304),
        )
        if job.faults is NO_FAULTS and type(answer) is Plain:
            self._transport.write(script.plain_bytes(answer, framing))
            self._done("done")
        elif job.faults.drop_reused and self._served:
            self._done("dropped", keep=False)
        else:
            actions = script.script(answer, job.faults, framing)
            self._task = spawn(self._play(actions), name="mock-play")

    async def _play(self, actions: Iterator[Action]) -> None:
        transport, stats = self._transport, self._engine.stats
        for action in actions:
            if isinstance(action, bytes):
                self._phase = Phase.STREAMING
                transport.write(action)
                stats.events += 1
                # also yields to the loop, so that endless answers starve nobody
                await (self._drained or asyncio.sleep(0))
            elif isinstance(action, Wait):
                await asyncio.sleep(action.seconds)
            else:
                await self._end(action)
                return
        self._task = None
        self._done("done")

    async def _end(self, end: End) -> None:
        stats = self._engine.stats
        stats.faulted += 1
        match end:
            case End.HANG:
                await asyncio.get_running_loop().create_future()  # until the client leaves
            case End.RESET:
                await asyncio.sleep(RESET_PAUSE_S)
                self._task = None
                sock = self._transport.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                self._done("reset", keep=False)
                self._transport.abort()
            case End.CLOSE:
                self._task = None
                self._done("closed", keep=False)
            case End.EXIT:
                await asyncio.sleep(RESET_PAUSE_S)
                os._exit(1)

    def _done(self, outcome: str, keep: bool = True) -> None:
        job = cast(Job, self._job)
        self._served += 1
        if outcome == "done":
            self._engine.stats.completions += not job.control
        self._release(job, outcome)
        if not keep or not self._request.keep_alive:
            self._transport.close()
        elif self._pending:
            self._begin(*self._pending.popleft())
        else:
            self._rest()

    def _left(self, job: Job) -> None:
        """The client has left before its answer was whole."""
        phase = self._phase or Phase.WAITING
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if not job.control:
            self._engine.stats.aborted(phase, job.id, clock.monotonic())
        if phase is Phase.QUEUED:
            self._engine.gate.give_up(self)
            self._engine.loaded()
            self._job = self._phase = None
            self._engine.ended(job, "aborted-queued")
        else:
            self._release(job, f"aborted-{phase}")

    def _release(self, job: Job, outcome: str) -> None:
        self._job = self._phase = None
        if job.control:
            return
        engine = self._engine
        engine.ended(job, outcome)
        successor = engine.gate.leave()
        engine.loaded()
        if successor is not None:
            successor.admitted()

    def _rest(self) -> None:
        """Idle from now on."""
        after_ms = self._engine.settings.idle_close_ms
        if after_ms:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(after_ms / 1000, self._transport.close)

    # ---- WebSocket

    def _upgrade(self) -> None:
        key = self._request.header(b"sec-websocket-key") or ""
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\nx-mock-name: %b\r\n\r\n"
            % (accept_key(key), self._engine.name)
        )
        self._phase = Phase.STREAMING
        self._echo = Echo()

    def _upgraded(self, data: bytes) -> None:
        """The parser has stopped: what follows is the new protocol's, or nothing we speak."""
        if self._echo is not None:
            self._relay_back(data)
        elif data:
            self._transport.close()

    def _relay_back(self, data: bytes) -> None:
        echo = cast(Echo, self._echo)
        answer = echo.feed(data)
        if answer:
            self._transport.write(answer)
        if echo.closed and self._job is not None:
            self._done("done", keep=False)

    # ---- the rest

    def _breathe(self, seconds: float) -> None:
        """Read nothing for a while: what `slow-read` asks for."""
        self._transport.pause_reading()

        def resume() -> None:
            if not self._transport.is_closing():
                self._transport.resume_reading()

        asyncio.get_running_loop().call_later(seconds, resume)

    def _refuse(self, status: int, text: str) -> None:
        """No request was understood: answer and close."""
        if self._transport.is_closing():
            return
        if self._job is None:
            answer = Plain(status, shapes.error(status, text))
            framing = Framing(self._engine.name, keep_alive=False)
            self._transport.write(script.plain_bytes(answer, framing))
        self._phase = None
        self._transport.close()

    def stop(self) -> None:
        """The engine ends: so does this connection, wherever it is."""
        self._transport.abort()
