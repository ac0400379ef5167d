"""One request from its whole body to its last byte: the one place where deciding meets sockets.

    READ ─▶ WAIT ⇄ CONNECT ─▶ ASKED ─▶ HELD ─▶ EVENTS ─┐
             ▲          │        │ └──────────▶ PLAIN ──┴─▶ DONE
             └──────────┴────────┴── another attempt: nothing was written to the client yet, or
                                     a stream that broke off goes on elsewhere

    READ     its body is parsed off the loop        ASKED   the request is going out, no head yet
    WAIT     in a queue, or backing off             HELD    an event stream before its first data
    CONNECT  a connection is being made             EVENTS, PLAIN   the client has had a byte
    QUOTED   an error answer, to be told as an event: the client has had a head, and comments

Whatever happens, `_end` runs once: ticket, connection and body come back there.
"""

import asyncio
from typing import TYPE_CHECKING

from common import clock
from common.tasks import spawn
from router import envelope
from router.answering import (
    ASKED,
    CONNECT,
    DONE,
    EVENTS,
    HELD,
    NO_BODY,
    PLAIN,
    QUOTED,
    UNTIL_CLOSE,
    USAGE_BYTES_MAX,
    WAIT,
)
from router.body import Bodies
from router.downstream import Client
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError
from router.events import Splitter
from router.framing import of_client
from router.head import AnswerHead, retry_after_s
from router.hedging import Hedging
from router.inbound import NEVER, Incoming
from router.outcome import Failure
from router.reading import INLINE_BYTES_MAX, read_model
from router.replaying import Replaying
from router.request_id import RequestIds
from router.seam import Ask, Attempt, Beside, Desk, Replay, Step, Ticket, Upstream, Wait
from router.switching import Switching
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


class Exchange(Hedging, Replaying, Switching):
    """Attempts. `asking` sends a request, `answering` passes its answer on, `resuming` has another
    say the rest of it, `commenting` says something before it, `hedging` asks a second
    upstream, `replaying` gives an answer that is there already, `switching` turns it into a tunnel,
    `ending` ends it."""

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
        head, desk = self._head, self._gateway.desk
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
            head.caller,
        )
        self._stream = found.stream
        self._model = found.model
        try:
            ticket = self._ticket = desk.begin(ask, now)
        except RequestError as error:
            self._refuse(error.problem)
            return
        if found.stream and desk.impatient:
            self._begin_waiting(ticket)
        self._take(ticket.next(now), now)

    def _begin_waiting(self, ticket: Ticket) -> None:
        """What may be done about a stream that does not begin."""
        loop = self._gateway.loop
        every_s = ticket.comment_every_s
        if every_s:
            self._impatient = True
            self._comment_every(every_s, loop)
        after_s = ticket.hedge_after()
        if after_s and not self._body.on_disk:
            self._impatient = True
            self._hedge_after(after_s, loop)

    # --- attempts -------------------------------------------------------------------------------

    def _take(self, step: Step, now: float) -> None:
        if type(step) is Attempt:
            self._try(step, now)
        elif type(step) is Beside:
            self._go_on_beside(now)
        elif type(step) is Wait:
            self._phase = WAIT
            self._client.deadline = NEVER
            assert self._ticket is not None
            self._ticket.wake = self._wake
            self._timer = self._gateway.loop.call_later(step.seconds, self._woken)
        elif type(step) is Replay:
            self._replay(step, now)
        else:
            assert isinstance(step, Problem)
            self._problem(step)

    def _wake(self) -> None:
        """In the next turn of the loop: another exchange is ending in this one."""
        self._gateway.loop.call_soon(self._woken)

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
        elif phase == QUOTED:
            self._relay_quoted(link)
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
        elif phase == QUOTED:
            if link.complete:
                self._relay_quoted(link)
            else:
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
        if ticket.keeps:
            self._collector = ticket.collect(head)
        events = head.event_stream and not head.encoded and status < 400
        framing = of_client(link.framing, http10=self._head.http10, events=events)
        if events and framing is not NO_BODY:
            self._framing = framing
            self._phase = HELD
            self._splitter = Splitter(self._gateway.limits.event_bytes_max)
            self._relay_held(link)
            return
        if self._opened:
            self._quote(link, head)
            return
        self._framing = framing
        if link.framing is UNTIL_CLOSE or (head.content_length or 0) <= USAGE_BYTES_MAX:
            self._kept = [] if b"json" in head.type else None
        self._phase = PLAIN
        self._relay_plain(link, self._answer_head(head, now))
