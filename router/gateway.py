"""One request from its whole body to its last byte: the one place where deciding meets sockets.

    READ ─▶ WAIT ⇄ CONNECT ─▶ ASKED ─▶ HELD ─▶ EVENTS ─┐
             ▲          │        │ └──────────▶ PLAIN ──┴─▶ DONE
             └──────────┴────────┴── another attempt: nothing was written to the client yet

    READ     its body is parsed off the loop        ASKED   the request is going out, no head yet
    WAIT     in a queue, or backing off             HELD    an event stream before its first data
    CONNECT  a connection is being made             EVENTS, PLAIN   the client has had a byte

Whatever happens, `_end` runs once: ticket, connection and body come back there.
"""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from common import clock
from common.tasks import spawn
from router import envelope, errors, events
from router.body import Bodies, Pump, length, segments
from router.downstream import NEVER, Client, Incoming, connection_line, problem_head
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError, invalid
from router.events import Splitter
from router.framing import LAST_CHUNK, Framing, of_client
from router.head import AnswerHead, retry_after_s, status_line
from router.outcome import Failure, Outcome, of_failure, of_status
from router.request_id import RequestIds
from router.seam import Ask, Attempt, Desk, End, Step, Ticket, Upstream, Wait
from router.tunnel import Tunnel
from router.uplink import Pool, Uplink

if TYPE_CHECKING:
    from router.config import Limits, Timeouts

#: Above this a body is parsed off the loop: msgspec reads about 1 GB/s, so this is a millisecond.
_PARSE_INLINE_BYTES = 1 << 20
#: A plain answer up to this is kept to be read for its tokens.
_USAGE_BYTES_MAX = 256 * 1024
#: A body up to this goes out in one piece with its head.
_JOINED_BYTES_MAX = 65_536
#: What is kept of a stream for its tokens and its terminal marker.
_TAIL_BYTES = 32 * 1024


# Plain numbers: an enum's member costs a look-up each time, and these are asked per event.
_READ, _WAIT, _CONNECT, _ASKED, _HELD, _EVENTS, _PLAIN, _TUNNEL, _DONE = range(9)
_NO_BODY, _LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing
_OK = Outcome.OK


class Gateway:
    """What all exchanges share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        desk: Desk,
        pool: Pool,
        bodies: Bodies,
        limits: "Limits",
        timeouts: "Timeouts",
        ids: RequestIds,
        *,
        plain_errors: bool = False,
    ) -> None:
        self.loop = loop
        self.desk = desk
        self.pool = pool
        self.bodies = bodies
        self.limits = limits
        self.timeouts = timeouts
        self.ids = ids
        self.plain_errors = plain_errors
        #: JSON up to this is parsed at once.
        self.inline_bytes = min(
            _PARSE_INLINE_BYTES, limits.body_memory_bytes, limits.json_bytes_max
        )
        self.active = 0

    def start(self, client: Client, incoming: Incoming) -> None:
        exchange = client.current = Exchange(self, client, incoming)
        self.active += 1
        if incoming.body.on_disk:
            incoming.body.finish(exchange.stored)
        else:
            exchange.read()


class Exchange:
    """Defaults stand on the class: a request changes few of them, and each costs time."""

    _phase = _READ
    _ticket: Ticket | None = None
    _attempt: Attempt | None = None
    _link: Uplink | None = None
    _task: "asyncio.Task[None] | None" = None
    _timer: asyncio.TimerHandle | None = None
    _pump: Pump | None = None
    #: Bytes of the request of this attempt went out.
    _sent = False
    #: The next connection must be a fresh one: a reused one has just failed.
    _fresh = False
    #: How the last attempt failed.
    _failure: Failure | None = None
    _framing = _NO_BODY
    _splitter: Splitter | None = None
    _held = b""
    #: The last two batches of events, and the first: where usage and markers stand.
    _tail = b""
    _tail_before = b""
    _first = b""
    #: A small plain answer, for its usage. None: too long, or no JSON.
    _kept: list[bytes] | None = None
    #: The body says `stream: true`.
    _stream = False
    _model: str | None = None
    _status = 0
    _retry_after = False
    _first_byte = 0.0
    _bytes_out = 0
    _events = 0
    #: When the whole request must have ended.
    _until = NEVER

    def __init__(self, gateway: Gateway, client: Client, incoming: Incoming) -> None:
        self._gateway = gateway
        self._client = client
        head = self._head = incoming.head
        self._route = incoming.route
        self._body = incoming.body
        self._started = incoming.started
        self._id = head.id or gateway.ids.next(clock.wall())
        self._chunk_s = gateway.timeouts.between_chunks_s

    # --- the request ----------------------------------------------------------------------------

    def stored(self) -> None:
        """The body on disk is whole."""
        if self._phase == _DONE:
            return
        if self._body.failed is not None:
            self._refuse(Problem(503, "the request's body could not be stored", "overloaded"))
        else:
            self.read()

    def read(self) -> None:
        """Find the model, if this route has one."""
        head, body = self._head, self._body
        try:
            if not self._route.takes_model:
                found = envelope.read_query(head.query) if head.websocket else EMPTY
            elif not body.size:
                found = EMPTY
            elif (
                head.content_type == "application/json"
                and body.size <= self._gateway.inline_bytes
                and not head.encoded
            ):
                found = envelope.read_json(body.whole())
            else:
                other = self._read_other()
                if other is None:
                    return
                found = other
        except RequestError as error:
            self._refuse(error.problem)
            return
        self._ask(found)

    def _read_other(self) -> Envelope | None:
        """Bodies that are no small JSON. None: it goes on off the loop, or `_ask` was called."""
        head, body = self._head, self._body
        kind = head.content_type
        boundary = None
        if kind[:10].lower() == "multipart/":
            boundary = envelope.multipart_boundary(kind)
        is_json = boundary is None and _may_be_json(kind)
        if head.encoded and (is_json or boundary is not None):
            raise RequestError(_ENCODED)
        json_max = self._gateway.limits.json_bytes_max
        if is_json and body.size > json_max and "json" in kind.lower():
            raise RequestError(_json_too_large(json_max))
        if body.on_disk or body.size > _PARSE_INLINE_BYTES:
            self._read_off_loop(boundary, is_json)
            return None
        if boundary is not None:
            return envelope.read_form(body.whole(), boundary)
        return envelope.read_json(body.whole()) if is_json else EMPTY

    def _read_off_loop(self, boundary: bytes | None, is_json: bool) -> None:
        body = self._body
        if boundary is None and (not is_json or body.size > self._gateway.limits.json_bytes_max):
            self._ask(EMPTY)
            return

        def read() -> Envelope:
            if boundary is None:
                return envelope.read_json(body.whole(), measure=True)
            reader = envelope.FormReader(boundary)
            if not body.on_disk:
                reader.feed(body.whole())
                return reader.finish()
            for offset in range(0, body.size, 1 << 20):
                reader.feed(body.read(offset, min(1 << 20, body.size - offset)))
            return reader.finish()

        def was_read(done: "asyncio.Future[Envelope]") -> None:
            body.let_go()
            error = None if done.cancelled() else done.exception()
            if self._phase == _DONE:
                return
            if isinstance(error, RequestError):
                self._refuse(error.problem)
            elif error is not None or done.cancelled():
                self._refuse(Problem(500, "the request's body could not be read", "internal"))
            else:
                self._ask(done.result())

        body.hold()
        self._gateway.bodies.run(read).add_done_callback(was_read)

    def _ask(self, found: Envelope) -> None:
        head = self._head
        now = clock.monotonic()
        ask = Ask(
            self._id.decode("latin-1"),
            head.method,
            head.target_text,
            self._route,
            head.fields,
            found,
            self._client.peer,
            self._body.size,
            self._started,
        )
        self._stream = found.stream
        self._model = found.model
        try:
            ticket = self._ticket = self._gateway.desk.begin(ask, now)
        except RequestError as error:
            self._refuse(error.problem)
            return
        self._take(ticket.next(now), now)

    # --- attempts -------------------------------------------------------------------------------

    def _take(self, step: Step, now: float) -> None:
        if type(step) is Attempt:
            self._try(step, now)
        elif type(step) is Wait:
            self._phase = _WAIT
            self._client.deadline = NEVER
            assert self._ticket is not None
            self._ticket.wake = self._woken
            self._timer = self._gateway.loop.call_later(step.seconds, self._woken)
        else:
            assert isinstance(step, Problem)
            self._problem(step)

    def _woken(self) -> None:
        if self._phase != _WAIT:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._ticket is not None
        self._ticket.wake = None
        now = clock.monotonic()
        self._take(self._ticket.next(now), now)

    def _try(self, attempt: Attempt, now: float) -> None:
        self._attempt = attempt
        self._sent = False
        link = None if self._fresh else self._gateway.pool.take(attempt.upstream)
        if link is not None:
            self._send(link, now)
            return
        self._phase = _CONNECT
        self._client.deadline = now + attempt.upstream.connect_timeout_s
        self._task = spawn(self._connect(attempt.upstream), "connect")

    async def _connect(self, upstream: Upstream) -> None:
        task = self._task
        try:
            link = await self._gateway.pool.connect(upstream)
        except OSError:
            if self._task is task and task is not None:
                self._task = None
                self._failed(Failure.CONNECT)
            return
        if self._task is not task:
            link.drop()
            return
        self._task = None
        if link.transport.is_closing():
            self._failed(Failure.CLOSED)
        else:
            self._send(link, clock.monotonic())

    def _send(self, link: Uplink, now: float) -> None:
        """The request goes out. Everything written here can be written again to another."""
        attempt, head, body = self._attempt, self._head, self._body
        assert attempt is not None
        upstream = attempt.upstream
        self._link = link
        self._fresh = False
        self._phase = _ASKED
        self._sent = True
        link.ask(self, head.method)
        start = head.start
        if not start:
            start = self._write_start()
        if upstream.path_prefix:
            start = b"%b %b%b HTTP/1.1\r\n" % (
                head.method.encode("latin-1"),
                upstream.path_prefix.encode("latin-1"),
                head.target,
            )
        if attempt.edit is None and not body.on_disk:
            data = body.whole()
            if data and len(data) <= _JOINED_BYTES_MAX:
                # Joining small ones costs less than a second system call.
                link.transport.write(
                    b"%b%b%b%b\r\ncontent-length: %d\r\n\r\n%b"
                    % (start, upstream.head, head.tail, self._id, len(data), data)
                )
                self._await_answer(attempt, now)
                return
        self._send_other(link, attempt, start, now)

    def _send_other(self, link: Uplink, attempt: Attempt, start: bytes, now: float) -> None:
        """No body, a large or an edited one, or one on disk."""
        head, body = self._head, self._body
        parts = segments(body, attempt.edit)
        count = length(parts)
        if count or head.content_length is not None or head.chunked:
            ending = b"content-length: %d\r\n\r\n" % count
        elif head.websocket:
            ending = b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        else:
            ending = b"\r\n"
        out = b"%b%b%b%b\r\n%b" % (start, attempt.upstream.head, head.tail, self._id, ending)
        if body.on_disk:
            link.transport.write(out)
            self._client.deadline = now + self._gateway.timeouts.body_idle_s
            pump = self._pump = Pump(body, parts, self._pump_write, self._pumped, self._pump_broke)
            pump.start(self._gateway.bodies)
            return
        link.transport.writelines((out, *(part for part in parts if isinstance(part, bytes))))
        self._await_answer(attempt, now)

    def _write_start(self) -> bytes:
        """Request line and last header lines, for this and all requests that say the same."""
        head, client = self._head, self._client
        if head.forwarded is not None and client.trusted:
            forwarded = _trusted_lines(head.forwarded, client, head.host)
        else:
            forwarded = b"%bX-Forwarded-Host: %b\r\n" % (client.forwarded, head.host)
        head.tail = b"%b%bx-request-id: " % (head.lines, forwarded)
        head.start = start = b"%b %b HTTP/1.1\r\n" % (head.method.encode("latin-1"), head.target)
        return start

    def _await_answer(self, attempt: Attempt, now: float) -> None:
        timeouts = self._gateway.timeouts
        if self._stream:
            limit = attempt.first_event_s
            deadline = now + (timeouts.first_event_s if limit is None else limit)
        else:
            limit = attempt.total_s
            deadline = self._until = now + (timeouts.total_s if limit is None else limit)
        if not self._client.paused:
            self._client.deadline = deadline

    def _deadline(self, at: float) -> None:
        # While the client takes nothing, its own limit runs instead.
        if not self._client.paused:
            self._client.deadline = at

    # --- a body on disk, on its way -----------------------------------------------------------

    def _pump_write(self, data: bytes) -> None:
        link = self._link
        if link is not None and not link.transport.is_closing():
            self._client.deadline = clock.monotonic() + self._gateway.timeouts.body_idle_s
            link.transport.write(data)

    def _pumped(self) -> None:
        self._pump = None
        if self._phase == _ASKED:
            assert self._attempt is not None
            self._await_answer(self._attempt, clock.monotonic())

    def _pump_broke(self) -> None:
        self._pump = None
        self._leave()
        self._problem(Problem(500, "the request's body could not be read", "internal"))

    def upstream_paused(self) -> None:
        if self._pump is not None:
            self._pump.pause()

    def upstream_resumed(self) -> None:
        if self._pump is not None:
            self._pump.resume(self._gateway.bodies)

    # --- the answer -----------------------------------------------------------------------------

    def upstream_received(self) -> None:
        """Called once per read, when the parser has seen all of it."""
        link, phase = self._link, self._phase
        assert link is not None
        if phase == _PLAIN:
            self._relay_plain(link, b"")
        elif phase == _HELD:
            self._relay_held(link)
        elif link.error is not None:
            self._failed(Failure.MALFORMED)
        elif link.head is not None:
            self._answered(link, link.head)

    def upstream_lost(self) -> None:
        link, phase = self._link, self._phase
        if link is None:
            return
        if phase == _ASKED:
            if link.got:
                self._failed(Failure.MALFORMED)
            else:
                self._failed(Failure.REUSED_CLOSED if link.reused else Failure.CLOSED)
        elif phase == _HELD:
            # An end by close alone, without a single event, cannot be told from a crash.
            self._failed(Failure.MALFORMED)
        elif not link.complete:
            self._cut(Failure.ENDED_EARLY)
        elif phase == _EVENTS:
            self._relay_events(link)
        else:
            self._relay_plain(link, b"")

    def _answered(self, link: Uplink, head: AnswerHead) -> None:
        now = clock.monotonic()
        ticket, attempt, status = self._ticket, self._attempt, head.status
        assert ticket is not None and attempt is not None
        if status == 101 and not (self._head.websocket and head.upgrade == b"websocket"):
            self._failed(Failure.MALFORMED)
            return
        wait_s = None
        if head.retry_after is not None:
            self._retry_after = True
            wait_s = retry_after_s(head.retry_after, clock.wall())
        step = ticket.answered(status, wait_s, now)
        if step is not None:
            self._leave()
            self._take(step, now)
            return
        if self._pump is not None:
            # It answered before it had read the request: the rest is not sent any more.
            self._pump.cancel()
            self._pump = None
            link.keep = False
        if attempt.chunk_s is not None:
            self._chunk_s = attempt.chunk_s
        if status == 101:
            self._open_tunnel(link, head, now)
            return
        events = head.event_stream and not head.encoded and status < 400
        self._framing = of_client(link.framing, http10=self._head.http10, events=events)
        if events and self._framing is not _NO_BODY:
            self._phase = _HELD
            self._splitter = Splitter(self._gateway.limits.event_bytes_max)
            self._relay_held(link)
            return
        if link.framing is _UNTIL_CLOSE or (head.content_length or 0) <= _USAGE_BYTES_MAX:
            self._kept = [] if b"json" in head.type else None
        self._phase = _PLAIN
        self._relay_plain(link, self._answer_head(head, now))

    def _answer_head(self, head: AnswerHead, now: float) -> bytes:
        """The head for the client. From here on the request is committed to this upstream."""
        ticket, attempt, client = self._ticket, self._attempt, self._client
        assert ticket is not None and attempt is not None
        self._first_byte = now
        status = self._status = head.status
        framing = self._framing
        if (
            client.closing
            or self._head.wants_close
            or client.state.draining
            or framing is _UNTIL_CLOSE
        ):
            client.closing = True
        if framing is _CHUNKED:
            frame = b"transfer-encoding: chunked\r\n"
        elif framing is _UNTIL_CLOSE or head.content_length is None or status == 204:
            frame = b""
        else:
            frame = b"content-length: %d\r\n" % head.content_length
        start = head.start
        if not start:
            start = head.start = b"%b%b%b" % (
                status_line(status),
                head.lines,
                _SSE_LINES if self._phase == _HELD else head.cache_lines,
            )
        link = self._link
        assert link is not None
        if attempt.number == 1:
            service = link.service_lines
        else:
            service = b"x-creche-service: %b\r\nx-creche-attempts: %d\r\n" % (
                attempt.upstream.name.encode("latin-1", "replace"),
                attempt.number,
            )
        model = ticket.answer_model or self._model
        lines = b"" if model is None else (_model_lines.get(model) or _model_line(model))
        if status >= 400:
            lines += b"x-creche-error: upstream\r\n"
        if client.closing or self._head.http10:
            lines += connection_line(client.closing, self._head.http10)
        return b"%b%bx-request-id: %b\r\n%b%b%b\r\n" % (
            start,
            frame,
            self._id,
            service,
            lines,
            ticket.answer_head,
        )

    def _relay_plain(self, link: Uplink, out: bytes) -> None:
        """Pass on what came; `out` is the head, the first time."""
        parts = link.parts
        if link.error is not None and out:
            self._first_byte = 0.0
            self._status = 0
            self._failed(Failure.MALFORMED)
            return
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._bytes_out += len(data)
            kept = self._kept
            if kept is not None:
                if self._bytes_out > _USAGE_BYTES_MAX:
                    self._kept = None
                else:
                    kept.append(data)
            if self._framing is _CHUNKED:
                out = b"%b%x\r\n%b\r\n" % (out, len(data), data)
            else:
                out = out + data if out else data
        if link.error is not None:
            self._write(out)
            self._cut(Failure.MALFORMED)
            return
        if link.complete:
            if self._framing is _CHUNKED:
                out += LAST_CHUNK
            self._write(out)
            self._finish(link)
            return
        self._write(out)
        self._deadline(clock.monotonic() + self._chunk_s if self._stream else self._until)

    def _write(self, data: bytes) -> None:
        if data and not self._client.transport.is_closing():
            self._client.transport.write(data)

    def _relay_held(self, link: Uplink) -> None:
        """Before the first event with data nothing is committed: it may be an error."""
        splitter, head = self._splitter, link.head
        assert splitter is not None and head is not None
        found = None
        if link.parts:
            data = b"".join(link.parts)
            link.parts.clear()
            try:
                whole = splitter.feed(data)
            except events.TooLongError:
                self._failed(Failure.MALFORMED)
                return
            if whole:
                self._held += whole
                found = events.first_data(whole)
        if found is None:
            if link.error is not None or len(self._held) > self._gateway.limits.event_bytes_max:
                self._failed(Failure.MALFORMED)
                return
            if not link.complete:
                return
        elif events.is_error(*found):
            self._failed(Failure.FIRST_EVENT_ERROR)
            return
        held, self._held = self._held, b""
        out = self._answer_head(head, clock.monotonic())
        self._phase = _EVENTS
        self._first = held[:_TAIL_BYTES]
        self._body.release()
        if held:
            self._count_events(held)
            if self._framing is _CHUNKED:
                out = b"%b%x\r\n%b\r\n" % (out, len(held), held)
            else:
                out += held
        self._write(out)
        link.streaming = self._relay_events
        self._relay_events(link)

    def _count_events(self, whole: bytes) -> None:
        self._events += events.count(whole)
        self._bytes_out += len(whole)
        self._tail_before = self._tail
        self._tail = whole

    def _relay_events(self, link: Uplink) -> None:
        """What came of a running stream: whole events in one write."""
        parts = link.parts
        splitter, client = self._splitter, self._client
        assert splitter is not None
        whole = b""
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if data[-2:] == b"\n\n" and not splitter.size:
                whole = data
            else:
                try:
                    whole = splitter.feed(data)
                except events.TooLongError:
                    self._cut(Failure.MALFORMED)
                    return
        if whole:
            self._events += whole.count(b"\n\n") or events.count(whole)
            self._bytes_out += len(whole)
            self._tail_before = self._tail
            self._tail = whole
            if self._framing is _CHUNKED:
                whole = b"%x\r\n%b\r\n" % (len(whole), whole)
        if link.complete:
            self._finish_events(link, whole)
            return
        if whole and not client.transport.is_closing():
            client.transport.write(whole)
        if link.error is not None:
            self._cut(Failure.MALFORMED)
        elif not client.paused:
            client.deadline = clock.monotonic() + self._chunk_s

    def _finish_events(self, link: Uplink, out: bytes) -> None:
        """The upstream ended the stream as its framing says; what waited passes as it is."""
        assert self._splitter is not None
        if link.error is not None:
            self._write(out)
            self._cut(Failure.MALFORMED)
            return
        rest = self._splitter.rest()
        if self._framing is _CHUNKED:
            if rest:
                out += b"%x\r\n%b\r\n" % (len(rest), rest)
            out += LAST_CHUNK
        else:
            out += rest
        if rest:
            self._tail_before, self._tail = self._tail, rest
        self._write(out)
        self._finish(link)

    # --- upgrades -------------------------------------------------------------------------------

    def _open_tunnel(self, link: Uplink, head: AnswerHead, now: float) -> None:
        client = self._client
        client.closing = True
        self._phase = _TUNNEL
        self._first_byte = now
        self._status = 101
        attempt = self._attempt
        assert attempt is not None
        timeouts = self._gateway.timeouts
        self._write(
            b"%b%bconnection: Upgrade\r\nupgrade: websocket\r\nx-request-id: %b\r\n"
            b"x-creche-service: %b\r\n\r\n%b"
            % (
                status_line(101),
                head.lines,
                self._id,
                attempt.upstream.name.encode("latin-1", "replace"),
                link.rest,
            )
        )
        self._body.release()
        tunnel = Tunnel(
            client,
            link,
            now,
            idle_s=timeouts.upgrade_idle_s,
            lifetime_s=timeouts.upgrade_lifetime_s,
            ended=self._tunnel_ended,
        )
        link.owner = None
        link.tunnel = client.tunnel = tunnel
        early = client.take_pending()
        if early:
            tunnel.from_client(early)

    def _tunnel_ended(self) -> None:
        self._link = None
        self._client.current = None
        self._end(Outcome.OK, None)

    # --- endings --------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Give the connection back, or up. Before another attempt, or after the last."""
        link, self._link = self._link, None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
            if link is not None:
                link.keep = False
        if link is not None:
            link.done(clock.monotonic())
        self._splitter = None
        self._held = b""
        self._retry_after = False

    def _failed(self, failure: Failure) -> None:
        """No answer that could be passed on, and nothing was written to the client."""
        link, self._link = self._link, None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        if link is not None:
            link.drop()
        self._splitter = None
        self._held = b""
        self._retry_after = False
        self._failure = failure
        self._fresh = failure is Failure.REUSED_CLOSED
        now = clock.monotonic()
        assert self._ticket is not None
        self._take(self._ticket.failed(failure, self._sent, now), now)

    def _refuse(self, problem: Problem) -> None:
        """Before there was a ticket."""
        now = clock.monotonic()
        self._gateway.desk.refused(self._id.decode("latin-1"), problem.status, self._started, now)
        self._answer(problem)
        self._end(Outcome.REFUSED, None)

    def _problem(self, problem: Problem) -> None:
        """The last word is the router's own."""
        self._answer(problem)
        failure = self._failure
        self._end(Outcome.REFUSED if failure is None else of_failure(failure), failure)

    def _answer(self, problem: Problem) -> None:
        client, head = self._client, self._head
        self._status = problem.status
        client.closing = client.closing or head.wants_close or client.state.draining
        body = errors.body(
            problem,
            self._route.family,
            plain=self._gateway.plain_errors,
            request_id=self._id.decode("latin-1"),
        )
        lines = b"x-request-id: %b\r\n" % self._id
        attempt = self._attempt
        if attempt is not None:
            lines += b"x-creche-attempts: %d\r\n" % attempt.number
        self._write(
            problem_head(problem, len(body), lines, client.closing, head.http10)
            + (b"" if head.method == "HEAD" else body)
        )

    def _cut(self, failure: Failure) -> None:
        """The answer cannot be completed and the client has had a part of it: say so, in-band
        where the answer has a band, else by breaking off so that it cannot look whole."""
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        client = self._client
        if self._phase == _EVENTS:
            attempt = self._attempt
            assert attempt is not None
            out = errors.event(
                errors.failed(of_failure(failure), attempt.upstream.name),
                self._route.family,
                request_id=self._id.decode("latin-1"),
            )
            if self._framing is _CHUNKED:
                out = b"%x\r\n%b\r\n%b" % (len(out), out, LAST_CHUNK)
            self._write(out)
            client.closing = True
        else:
            client.current = None
            client.abort()
        self._end(Outcome.CUT, failure)

    def _finish(self, link: Uplink) -> None:
        self._link = None
        now = clock.monotonic()
        link.done(now)
        status = self._status
        self._end(_OK if status < 400 else of_status(status, self._retry_after), None, now)

    def client_left(self) -> None:
        """Frees the upstream now, in every phase."""
        if self._phase == _DONE:
            return
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        self._status = self._status or 499
        self._end(Outcome.CANCELLED, Failure.CLIENT_LEFT)

    def shut_down(self) -> None:
        """The drain time is over."""
        if self._phase in (_EVENTS, _PLAIN):
            self._cut(Failure.ENDED_EARLY)
        elif self._phase != _DONE:
            self._client.closing = True
            link, self._link = self._link, None
            if link is not None:
                link.drop()
            self._answer(Problem(503, "the router is stopping", "stopping", retry_after_s=1))
            self._end(Outcome.REFUSED, None)

    def timed_out(self, now: float) -> None:
        """The client's deadline passed while this was current."""
        phase = self._phase
        if phase == _CONNECT:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
            self._failed(Failure.CONNECT)
        elif phase in (_ASKED, _HELD):
            self._failed(Failure.NO_ANSWER)
        elif phase in (_EVENTS, _PLAIN):
            self._cut(Failure.STALLED)

    def client_paused(self) -> None:
        if self._link is not None and not self._link.transport.is_closing():
            self._link.transport.pause_reading()

    def client_resumed(self) -> None:
        if self._link is not None and not self._link.transport.is_closing():
            self._link.transport.resume_reading()
        self._client.deadline = (
            self._until
            if self._phase == _PLAIN and not self._stream
            else clock.monotonic() + self._chunk_s
        )

    def _end(self, outcome: Outcome, failure: Failure | None, now: float = 0.0) -> None:
        """Once, on every path: what was taken comes back."""
        if self._phase == _DONE:
            return
        self._phase = _DONE
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        now = now or clock.monotonic()
        ticket = self._ticket
        if ticket is not None:
            end = End(outcome, self._status, now)
            if failure is not None:
                end.failure = failure
                ticket.wake = None
            if self._first_byte:
                end.first_byte = self._first_byte
                end.bytes_out = self._bytes_out
                end.upstream_spoke = True
                self._read_usage(end)
            ticket.ended(end)
        self._body.release()
        self._gateway.active -= 1
        client = self._client
        if client.current is self:
            client.answered(now)

    def _read_usage(self, end: End) -> None:
        if self._tail:
            end.events = self._events
            tail = (self._tail_before + self._tail)[-_TAIL_BYTES:]
            end.done_marker = events.has_marker(self._route.family, tail)
            end.tokens_in, end.tokens_out = events.usage_of_events(self._first, tail)
        elif self._kept:
            kept = self._kept
            body = kept[0] if len(kept) == 1 else b"".join(kept)
            end.tokens_in, end.tokens_out = events.usage_of_answer(body)


#: Written once; bounded, since names come from outside.
_model_lines: dict[str, bytes] = {}
_MODEL_LINES_MAX = 1_000


def _model_line(model: str) -> bytes:
    line = b"x-creche-model: %b\r\n" % header_text(model)
    if len(_model_lines) < _MODEL_LINES_MAX:
        _model_lines[model] = line
    return line


_SSE_LINES = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
_ENCODED = invalid("the body is compressed, so its model cannot be read", status=415)


def _json_too_large(limit: int) -> Problem:
    return invalid(f"the JSON body is larger than json_bytes_max ({limit} bytes)", status=413)


def _may_be_json(kind: str) -> bool:
    """JSON is often sent under curl's default type, or none. What says it is binary is believed."""
    lower = kind.lower()
    return not lower.startswith(("audio/", "image/", "video/", "application/octet-stream"))


def header_text(text: str) -> bytes:
    """`text` as it may stand in a header: a model's name comes from outside."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return quote(text, safe=" /:@+,;=").encode()


def _trusted_lines(kept: dict[bytes, bytes], client: Client, host: bytes) -> bytes:
    """X-Forwarded-* behind a trusted proxy: its word, and its own address appended."""
    peer = client.peer.encode("latin-1")
    came = kept.get(b"x-forwarded-for")
    proto = kept.get(b"x-forwarded-proto", client.state.scheme.encode())
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (
        b"%b, %b" % (came, peer) if came else peer,
        proto,
        kept.get(b"x-forwarded-host", host),
    )
