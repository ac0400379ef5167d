"""A client's connection: requests come in one after another, each whole before it is acted on.

    head ─▶ body ─▶ queue ─▶ current (an Exchange) ─▶ answer ─▶ next, or close
      └── 400, 408, 413, 417, 431 … ─▶ what came before is answered, then this; linger, close
    a control path ─▶ handed to aiohttp for good       an upgraded connection ─▶ tunnel

While a request is current, what arrives waits unparsed, up to pipelined_bytes_max: reading never
pauses, so that a departure is noticed at once. A FIN is a departure (half_close = "answer": only a
lost connection is).
"""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from router import errors
from router.crowd import household
from router.errors import Problem, invalid
from router.head import Head, status_line
from router.inbound import BODY_LATE, HEAD_LATE, NEVER, Inbound, Incoming
from router.route import Kind

if TYPE_CHECKING:
    from router.gateway import Exchange
    from router.server import Relay

#: How long, and for how many bytes, a refused client is listened to, so that it can read why.
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20
_RESET = struct.pack("ii", 1, 0)


class Tunnel(Protocol):
    def from_client(self, data: bytes) -> None: ...

    def client_lost(self) -> None: ...

    def client_paused(self) -> None: ...

    def client_resumed(self) -> None: ...

    def timed_out(self, now: float) -> None: ...

    def close(self) -> None: ...


class Client(Inbound):
    def __init__(self, state: "Relay") -> None:
        super().__init__(state)
        self.peer = ""
        #: What its connections are counted under; empty where they are not.
        self.address = ""
        #: A proxy whose word about its clients is taken.
        self.trusted = False
        #: X-Forwarded-For and -Proto, as this connection's upstream requests say them.
        self.forwarded = b""
        self.current: Exchange | None = None
        self.tunnel: Tunnel | None = None
        #: The transport's buffer towards the client is full.
        self.paused = False
        #: No further request on this connection.
        self.closing = False
        self.eof = False
        self._linger = -1
        #: What was not taken yet, when that was last looked at.
        self._unsent = NEVER
        self._proceeding = False

    # --- what the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        state = self.state
        limits = state.limits
        if len(state.clients) >= limits.connections_max:
            self._turn_away("all")
            return
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.trusted = state.trusts(self.peer)
        if limits.connections_per_address_max and self.peer and not self.trusted:
            address = household(self.peer)
            if not state.crowd.enter(address, limits.connections_per_address_max):
                self._turn_away("address")
                return
            self.address = address
        state.clients.add(self)
        self.forwarded = (
            f"X-Forwarded-For: {self.peer or 'unknown'}\r\nX-Forwarded-Proto: {state.scheme}\r\n"
        ).encode("latin-1")
        self.deadline = state.now() + state.timeouts.keep_alive_s

    def _turn_away(self, why: str) -> None:
        """Too many. As cheaply as can be: it is not read, and never heard of again."""
        self.closed = True
        self.state.crowd.refused[why] += 1
        self.transport.write(_TURNED_AWAY)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.current is not None or self._queue or self.tunnel is not None or self.paused:
            if self.tunnel is not None:
                self.tunnel.from_client(data)
            else:
                self._hold(data)
        elif self._linger >= 0:
            self._linger -= len(data)
            if self._linger < 0:
                self.abort()
        elif not self.closed:
            self._feed(data)
            if self._queue or self._refusal is not None or self._continue:
                self.proceed()

    def _hold(self, data: bytes) -> None:
        """Bytes that were sent ahead. Too many, and the client is taken for one that floods."""
        if self._refusal is not None or self.closing:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > self.state.limits.pipelined_bytes_max:
            self.abort()

    def eof_received(self) -> bool:
        """True keeps the connection open for writing."""
        self.eof = True
        if self.tunnel is not None or (self.current is None and not self._queue):
            return False
        if self.state.half_close == "answer":
            self.closing = not (self._queue or self._pending)
            return True
        # Not left to `close`, which would first wait until what was written has been taken.
        self.transport.abort()
        current, self.current = self.current, None
        if current is not None:
            current.client_left()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.deadline = NEVER
        state = self.state
        self.forget()
        tunnel, current = self.tunnel, self.current
        self.tunnel = self.current = None
        if tunnel is not None:
            tunnel.client_lost()
        elif current is not None:
            current.client_left()
        if self.incoming is not None:
            self.incoming.body.release()
            self.incoming = None
        for waiting in self._queue:
            waiting.body.release()
        self._queue.clear()
        self._pending.clear()
        state.client_gone()

    def forget(self) -> None:
        """It is gone, or another's."""
        self.state.clients.discard(self)
        if self.address:
            self.state.crowd.leave(self.address)
            self.address = ""

    def pause_writing(self) -> None:
        self.paused = True
        if self.tunnel is not None:
            self.tunnel.client_paused()
        else:
            self._unsent = self.transport.get_write_buffer_size()
            self.deadline = self.state.now() + self.state.timeouts.write_idle_s
            if self.current is not None:
                self.current.client_paused()

    def resume_writing(self) -> None:
        self.paused = False
        if self.tunnel is not None:
            self.tunnel.client_resumed()
        elif self.current is not None:
            self.current.client_resumed()
        else:
            self._idle()
            self.proceed()

    # --- refusing -------------------------------------------------------------------------------

    def _write_refusal(self, problem: Problem) -> None:
        id_ = self._refused_id
        body = errors.body(
            problem,
            self._refused_family,
            plain=self.state.plain_errors,
            request_id=id_.decode("latin-1"),
        )
        if not self.transport.is_closing():
            id_line = b"x-request-id: %b\r\n" % id_
            self.transport.write(problem_head(problem, len(body), id_line, True) + body)
        self.linger()

    def linger(self) -> None:
        """Close for writing, and read on for a moment: a close with unread bytes would reset the
        connection, and the client would never see why."""
        self.closing = True
        self._linger = _LINGER_BYTES
        self._unsent = NEVER
        self.deadline = self.state.now() + _LINGER_S
        if self.eof or not self.transport.can_write_eof():
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()

    # --- going on -------------------------------------------------------------------------------

    def proceed(self) -> None:
        """Start what can be started; parse what waited."""
        if self._proceeding:
            return
        self._proceeding = True
        try:
            while self.current is None and not self.paused and not self.closed:
                if self.closing:
                    break
                if self._queue:
                    self._start(self._queue.popleft())
                elif self._refusal is not None:
                    self._write_refusal(self._refusal)
                elif self._pending:
                    data = self._pending.pop(0)
                    self._pending_bytes -= len(data)
                    self._feed(data)
                else:
                    if self._continue:
                        self._continue = False
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    break
        finally:
            self._proceeding = False

    def _start(self, incoming: Incoming) -> None:
        kind = incoming.route.kind
        state = self.state
        if kind is Kind.RELAY and incoming.head.path != "*":
            state.start(self, incoming)
        elif incoming.head.path == "*":
            incoming.body.release()
            self._answer_options(incoming.head)
        elif state.control is None or (kind is Kind.OPERATOR and state.control_elsewhere):
            self.answer_problem(incoming, _NOT_HERE)
        else:
            state.hand_over(self, incoming, b"".join(self._pending))

    def _answer_options(self, head: Head) -> None:
        self.closing = head.wants_close or self.state.draining
        self.transport.write(
            b"HTTP/1.1 204 No Content\r\n"
            b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
            + (b"connection: close\r\n\r\n" if self.closing else b"\r\n")
        )
        self.answered(self.state.now())

    def answer_problem(self, incoming: Incoming, problem: Problem) -> None:
        """The router's own answer to a request that never became an Exchange."""
        head = incoming.head
        incoming.body.release()
        self.closing = head.wants_close or self.state.draining
        id_ = self.state.refused(problem, incoming.started, head.id)
        body = errors.body(
            problem,
            incoming.route.family,
            plain=self.state.plain_errors,
            request_id=id_.decode("latin-1"),
        )
        id_line = b"x-request-id: %b\r\n" % id_
        self.transport.write(
            problem_head(problem, len(body), id_line, self.closing, head.http10)
            + (b"" if head.method == "HEAD" else body)
        )
        self.answered(self.state.now())

    def answered(self, now: float) -> None:
        """The current answer was written whole: close, or take the next request."""
        self.current = None
        if self.closed:
            return
        state = self.state
        # Handing on, an answer that announced no close leaves its connection to the successor.
        last = not self._queue and (
            (state.draining and state.heir is None) or (self.eof and not self._pending)
        )
        if self.closing or last:
            self.closing = True
            self.linger()
            return
        if not self.paused:
            self.deadline = now + state.timeouts.keep_alive_s
        if self.incoming is not None:
            self.deadline = self.body_deadline(self.incoming)
        if self._queue or self._pending or self._refusal is not None or self._continue:
            self.proceed()

    def _idle(self) -> None:
        self.deadline = self.state.now() + (
            self.state.timeouts.keep_alive_s if self._linger < 0 else _LINGER_S
        )

    def take_pending(self) -> bytes:
        """What was sent ahead, for the tunnel."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return data

    # --- ending ---------------------------------------------------------------------------------

    def timed_out(self, now: float) -> None:
        """The deadline has passed. Whose it was follows from what is going on."""
        self.deadline = NEVER
        if self.tunnel is not None:
            self.tunnel.timed_out(now)
        elif self.paused or self._linger >= 0:
            self._slow(now)
        elif self.current is not None:
            self.current.timed_out(now)
        elif self.incoming is not None:
            self.state.crowd.slow["body"] += 1
            self._refuse(BODY_LATE)
            self.proceed()
        elif self._head_bytes:
            self.state.crowd.slow["head"] += 1
            self._refuse(HEAD_LATE)
            self.proceed()
        else:
            self.transport.close()

    def _slow(self, now: float) -> None:
        """A client that still takes enough of what was written gets the time for it."""
        state = self.state
        left = self.transport.get_write_buffer_size()
        least = max(state.limits.client_bytes_per_s_min * state.timeouts.write_idle_s, 1)
        if left and self._unsent - left >= least:
            self._unsent = left
            self.deadline = now + state.timeouts.write_idle_s
            return
        if left:
            state.crowd.slow["answer"] += 1
        self.abort()

    def abort(self) -> None:
        """Cut the connection so that it cannot be taken for an end: a reset."""
        if self.closed:
            return
        current, self.current = self.current, None
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass
        self.transport.abort()
        if current is not None:
            current.client_left()

    def shut_down(self) -> None:
        """The drain time is over."""
        if self.tunnel is not None:
            # Its exchange is current still, but speaks HTTP no more.
            self.tunnel.close()
        elif self.current is not None:
            self.current.shut_down()
        self.transport.close()

    @property
    def idle(self) -> bool:
        """Nothing has begun: it may be closed at any time."""
        return (
            self.current is None
            and self.tunnel is None
            and self.incoming is None
            and not self._queue
            and not self._pending
            and not self._head_bytes
        )


_TOO_MANY = (
    b'{"error":{"message":"too many connections","type":"server_error","param":null,'
    b'"code":"overloaded"}}'
)
_TURNED_AWAY = (
    b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-creche-error: router\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n%b" % (status_line(503), len(_TOO_MANY), _TOO_MANY)
)
_NOT_HERE = invalid("control paths are not served on this port", status=404)


def problem_head(
    problem: Problem, count: int, id_line: bytes, close: bool, http10: bool = False
) -> bytes:
    """The head of the router's own answer. `id_line` is a whole line or empty."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in errors.headers(problem))
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
        status_line(problem.status),
        count,
        lines.encode("latin-1", "replace"),
        id_line,
        connection_line(close, http10),
    )


def connection_line(close: bool, http10: bool) -> bytes:
    if close:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if http10 else b""
