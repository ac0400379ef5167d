"""One request from its whole body to its last byte: the one place where deciding meets sockets.

    READ ─▶ WAIT ⇄ CONNECT ─▶ ASKED ─▶ HELD ─▶ EVENTS ─┐
             ▲          │        │ └──────────▶ PLAIN ──┴─▶ DONE
             └──────────┴────────┴── another attempt: nothing was written to the client yet, or
                                     a stream that broke off goes on elsewhere

    READ     its body is parsed off the loop        ASKED   the request is going out, no head yet
    WAIT     in a queue, or backing off             HELD    an event stream before its first data
    CONNECT  a connection is being made             EVENTS, PLAIN   the client has had a byte

Whatever happens, `_end` runs once: ticket, connection and body come back there.
"""

import asyncio
from typing import TYPE_CHECKING

from common import clock
from common.tasks import spawn
from router import envelope, errors, resume
from router.answering import (
    ASKED,
    CHUNKED,
    CONNECT,
    DONE,
    EVENTS,
    HELD,
    NO_BODY,
    PLAIN,
    TUNNEL,
    UNTIL_CLOSE,
    USAGE_BYTES_MAX,
    WAIT,
)
from router.asking import Asking
from router.body import Bodies
from router.downstream import Client, problem_head
from router.edit import Edit
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError
from router.events import Splitter
from router.framing import LAST_CHUNK, of_client
from router.head import AnswerHead, retry_after_s, status_line
from router.inbound import NEVER, Incoming
from router.outcome import Failure, Outcome, of_failure, of_status
from router.reading import INLINE_BYTES_MAX, read_model
from router.request_id import RequestIds
from router.resume import Resume
from router.seam import Ask, Attempt, Desk, End, Step, Upstream, Wait
from router.spliced import Spliced
from router.tunnel import Tunnel
from router.uplink import Pool, Uplink

if TYPE_CHECKING:
    from router.config import Limits, Timeouts


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
        self.inline_bytes = min(INLINE_BYTES_MAX, limits.body_memory_bytes, limits.json_bytes_max)
        self.active = 0

    def start(self, client: Client, incoming: Incoming) -> None:
        exchange = client.current = Exchange(self, client, incoming)
        self.active += 1
        if incoming.body.on_disk:
            incoming.body.finish(exchange.stored)
        else:
            exchange.read()


class Exchange(Asking):
    """Attempts and endings; `asking` sends a request, `answering` passes its answer on."""

    _task: "asyncio.Task[None] | None" = None
    _timer: asyncio.TimerHandle | None = None
    #: How the last attempt failed.
    _failure: Failure | None = None
    _retry_after = False
    #: The answer broke off, and its rest cannot be asked for.
    _unresumable = False

    def __init__(self, gateway: Gateway, client: Client, incoming: Incoming) -> None:
        self._gateway = gateway
        self._client = client
        head = self._head = incoming.head
        self._route = incoming.route
        self._body = incoming.body
        self._started = incoming.started
        self._id = head.id or gateway.ids.next(clock.wall())
        self._chunk_s = gateway.timeouts.between_chunks_s
        self._event_bytes_max = gateway.limits.event_bytes_max
        self._bodies = gateway.bodies
        self._timeouts = gateway.timeouts

    # --- the request ----------------------------------------------------------------------------

    def stored(self) -> None:
        """The body on disk is whole."""
        if self._phase == DONE:
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
                gateway = self._gateway
                other = read_model(head, body, gateway.bodies, gateway.limits, self._was_read)
                if other is None:
                    return
                found = other
        except RequestError as error:
            self._refuse(error.problem)
            return
        self._ask(found)

    def _was_read(self, found: Envelope | Problem) -> None:
        if self._phase == DONE:
            return
        if isinstance(found, Problem):
            self._refuse(found)
        else:
            self._ask(found)

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
            self._phase = WAIT
            self._client.deadline = NEVER
            assert self._ticket is not None
            self._ticket.wake = self._woken
            self._timer = self._gateway.loop.call_later(step.seconds, self._woken)
        else:
            assert isinstance(step, Problem)
            self._problem(step)

    def _woken(self) -> None:
        if self._phase != WAIT:
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
        if attempt.resume:
            self._ask_resumable(attempt)
        link = None if self._fresh else self._gateway.pool.take(attempt.upstream)
        if link is not None:
            self._send(link, now)
            return
        self._phase = CONNECT
        self._deadline(now + attempt.upstream.connect_timeout_s)
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

    # --- streams that may be resumed ------------------------------------------------------------

    def _ask_resumable(self, attempt: Attempt) -> None:
        """What is asked of an upstream beside the request itself, or in its place."""
        body, said, ticket = self._body, self._resume, self._ticket
        assert ticket is not None
        if said is not None:
            attempt.edit = Edit(0, body.size, said.body(ticket.answer_model))
        elif attempt.resume == "tokens" and not body.on_disk and resume.tells_ids(self._head.path):
            data, edit = body.whole(), attempt.edit
            if edit is not None:
                data = data[: edit.start] + edit.text + data[edit.stop :]
            asking = resume.asking_ids(data)
            if asking is not None:
                attempt.edit = Edit(0, body.size, asking)

    def _resumable(self) -> Resume | None:
        """To remember its answer by. None: that may not be resumed, for what is asked."""
        if self._body.on_disk:
            return None
        request = resume.read(self._head.path, self._body.whole())
        return None if request is None else Resume(request, self._gateway.limits.resume_bytes_max)

    def _goes_on(self, stream: Spliced, now: float) -> bool:
        """A stream broke off that may be resumed: whether it is, or had nothing more to say."""
        ticket, said = self._ticket, stream.resume
        assert ticket is not None
        ticket.lost(now)
        rest = said.cut()
        if rest is None:
            self._unresumable = True
            return False
        self._write(stream.say(rest.out))
        if not rest.more:
            if self._framing is CHUNKED:
                self._write(LAST_CHUNK)
            self._end(Outcome.OK, None, now)
            return True
        step = ticket.resume(now)
        if not isinstance(step, Attempt):
            return False
        self._fresh = False
        self._try(step, now)
        return True

    # --- the answer -----------------------------------------------------------------------------

    def upstream_received(self) -> None:
        """Called once per read, when the parser has seen all of it."""
        link, phase = self._link, self._phase
        assert link is not None
        if phase == EVENTS:
            self._relay_events(link)
        elif phase == PLAIN:
            self._relay_plain(link, b"")
        elif phase == HELD:
            self._relay_held(link)
        elif link.error is not None:
            self._failed(Failure.MALFORMED)
        elif link.head is not None:
            self._answered(link, link.head)

    def upstream_lost(self) -> None:
        link, phase = self._link, self._phase
        if link is None:
            return
        if phase == ASKED:
            if link.got:
                self._failed(Failure.MALFORMED)
            else:
                self._failed(Failure.REUSED_CLOSED if link.reused else Failure.CLOSED)
        elif phase == HELD:
            # An end by close alone, without a single event, cannot be told from a crash.
            self._failed(Failure.MALFORMED)
        elif not link.complete:
            self._cut(Failure.ENDED_EARLY)
        elif phase == EVENTS:
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
        if self._first_byte:
            self._continued(link, head, now)
            return
        if status == 101:
            self._open_tunnel(link, head, now)
            return
        events = head.event_stream and not head.encoded and status < 400
        self._framing = of_client(link.framing, http10=self._head.http10, events=events)
        if events and self._framing is not NO_BODY:
            self._phase = HELD
            self._splitter = Splitter(self._gateway.limits.event_bytes_max)
            self._relay_held(link)
            return
        if link.framing is UNTIL_CLOSE or (head.content_length or 0) <= USAGE_BYTES_MAX:
            self._kept = [] if b"json" in head.type else None
        self._phase = PLAIN
        self._relay_plain(link, self._answer_head(head, now))

    def _continued(self, link: Uplink, head: AnswerHead, now: float) -> None:
        """Another upstream was asked for the rest of a stream, and answered."""
        if head.status != 200 or not head.event_stream or head.encoded:
            assert self._ticket is not None
            self._ticket.declined(head.status, now)
            self._leave()
            self._break_off(Failure.ENDED_EARLY)
            return
        if self._client.paused:
            link.transport.pause_reading()
        self._phase = HELD
        self._splitter = Splitter(self._gateway.limits.event_bytes_max)
        self._relay_held(link)

    # --- upgrades -------------------------------------------------------------------------------

    def _open_tunnel(self, link: Uplink, head: AnswerHead, now: float) -> None:
        client = self._client
        client.closing = True
        self._phase = TUNNEL
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
        self._gateway.desk.refused(self._id.decode("latin-1"), problem, self._started, now)
        self._answer(problem)
        self._end(Outcome.REFUSED, None)

    def _problem(self, problem: Problem) -> None:
        """The last word is the router's own."""
        if self._first_byte:
            self._break_off(self._failure or Failure.ENDED_EARLY)
            return
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
        stream = self._events
        if isinstance(stream, Spliced):
            told = stream.resume.error
            if self._goes_on(stream, clock.monotonic()):
                return
            self._break_off(failure, told)
            return
        if stream is not None and self._attempt is not None and self._attempt.resume:
            assert self._ticket is not None
            self._ticket.lost(clock.monotonic())
            self._unresumable = True
        self._break_off(failure)

    def _break_off(self, failure: Failure, told: bytes = b"") -> None:
        """Nobody says the rest. `told` is an engine's own event that says so."""
        client = self._client
        if self._events is not None:
            attempt = self._attempt
            assert attempt is not None
            out = told or errors.event(
                errors.failed(of_failure(failure), attempt.upstream.name),
                self._route.family,
                request_id=self._id.decode("latin-1"),
            )
            if self._framing is CHUNKED:
                out = b"%x\r\n%b\r\n%b" % (len(out), out, LAST_CHUNK)
            self._write(out)
            client.closing = True
        else:
            client.current = None
            client.abort()
        self._end(Outcome.CUT, failure)

    def _committed(self) -> None:
        if self._resume is None:
            self._body.release()

    def _finish(self, link: Uplink) -> None:
        self._link = None
        now = clock.monotonic()
        link.done(now)
        status = self._status
        self._end(Outcome.OK if status < 400 else of_status(status, self._retry_after), None, now)

    def client_left(self) -> None:
        """Frees the upstream now, in every phase."""
        if self._phase == DONE:
            return
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        self._status = self._status or 499
        self._end(Outcome.CANCELLED, Failure.CLIENT_LEFT)

    def shut_down(self) -> None:
        """The drain time is over."""
        if self._phase in (EVENTS, PLAIN) or (self._first_byte and self._phase != DONE):
            link, self._link = self._link, None
            if link is not None:
                link.drop()
            self._break_off(Failure.ENDED_EARLY)
        elif self._phase != DONE:
            self._client.closing = True
            link, self._link = self._link, None
            if link is not None:
                link.drop()
            self._answer(Problem(503, "the router is stopping", "stopping", retry_after_s=1))
            self._end(Outcome.REFUSED, None)

    def timed_out(self, now: float) -> None:
        """The client's deadline passed while this was current."""
        phase = self._phase
        if phase == CONNECT:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
            self._failed(Failure.CONNECT)
        elif phase in (ASKED, HELD):
            self._failed(Failure.NO_ANSWER)
        elif phase == PLAIN or (phase == EVENTS and self._stalls()):
            self._cut(Failure.STALLED)

    def client_paused(self) -> None:
        if self._link is not None and not self._link.transport.is_closing():
            self._link.transport.pause_reading()

    def client_resumed(self) -> None:
        if self._link is not None and not self._link.transport.is_closing():
            self._link.transport.resume_reading()
        if self._phase == EVENTS:
            self._moved()
        else:
            wait_s = self._chunk_s
            self._deadline(clock.monotonic() + wait_s if self._stream else self._until)

    def _end(self, outcome: Outcome, failure: Failure | None, now: float = 0.0) -> None:
        """Once, on every path: what was taken comes back."""
        if self._phase == DONE:
            return
        self._phase = DONE
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
                end.unresumable = self._unresumable
                if failure is Failure.STALLED and (self._events or self._stream):
                    end.stalled_s = self._chunk_s
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
