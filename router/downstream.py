"""A client's connection: requests come in one after another, each whole before it is acted on.

    head ─▶ body ─▶ queue ─▶ current (an Exchange) ─▶ answer ─▶ next, or close
      └── 400, 408, 413, 417, 431 … ─▶ what came before is answered, then this; linger, close
    a control path ─▶ handed to aiohttp for good       an upgraded connection ─▶ tunnel

While a request is current, what arrives waits unparsed, up to pipelined_bytes_max: reading never
pauses, so that a departure is noticed at once. A FIN is a departure (half_close = "answer": only a
lost connection is).
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, NoReturn, Protocol

import httptools

from router import errors
from router.body import Body, FullError, TooLargeError
from router.errors import Problem, RequestError, invalid
from router.head import Head, Headers, Known, read_request, status_line
from router.route import Family, Kind, Route, resolve

if TYPE_CHECKING:
    from router.gateway import Exchange
    from router.server import Relay

NEVER = float("inf")
#: How long, and for how many bytes, a refused client is listened to, so that it can read why.
_LINGER_S = 2.0
_LINGER_BYTES = 64 << 20
_RESET = struct.pack("ii", 1, 0)


class _StopError(Exception):
    """Ends parsing from within a callback; the reason stands in `refusal`."""


class Incoming:
    """A request as it arrives. `started` is when its head was complete."""

    #: The parser stopped at an Upgrade, and the body is still to come.
    stopped = False

    def __init__(
        self,
        head: Head,
        route: Route,
        body: Body,
        started: float,
        length: int | None,
        headers: Headers,
    ) -> None:
        #: Shared by requests that say the same but for their length.
        self.head = head
        self.route = route
        self.body = body
        self.started = started
        #: Its Content-Length.
        self.length = length
        #: As they came, for aiohttp.
        self.headers = headers


class Tunnel(Protocol):
    def from_client(self, data: bytes) -> None: ...

    def client_lost(self) -> None: ...

    def client_paused(self) -> None: ...

    def client_resumed(self) -> None: ...

    def timed_out(self, now: float) -> None: ...

    def close(self) -> None: ...


class Client(asyncio.Protocol):
    def __init__(self, state: "Relay") -> None:
        self.state = state
        self.transport: asyncio.Transport
        self.peer = ""
        #: A proxy whose word about its clients is taken.
        self.trusted = False
        #: X-Forwarded-For and -Proto, as this connection's upstream requests say them.
        self.forwarded = b""
        #: Monotonic seconds; the sweep calls `timed_out` after it.
        self.deadline = NEVER
        self.current: Exchange | None = None
        self.tunnel: Tunnel | None = None
        self.incoming: Incoming | None = None
        #: The transport's buffer towards the client is full.
        self.paused = False
        #: No further request on this connection.
        self.closing = False
        self.closed = False
        self.eof = False
        #: What came of a body in this read. The parser appends to this very list.
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._parser = httptools.HttpRequestParser(self)
        self._headers: Headers = []
        self._target = b""
        self._head_bytes = 0
        self._queue: deque[Incoming] = deque()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._refusal: Problem | None = None
        #: The last head that may come again, and the request it began.
        self._known: tuple[Known, Incoming] | None = None
        #: The parser stands between two requests.
        self._between = True
        #: Requests whose head was complete in this read, and the last of them.
        self._heads = 0
        self._last: Incoming | None = None
        #: Body bytes still to come: for the parser, and after a head that needed none.
        self._outstanding = 0
        self._left = 0
        self._linger = -1
        #: What was not taken yet, when that was last looked at.
        self._unsent = NEVER
        self._continue = False
        self._proceeding = False
        self._reading_paused = False
        #: The parser is fed a head of our own.
        self._skipping = False

    # --- what the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        state = self.state
        if len(state.clients) >= state.limits.connections_max:
            self.closed = True
            transport.close()
            return
        state.clients.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.trusted = state.trusts(self.peer)
        self.forwarded = (
            f"X-Forwarded-For: {self.peer or 'unknown'}\r\nX-Forwarded-Proto: {state.scheme}\r\n"
        ).encode("latin-1")
        self.deadline = state.now() + state.timeouts.keep_alive_s

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

    def _feed(self, data: bytes) -> None:
        if self._left:
            self._counted(data)
            return
        if self._between:
            if self._known is not None and self._again(*self._known, data):
                return
            self._heads = 0
            self._outstanding = 0
        self._parse(data)
        if self._between:
            self._between = False
            if self._heads == 1:
                self._remember(data)
        elif self._outstanding > 0 and self._refusal is None:
            self._outstanding -= len(data)
            self._between = self._outstanding == 0

    def _remember(self, data: bytes) -> None:
        """One request began with this read: know where it ends, and its head if it comes again."""
        last = self._last
        if last is None or last.head.chunked or last.head.upgrades or self._refusal is not None:
            return
        end = data.find(b"\r\n\r\n") + 4
        outstanding = end + (last.length or 0) - len(data)
        if outstanding < 0 or data[0] <= 32:
            return
        self._outstanding = outstanding
        self._between = outstanding == 0
        if not (last.head.expects or last.head.wants_close):
            self._known = Known(data[:end]), last

    def _again(self, known: Known, like: Incoming, data: bytes) -> bool:
        """Whether the last head came again. The parser stays where it is: between two requests."""
        found = known.match(data)
        if found is None:
            return False
        length, end = found
        state = self.state
        incoming = self.incoming = Incoming(
            like.head, like.route, Body(state.bodies), state.now(), length, like.headers
        )
        if length:
            try:
                self._check_length(length)
            except _StopError:
                return True
            self._left = length
            if end < len(data):
                self._counted(data[end:])
            else:
                self.deadline = state.now() + state.timeouts.body_idle_s
        else:
            self._whole(incoming, data[end:])
        return True

    def _counted(self, data: bytes) -> None:
        """Body bytes of a request whose head needed no parser."""
        incoming = self.incoming
        assert incoming is not None
        left = self._left
        rest = b""
        if len(data) > left:
            rest, data = data[left:], data[:left]
        self._left = left = left - len(data)
        try:
            self._add(incoming.body, data)
        except _StopError:
            self._left = 0
            return
        if left:
            self.deadline = self.state.now() + self.state.timeouts.body_idle_s
        else:
            self._whole(incoming, rest)

    def _whole(self, incoming: Incoming, rest: bytes) -> None:
        self.incoming = None
        self.deadline = NEVER
        self._queue.append(incoming)
        if rest:
            self._pending.insert(0, rest)
            self._pending_bytes += len(rest)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgraded:
            self._after_upgrade(data[upgraded.args[0] :])
        except httptools.HttpParserCallbackError:
            if self._refusal is None:
                raise
        except httptools.HttpParserError as error:
            self._refuse(invalid(f"malformed request: {error}"))
        if self._parts and self.incoming is not None:
            with contextlib.suppress(_StopError):
                self._take_body(self.incoming, self._parts)
        if self._queue or self._refusal is not None:
            return
        if self.incoming is not None:
            self.deadline = self.state.now() + self.state.timeouts.body_idle_s
            return
        if not self._head_bytes:
            self.deadline = self.state.now() + self.state.timeouts.head_s
        self._head_bytes += len(data)
        if self._head_bytes > self.state.limits.head_bytes_max:
            self._refuse(_HEAD_TOO_LONG)

    def _after_upgrade(self, rest: bytes) -> None:
        """The parser stops after a head with an Upgrade. A websocket waits for its 101; any other
        upgrade is dropped: its body, if it has one, is still to come, and HTTP goes on."""
        parser = self._parser = httptools.HttpRequestParser(self)
        incoming = self.incoming
        if incoming is not None and incoming.stopped:
            head = incoming.head
            self._skipping = True
            parser.feed_data(
                b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
                if head.chunked
                else b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (incoming.length or 0)
            )
            self._skipping = False
            if rest:
                self._parse(rest)
        elif rest:
            self._pending.insert(0, rest)
            self._pending_bytes += len(rest)

    def eof_received(self) -> bool:
        """True keeps the connection open for writing."""
        self.eof = True
        if self.tunnel is not None or (self.current is None and not self._queue):
            return False
        if self.state.half_close == "answer":
            self.closing = not self._queue
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
        state.clients.discard(self)
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

    def pause_writing(self) -> None:
        self.paused = True
        if self.tunnel is not None:
            self.tunnel.client_paused()
        else:
            self._unsent = NEVER
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

    # --- what the parser calls ------------------------------------------------------------------

    def on_url(self, fragment: bytes) -> None:
        if self._skipping:
            return
        self._target += fragment

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.incoming is None:
            self._headers.append((name, value))
            return
        if self._skipping:
            return
        # A trailer: dropped, but not endless.
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self.state.limits.head_bytes_max:
            self._stop(_HEAD_TOO_LONG)

    def on_headers_complete(self) -> None:
        if self._skipping:
            return
        state = self.state
        headers = self._headers
        parser = self._parser
        target = self._target
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > state.limits.head_bytes_max:
            self._stop(_HEAD_TOO_LONG)
        try:
            head = read_request(
                parser.get_method(), target, parser.get_http_version(), headers, state.host
            )
        except RequestError as error:
            self._stop(error.problem)
        length = head.content_length
        self.incoming = self._last = Incoming(
            head,
            resolve(head.method, head.path),
            Body(state.bodies),
            state.now(),
            length,
            headers,
        )
        self._heads += 1
        self._head_bytes = 0
        head.upgrades = parser.should_upgrade()
        if length:
            self._check_length(length)
        if head.expects and (head.chunked or length):
            self._continue = True

    def _check_length(self, length: int) -> None:
        limits = self.state.limits
        if length > limits.body_bytes_max:
            self._stop(_too_large(limits.body_bytes_max))
        if not self.state.bodies.fits(length):
            self._stop(_FULL)

    def _take_body(self, incoming: Incoming, parts: list[bytes]) -> None:
        try:
            for part in parts:
                self._add(incoming.body, part)
        finally:
            parts.clear()

    def _add(self, body: Body, data: bytes) -> None:
        try:
            body.add(data)
        except TooLargeError:
            self._stop(_too_large(self.state.limits.body_bytes_max))
        except (FullError, OSError):
            self._stop(_FULL)
        if body.on_disk and body.on_backlog is None:
            body.on_backlog = self._backlog

    def on_message_complete(self) -> None:
        incoming = self.incoming
        if incoming is None:
            return
        if self._parts:
            self._take_body(incoming, self._parts)
        head = incoming.head
        if not incoming.stopped and head.upgrades and (head.chunked or incoming.length):
            incoming.stopped = True
            return
        self.incoming = None
        self._continue = False
        self.deadline = NEVER
        self._head_bytes = 0
        self._headers = []
        self._target = b""
        self._queue.append(incoming)

    def _backlog(self, too_long: bool) -> None:
        """The disk is slower than the client: nothing is in flight for it yet, so it may wait."""
        if too_long is self._reading_paused or self.closed:
            return
        self._reading_paused = too_long
        if too_long:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # --- refusing -------------------------------------------------------------------------------

    def _stop(self, problem: Problem) -> NoReturn:
        self._refuse(problem)
        raise _StopError

    def _refuse(self, problem: Problem) -> None:
        """Answer this after what came before, then close."""
        self._refusal = problem
        incoming, self.incoming = self.incoming, None
        self._pending.clear()
        self._continue = False
        self.deadline = NEVER
        if incoming is None:
            self.state.refused(problem.status, self.state.now())
        else:
            incoming.body.release()
            self.state.refused(problem.status, incoming.started)

    def _write_refusal(self, problem: Problem) -> None:
        family = Family.CHAT
        body = errors.body(problem, family, plain=self.state.plain_errors)
        if not self.transport.is_closing():
            self.transport.write(problem_head(problem, len(body), b"", True) + body)
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
        body = errors.body(problem, incoming.route.family, plain=self.state.plain_errors)
        self.transport.write(
            problem_head(problem, len(body), b"", self.closing, head.http10)
            + (b"" if head.method == "HEAD" else body)
        )
        self.state.refused(problem.status, incoming.started)
        self.answered(self.state.now())

    def answered(self, now: float) -> None:
        """The current answer was written whole: close, or take the next request."""
        self.current = None
        if self.closed:
            return
        if self.closing or (self.state.draining and not self._queue):
            self.closing = True
            self.linger()
            return
        if not self.paused:
            self.deadline = now + self.state.timeouts.keep_alive_s
        if self.incoming is not None:
            self.deadline = now + self.state.timeouts.body_idle_s
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
            self._refuse(_BODY_LATE)
            self.proceed()
        elif self._head_bytes:
            self._refuse(_HEAD_LATE)
            self.proceed()
        else:
            self.transport.close()

    def _slow(self, now: float) -> None:
        """A client that still takes what was written gets the time for it."""
        left = self.transport.get_write_buffer_size()
        if 0 < left < self._unsent:
            self._unsent = left
            self.deadline = now + self.state.timeouts.write_idle_s
        else:
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
        if self.current is not None:
            self.current.shut_down()
        elif self.tunnel is not None:
            self.tunnel.close()
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


def _too_large(limit: int) -> Problem:
    return invalid(f"the body is larger than body_bytes_max ({limit} bytes)", status=413)


_HEAD_TOO_LONG = invalid("the request's head is longer than head_bytes_max", status=431)
_HEAD_LATE = invalid("the request's head took too long", status=408)
_BODY_LATE = invalid("the request's body stalled", status=408)
_FULL = Problem(503, "no room for the request's body now", "overloaded", retry_after_s=1)
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
