"""How an exchange ends, well or badly.

    nothing written yet   _failed ─▶ another attempt, or _problem: the router's own answer
    the client has some   _break_off: told in-band where the answer has a band, else a reset
    all of it passed      _finish
    the client left       client_left: the upstream is free at once
    told to stop          shut_down, when the time to drain is over

Each leads to `_end`, which gives back what was taken, once.
"""

import asyncio
from typing import TYPE_CHECKING

from common import clock
from router import errors
from router.answering import ASKED, CHUNKED, CONNECT, DONE, EVENTS, HELD, PLAIN, QUOTED
from router.asking import Asking
from router.downstream import problem_head
from router.errors import Problem
from router.framing import LAST_CHUNK
from router.outcome import Failure, Outcome, of_failure, of_status
from router.seam import End, Step
from router.uplink import Uplink

if TYPE_CHECKING:
    from router.gateway import Gateway
    from router.hedging import Lane


class Ending(Asking):
    _gateway: "Gateway"
    #: When the head was complete.
    _started: float
    _task: "asyncio.Task[None] | None" = None
    _timer: asyncio.TimerHandle | None = None
    #: When the next comment is due, and a second upstream to be asked; that one, where it was.
    _commenting: asyncio.TimerHandle | None = None
    _hedging: asyncio.TimerHandle | None = None
    _lane: "Lane | None" = None
    #: How the last attempt failed.
    _failure: Failure | None = None
    _retry_after = False
    #: The answer broke off, and its rest cannot be asked for.
    _unresumable = False

    def _take(self, step: Step, now: float) -> None:
        """What deciding says comes next."""
        raise NotImplementedError

    def _tell(self, problem: Problem) -> None:
        """The router's own answer, as an event."""
        raise NotImplementedError

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
        if self._opened:
            self._tell(problem)
            return
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
        elif phase in (ASKED, HELD, QUOTED):
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
        if self._impatient:
            self._calm()
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

    def _calm(self) -> None:
        """Nothing more is waited for."""
        for timer in (self._commenting, self._hedging):
            if timer is not None:
                timer.cancel()
        self._commenting = self._hedging = None
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()
