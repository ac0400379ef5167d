"""Bytes from a client become requests in a queue, each whole, or a refusal after those before it.

    bytes ─┬─ the last head again ─▶ body by count ─┬─▶ queue
           └─ parser ─▶ head ─▶ body ───────────────┘   anything wrong ─▶ `_refusal`, the last

Parser callbacks only record; what is wrong ends the parsing with _StopError.
"""

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, NoReturn

import httptools

from common import clock
from router.body import Body, FullError, TooLargeError
from router.errors import Problem, RequestError, invalid
from router.head import Head, Headers, Known, read_request, request_line
from router.keys.admission import admit
from router.route import Family, Kind, Route, resolve

if TYPE_CHECKING:
    from router.server import Relay

NEVER = float("inf")


#: Of others the head says what becomes of them.
_VERSIONS = ("1.1", "1.0")
_EMPTY_LINE = b"\r\n\r\n"


def _end_over(tail: bytes, data: bytes) -> int:
    """Where in `data` an empty line ends that began in `tail`; -1 for none."""
    found = (tail + data[:3]).find(_EMPTY_LINE)
    return -1 if found < 0 else found + 4 - len(tail)


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


def _too_large(limit: int) -> Problem:
    return invalid(f"the body is larger than body_bytes_max ({limit} bytes)", status=413)


_HEAD_TOO_LONG = invalid("the request's head is longer than head_bytes_max", status=431)
_BAD_LINE = invalid("the request line is not METHOD target HTTP/1.1")
HEAD_LATE = invalid("the request's head took too long", status=408)
BODY_LATE = invalid("the request's body stalled", status=408)
_FRAMING = invalid("the body's chunks are mostly framing")
#: A chunk of one byte has five of framing. Extensions are nobody's here, and have no other limit.
_FRAMING_PER_BYTE = 8
_FULL = Problem(503, "no room for the request's body now", "overloaded", retry_after_s=1)


class Inbound(asyncio.Protocol):
    def __init__(self, state: "Relay") -> None:
        self.state = state
        self.transport: asyncio.Transport
        self.closed = False
        #: Monotonic seconds; the sweep calls `timed_out` after it.
        self.deadline = NEVER
        #: What came of a body in this read. The parser appends to this very list.
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        self._parser = httptools.HttpRequestParser(self)
        self._headers: Headers = []
        self._target = b""
        self._head_bytes = 0
        #: What earlier reads held of a head that is not complete yet; and what is read now.
        self._begun = bytearray()
        self._read = b""
        #: Body bytes under a length that the parser is still to see.
        self._body_left = 0
        #: The last bytes of a read in which no request ended: an end may begin there.
        self._tail = b""
        self._queue: deque[Incoming] = deque()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._refusal: Problem | None = None
        #: Of the request that was refused: what it is answered with, and in whose dialect.
        self._refused_id = b""
        self._refused_family = Family.CHAT
        #: The last head that may come again, and the request it began.
        self._known: tuple[Known, Incoming] | None = None
        #: The parser stands between two requests.
        self._between = True
        #: The last request whose head the parser has taken.
        self._last: Incoming | None = None
        #: Body bytes still to come after a head that needed no parser.
        self._left = 0
        self.incoming: Incoming | None = None
        self._continue = False
        self._reading_paused = False
        #: Bytes of the reads since a head was complete, framing and all.
        self._framed = 0
        #: The parser is fed a head of our own.
        self._skipping = False

    def _feed(self, data: bytes) -> None:
        if self._left:
            self._counted(data)
            return
        if self._between and self._known is not None and self._again(*self._known, data):
            return
        self._parse(data)

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
        if length or state.ring is not None:
            try:
                if state.ring is not None:
                    self._admit(incoming)
                if length:
                    self._check_length(length)
            except _StopError:
                return True
        if length:
            self._left = length
            if end < len(data):
                self._counted(data[end:])
            else:
                self.deadline = self.body_deadline(incoming)
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
            self.deadline = self.body_deadline(incoming)
        else:
            self._whole(incoming, rest)

    def body_deadline(self, incoming: Incoming) -> float:
        """When more of this body must have come: a pause has its limit, and so has a trickle."""
        state = self.state
        timeouts, pace = state.timeouts, state.limits.client_bytes_per_s_min
        idle = state.now() + timeouts.body_idle_s
        if not pace:
            return idle
        return min(idle, incoming.started + timeouts.body_s + incoming.body.size / pace)

    def _whole(self, incoming: Incoming, rest: bytes) -> None:
        self.incoming = None
        self.deadline = NEVER
        self._queue.append(incoming)
        if rest:
            self._pending.insert(0, rest)
            self._pending_bytes += len(rest)

    def _parse(self, data: bytes) -> None:
        """Up to the end of the first request in it, so that where each begins is known: what
        follows waits. A request without a length ends where an empty line does."""
        at, count = 0, len(data)
        fresh = self._between
        self._last = None
        end = _end_over(self._tail, data) if self._tail else -1
        while at < count:
            if self._body_left:
                end = min(at + self._body_left, count)
                self._body_left -= end - at
            elif end <= at:
                found = data.find(_EMPTY_LINE, at)
                end = count if found < 0 else found + 4
            self._take(data if end - at == count else data[at:end])
            if fresh:
                fresh = False
                self._remember(data[:end])
            at = end
            if self._queue or self._refusal is not None:
                self._tail = b""
                if at < count and self._refusal is None:
                    self._pending.insert(0, data[at:])
                    self._pending_bytes += count - at
                return
        self._tail = (self._tail + data[-3:])[-3:]
        if self.incoming is not None:
            self.deadline = self.body_deadline(self.incoming)
            self._framed += count
            most = (
                2 * self.state.limits.head_bytes_max + _FRAMING_PER_BYTE * self.incoming.body.size
            )
            if self._framed > most:
                self._refuse(_FRAMING)
            return
        if not self._head_bytes:
            self.deadline = self.state.now() + self.state.timeouts.head_s
        self._head_bytes += count
        if self._head_bytes > self.state.limits.head_bytes_max:
            self._refuse(_HEAD_TOO_LONG)

    def _take(self, data: bytes) -> None:
        """The parser's next bytes."""
        self._between = False
        self._read = data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._after_upgrade()
        except httptools.HttpParserCallbackError:
            if self._refusal is None:
                raise
        except httptools.HttpParserError as error:
            self._refuse(invalid(f"malformed request: {error}"))
        self._read = b""
        if self.incoming is not None:
            if self._parts:
                with contextlib.suppress(_StopError):
                    self._take_body(self.incoming, self._parts)
        elif not self._between:
            self._begun += data

    def _remember(self, data: bytes) -> None:
        """A request began with this read, up to an empty line: its head may come again."""
        last = self._last
        if last is None or last.head.chunked or last.head.upgrades or self._refusal is not None:
            return
        if data[0] > 32 and not (last.head.expects or last.head.wants_close):
            self._known = Known(data), last

    def _after_upgrade(self) -> None:
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
        method, version = parser.get_method(), parser.get_http_version()
        if version in _VERSIONS:
            self._check_line(request_line(method, target, version))
        size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > state.limits.head_bytes_max:
            self._stop(_HEAD_TOO_LONG)
        try:
            head = read_request(method, target, version, headers, state.host)
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
        self._head_bytes = self._framed = 0
        self._body_left = length or 0
        if state.ring is not None:
            self._admit(self.incoming)
        head.upgrades = parser.should_upgrade()
        if length:
            self._check_length(length)
        if head.expects and (head.chunked or length):
            self._continue = True

    def _check_line(self, line: bytes) -> None:
        """The parser tells parts of a request line alone. The request must begin with them as they
        are put together again; empty lines before it are skipped, as everywhere."""
        raw = self._read
        if self._begun:
            raw = bytes(self._begun) + raw
            self._begun.clear()
        if not raw.startswith(line) and not raw.lstrip(b"\r\n").startswith(line):
            self._stop(_BAD_LINE)

    def _admit(self, incoming: Incoming) -> None:
        """Who has no key sends no body either."""
        ring = self.state.ring
        if ring is not None and incoming.route.kind is Kind.RELAY:
            try:
                admit(ring, incoming.head, incoming.route, clock.wall())
            except RequestError as error:
                self._stop(error.problem)

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
        self._between = True
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
            self._refused_id = self.state.refused(problem, self.state.now(), None)
        else:
            incoming.body.release()
            self._refused_family = incoming.route.family
            self._refused_id = self.state.refused(problem, incoming.started, incoming.head.id)
