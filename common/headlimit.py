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
from typing import NamedTuple, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: 58\r\n"
    b'Connection: close\r\n\r\n{"error":"the head took too long to arrive","code":"timeout"}'
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 52\r\n"
    b'Connection: close\r\nRetry-After: 1\r\n\r\n{"error":"too many connections","code":"overloaded"}'
)
_GRACE_S = 1.0  # for a last answer to be taken; then the connection is cut


class Limits(NamedTuple):
    head_timeout_s: float
    idle_timeout_s: float
    connections_max: int


class HeadLimit(asyncio.Protocol):
    """One connection: forwards to `inner`, keeps the clock."""

    def __init__(
        self, inner: asyncio.Protocol, limits: Limits, connections: "set[HeadLimit]"
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handling = 0
        self._bytes_since_idle = 0
        self._buffered = 0
        self._refused = False

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer still being sent."""
        unsent = self._transport is not None and self._transport.get_write_buffer_size() > 0
        return self._handling > 0 or unsent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= self._limits.connections_max:
            self._refused = True
            self._last_words(_FULL)
            return
        self._connections.add(self)
        self._inner.connection_made(transport)
        self._arm(self._limits.head_timeout_s, self._head_late)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._handling == 0:
            if self._bytes_since_idle == 0:
                self._arm_head()
            self._bytes_since_idle += len(data)
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
        self._connections.discard(self)
        if not self._refused:
            self._inner.connection_lost(exc)

    def request_began(self) -> None:
        """A head is complete."""
        self._handling += 1
        self._disarm()

    def request_ended(self) -> None:
        """Its handler has ended; the answer may still be on its way."""
        self._handling -= 1
        self._bytes_since_idle = 0
        if self._handling == 0 and self._transport is not None:
            self._buffered = 0
            self._arm(self._limits.idle_timeout_s, self._idle)

    def abort(self) -> None:
        """Cut the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _arm_head(self) -> None:
        """From the first byte after idleness; the first head of all counts from the connect."""
        if self._timer is None or self._idle_armed:
            self._arm(self._limits.head_timeout_s, self._head_late)

    @property
    def _idle_armed(self) -> bool:
        return self._what is self._IDLE

    _IDLE = "idle"
    _HEAD = "head"
    _what = _HEAD

    def _arm(self, delay_s: float, act: object) -> None:
        self._disarm()
        loop = asyncio.get_running_loop()
        self._what = self._IDLE if act == self._idle else self._HEAD
        self._timer = loop.call_later(delay_s, act)  # type: ignore[arg-type]

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_late(self) -> None:
        if self._bytes_since_idle:
            self._last_words(_LATE)
        else:
            self.abort()

    def _idle(self) -> None:
        """Close, unless an answer is still being taken, however slowly."""
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._buffered:
            self._buffered = unsent
            self._arm(self._limits.idle_timeout_s, self._idle)
        else:
            self.abort()

    def _last_words(self, answer: bytes) -> None:
        assert self._transport is not None
        self._transport.write(answer)
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(_GRACE_S, self.abort)


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
