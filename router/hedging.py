"""A stream that does not begin is asked of a second upstream too: an exchange's second lane.

    hedge_after_ms ─▶ Lane: connect ─▶ ask ─▶ listen ─┬─ its first event is there: it is the one
                                                      ├─ it fails: the first goes on alone
                                                      └─ the first begins, the client left: closed
    the first fails ─▶ the lane's connection is the exchange's, whatever it has said so far

A lane only listens: what came stays in its connection's `parts`, so that whoever takes it over
reads it all. Always a fresh connection: it cannot lose the race of a kept one. `router.hedge`
decides when, of whom, and what becomes of loads and permits.
"""

import asyncio
from typing import TYPE_CHECKING

from common import clock
from common.tasks import spawn
from router import events
from router.answering import ASKED, DONE, QUOTED
from router.events import Splitter
from router.head import retry_after_s
from router.outcome import Failure
from router.resuming import Resuming
from router.seam import Attempt, Wait
from router.sweep import LATE_S
from router.uplink import Uplink

if TYPE_CHECKING:
    from router.gateway import Gateway


class Lane:
    """Owns its connection until that is taken over, or closed."""

    def __init__(self, exchange: "Hedging", gateway: "Gateway", attempt: Attempt) -> None:
        self._exchange = exchange
        self._gateway = gateway
        self.attempt = attempt
        self.link: Uplink | None = None
        #: When the request went out.
        self.asked = 0.0
        self._splitter = Splitter(gateway.limits.event_bytes_max)
        #: How many of the connection's parts were looked at, and their bytes.
        self._seen = 0
        self._bytes = 0
        self._task: asyncio.Task[None] | None = spawn(self._connect(), "hedge")

    def close(self) -> None:
        """Cancelled: never pooled, and nothing more is heard of it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        link, self.link = self.link, None
        if link is not None:
            link.drop()

    async def _connect(self) -> None:
        try:
            link = await self._connected()
        except OSError:  # a timeout is one
            if self._task is not None:
                self._task = None
                self._exchange.lane_failed(self, Failure.CONNECT)
            return
        if self._task is None:
            link.drop()
            return
        self._task = None
        self.link = link
        if link.transport.is_closing():
            self._exchange.lane_failed(self, Failure.CLOSED)
            return
        link.ask(self, self._exchange.method)
        self.asked = clock.monotonic()
        link.transport.write(self._exchange.request_for(self.attempt))

    async def _connected(self) -> Uplink:
        """Raises OSError. Where this process itself stood still, nobody read that it came about:
        then once more."""
        upstream, pool = self.attempt.upstream, self._gateway.pool
        limit_s = upstream.connect_timeout_s
        stood_still = clock.monotonic() + limit_s + LATE_S
        try:
            async with asyncio.timeout(limit_s):
                return await pool.connect(upstream)
        except TimeoutError:
            if clock.monotonic() <= stood_still:
                raise
        async with asyncio.timeout(limit_s):
            return await pool.connect(upstream)

    # --- what the connection calls ----------------------------------------------------------------

    def upstream_received(self) -> None:
        link, exchange = self.link, self._exchange
        assert link is not None
        head = link.head
        if link.error is not None:
            exchange.lane_failed(self, Failure.MALFORMED)
        elif head is None:
            return
        elif head.status != 200 or not head.event_stream or head.encoded:
            wait_s = None
            if head.retry_after is not None:
                wait_s = retry_after_s(head.retry_after, clock.wall())
            exchange.lane_declined(self, head.status, wait_s)
        else:
            self._listen(link)

    def _listen(self, link: Uplink) -> None:
        """Whether the first event with data is there. Nothing is taken."""
        data = b"".join(link.parts[self._seen :])
        self._seen = len(link.parts)
        self._bytes += len(data)
        try:
            whole = self._splitter.feed(data) if data else b""
        except events.TooLongError:
            self._exchange.lane_failed(self, Failure.MALFORMED)
            return
        found = events.first_data(whole) if whole else None
        if found is None:
            if link.complete or self._bytes > self._gateway.limits.event_bytes_max:
                self._exchange.lane_failed(self, Failure.MALFORMED)
        elif events.is_error(*found):
            self._exchange.lane_failed(self, Failure.FIRST_EVENT_ERROR)
        else:
            self._exchange.lane_ready(self)

    def upstream_lost(self) -> None:
        link = self.link
        assert link is not None
        self._exchange.lane_failed(self, Failure.MALFORMED if link.got else Failure.CLOSED)

    def upstream_paused(self) -> None:
        """The whole request was written at once: there is nothing to hold back."""

    def upstream_resumed(self) -> None:
        """As above."""


class Hedging(Resuming):
    """The part of an Exchange that has two lanes at times."""

    @property
    def method(self) -> str:
        return self._head.method

    def upstream_received(self) -> None:
        raise NotImplementedError

    def _hedge_after(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._hedging = loop.call_later(seconds, self._hedge, loop)

    def _hedge(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing has begun for so long."""
        self._hedging = None
        if self._first_byte or self._phase in (QUOTED, DONE):
            return
        assert self._ticket is not None
        step = self._ticket.hedge(clock.monotonic())
        if isinstance(step, Wait):
            self._hedge_after(step.seconds, loop)
        elif step is not None:
            if step.resume:
                self._ask_resumable(step)
            self._lane = Lane(self, self._gateway, step)

    def _unhedge(self) -> None:
        """The first attempt has begun to answer."""
        lane, self._lane = self._lane, None
        if lane is not None:
            assert self._ticket is not None
            lane.close()
            self._ticket.hedge_lost(clock.monotonic())

    # --- what a lane tells ------------------------------------------------------------------------

    def lane_ready(self, lane: Lane) -> None:
        now = clock.monotonic()
        assert self._ticket is not None
        self._ticket.hedge_won(now)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        self._take_over(lane)

    def lane_failed(self, lane: Lane, failure: Failure) -> None:
        assert self._ticket is not None
        self._lane = None
        lane.close()
        self._ticket.hedge_failed(failure, clock.monotonic())

    def lane_declined(self, lane: Lane, status: int, wait_s: float | None) -> None:
        assert self._ticket is not None
        self._lane = None
        lane.close()
        self._ticket.hedge_declined(status, wait_s, clock.monotonic())

    # --- the second lane becomes the only one -----------------------------------------------------

    def _go_on_beside(self, now: float) -> None:
        """The first has failed."""
        lane = self._lane
        assert lane is not None
        if lane.link is None:
            self._lane = None
            lane.close()
            self._try(lane.attempt, now)
        else:
            self._take_over(lane)

    def _take_over(self, lane: Lane) -> None:
        self._lane = None
        link = self._link = lane.link
        assert link is not None
        link.owner = self
        self._attempt = lane.attempt
        self._splitter = None
        self._held = b""
        self._retry_after = False
        self._sent = True
        self._phase = ASKED
        if self._client.paused:
            link.transport.pause_reading()
        self._await_answer(lane.attempt, lane.asked)
        if link.head is not None:
            self.upstream_received()
