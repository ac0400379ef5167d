"""The limit that aiohttp's own ports lack: how long a request's head may take to arrive.

    connected ──▶ HEAD (head_timeout_s from the connect)
    HEAD ──its handler begins──▶ BUSY (no limit here: bodies and answers have their own)
    BUSY ──its handler ends──▶ IDLE (idle_timeout_s)
    IDLE ──a byte comes──▶ HEAD (head_timeout_s from that byte)

A thin protocol stands between the transport and aiohttp's and forwards everything. That a head is
complete is told by a middleware, which finds its connection through `transport.get_protocol()`:
so nothing is parsed twice and nothing private is touched.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_GRACE_S = 1.0  # for a last answer to be taken; then the connection is cut


class Limits(NamedTuple):
    """Of one port. Connections above `connections_max` get 503."""

    head_timeout_s: float
    idle_timeout_s: float
    connections_max: int


def _answer(status: str, body: str) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


_LATE = _answer(
    "408 Request Timeout", '{"error":"the head took too long to arrive","code":"timeout"}'
)
_FULL = _answer("503 Service Unavailable", '{"error":"too many connections","code":"overloaded"}')


class HeadLimit(asyncio.Protocol):
    """One connection: forwards to `inner`, keeps the clock."""

    def __init__(
        self, inner: asyncio.Protocol, limits: Limits, connections: "set[HeadLimit]"
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle = False
        self._handling = 0
        self._head_bytes = 0
        self._unsent = 0
        self._refused = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer is still on its way."""
        return self._handling > 0 or self._unsent_bytes() > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= self._limits.connections_max:
            self._refused = True
            self._last_words(_FULL)
            return
        self._connections.add(self)
        self._inner.connection_made(transport)
        self._arm(self._limits.head_timeout_s, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._handling == 0:
            self._head_bytes += len(data)
            if self._idle:
                self._idle = False
                self._arm(self._limits.head_timeout_s, self._head_is_late)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        if not self._refused:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if not self._refused:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._transport = None
        self._connections.discard(self)
        if not self._refused:
            self._inner.connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def request_began(self) -> None:
        """A head is complete."""
        self._handling += 1
        self._disarm()

    def request_ended(self) -> None:
        """Its handler has ended; the answer may still be on its way."""
        self._handling -= 1
        if self._handling == 0 and self._transport is not None:
            self._idle = True
            self._head_bytes = 0
            self._unsent = 0
            self._arm(self._limits.idle_timeout_s, self._idle_is_over)

    def abort(self) -> None:
        """Cut the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _arm(self, delay_s: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay_s, act)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        if self._head_bytes and not self._unsent_bytes():
            self._last_words(_LATE)
        else:
            self.abort()

    def _idle_is_over(self) -> None:
        """Close, unless an answer is still being taken, however slowly."""
        unsent = self._unsent_bytes()
        if unsent and unsent != self._unsent:
            self._unsent = unsent
            self._arm(self._limits.idle_timeout_s, self._idle_is_over)
        else:
            self.abort()

    def _unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _last_words(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)
            self._transport.close()
            self._arm(_GRACE_S, self.abort)


def watching() -> Middleware:
    """The outermost middleware of an application behind `HeadLimit`."""

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        protocol = transport.get_protocol() if transport is not None else None
        if not isinstance(protocol, HeadLimit):
            return await handler(request)
        protocol.request_began()
        try:
            return await handler(request)
        finally:
            protocol.request_ended()

    return watch
