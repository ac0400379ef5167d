"""The one owner of the table: carries commands out in order, makes them durable, then true.

    do(command) ─▶ queue ─▶ draft of all that wait ─▶ store.commit ─▶ adopt ─▶ publish ─▶ answers
    beat(…) ─▶ at once, if it changes nothing and no draft under way touches its service

What waits while one commit runs goes into the next one together (group commit). When a commit
fails, its draft is dropped: nothing of it was ever true, and everyone in it is told so.
Where other registries write the same store, `registry.shared_keeper` carries out.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog

from common import clock, tasks
from common.wire.registry import Beat
from registry import commands as ask
from registry.draft import Draft
from registry.lease_clock import LeaseClock
from registry.records import Moment
from registry.state import Change
from registry.store import Store, StoreError
from registry.table import Table

_log = structlog.get_logger("keeper")

BATCH_MAX = 500  # bounds how long one transaction holds the others' answers


Waiting = Sequence[tuple[ask.Command, "asyncio.Future[ask.Answer]"]]


class Overloaded(Exception):
    """Too much waits for the store."""


class Keeper:
    """`store_error` is why the last commit failed, None once one succeeded again."""

    def __init__(
        self,
        table: Table,
        store: Store,
        lease_clock: LeaseClock,
        *,
        publish: Callable[[Sequence[Change]], None],
        tick_s: float,
        pending_max: int,
    ) -> None:
        self.table = table
        self.store_error: str | None = None
        self.commits = 0
        self.commit_failures = 0
        self._store = store
        self._clock = lease_clock
        self._publish = publish
        self._tick_s = tick_s
        self._queue: asyncio.Queue[tuple[ask.Command, asyncio.Future[ask.Answer]]]
        self._queue = asyncio.Queue(pending_max)
        self._draft: Draft | None = None
        self._ticking = False

    def now(self) -> Moment:
        return Moment(self._clock.read(clock.monotonic()), clock.wire_time(clock.wall()))

    @property
    def stalled_s(self) -> float:
        return self._clock.stalled_s

    async def do(self, command: ask.Command) -> ask.Answer:
        """Carry `command` out, durably. Raises StoreError (nothing was done) or Overloaded."""
        answer: asyncio.Future[ask.Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((command, answer))
        except asyncio.QueueFull:
            raise Overloaded from None
        return await answer

    async def beat(self, name: str, beat: Beat) -> ask.Answer:
        """Take a heartbeat; one that changes nothing waits for no disk. Raises like `do`."""
        free = self._draft is None or not self._draft.touches(name)
        if free and self.table.quiet_beat(name, beat, self.now()):
            return ask.Done()
        return await self.do(ask.Heartbeat(name, beat))

    async def run(self) -> NoReturn:
        """Carry out what is asked, until cancelled."""
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < BATCH_MAX and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            try:
                await self._carry_out(waiting)
            except BaseException as error:
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(StoreError(f"the registry failed: {error!r}"))
                raise

    async def _carry_out(self, waiting: Waiting) -> None:
        draft = self.table.draft()
        answers = [draft.do(command, self.now()) for command, _ in waiting]
        batch = draft.batch()
        self._draft = draft
        try:
            if batch:
                await self._store.commit(batch)
                self._committed()
        except StoreError as why:
            self._fail(waiting, why)
            return
        finally:
            self._draft = None
        self._adopt(draft, waiting, answers)

    def _fail(self, waiting: Waiting, why: StoreError) -> None:
        """Nothing of it was done, and everyone in it is told so."""
        self._failed(str(why))
        for _, future in waiting:
            if not future.done():
                future.set_exception(why)
                future.exception()  # seen: a handler whose client left asks no more

    def _adopt(self, draft: Draft, waiting: Waiting, answers: Sequence[ask.Answer]) -> None:
        """It is durable: it becomes true, and everyone in it is told so."""
        self._publish(self.table.adopt(draft))
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _committed(self) -> None:
        self.commits += 1
        if self.store_error is not None:
            _log.info("the store can be written again")
            self.store_error = None

    def _failed(self, why: str) -> None:
        self.commit_failures += 1
        if self.store_error != why:
            _log.error("nothing can be registered: the store fails", why=why)
        self.store_error = why

    async def keep_time(self) -> NoReturn:
        """Let time pass in the table, until cancelled."""
        while True:
            await asyncio.sleep(self._tick_s)
            now = self.now()
            if not self._ticking and self.table.is_due(now.at):
                self._ticking = True
                tasks.spawn(self._tick(), "registry.tick")

    async def _tick(self) -> None:
        """Apart from `keep_time`: while a commit hangs, the clock must still be looked at."""
        try:
            await self.do(ask.Tick())
        except (StoreError, Overloaded):
            pass  # told by `_failed`; the next tick tries again
        finally:
            self._ticking = False
