"""Counts usage beside the requests: on their path an ended one is only appended.

    append ─▶ every FOLD_S ─▶ Ledger ─▶ every `write_s`, on a thread ─▶ Book

Usage is never worth a request: what cannot be written waits in memory, and `message` tells it.
A router that is killed loses what it counted since the last writing; one that is stopped, nothing.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common import clock, logs, tasks
from router.config import Usage
from router.plan import Plan
from router.seam import End
from router.usage.book import Book, BookError, Question, Sums
from router.usage.ledger import Ledger

#: What is folded at once holds the loop for a few microseconds a request.
FOLD_S = 0.1
#: Ends that wait to be folded; above it they are folded where they stand.
WAITING_MAX = 5_000
RETAIN_EVERY_S = 3_600.0
#: How long the last writing may take when the router ends.
CLOSE_S = 5.0
FILE_NAME = "usage.db"

T = TypeVar("T")
_log = logs.get("usage")


class Meter:
    """`append` is a Brain's log: it must cost next to nothing. `config` may be replaced."""

    def __init__(self, folder: Path, config: Usage) -> None:
        self.config = config
        self._ledger = Ledger()
        self._book = Book(folder / FILE_NAME)
        self._waiting: list[tuple[Plan, End]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="usage")
        self._lock = asyncio.Lock()
        self._retained = 0.0
        #: Why nothing can be written now; empty: it can.
        self._why = ""

    def append(self, plan: Plan, end: End) -> None:
        waiting = self._waiting
        waiting.append((plan, end))
        if len(waiting) >= WAITING_MAX:
            self.fold()

    def fold(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # Wall time of a monotonic moment: taken anew for each batch, so a set clock is followed.
        offset = clock.wall() - clock.monotonic()
        add = self._ledger.add
        for plan, end in waiting:
            add(plan, end, end.ended + offset)

    async def run(self) -> None:
        """Until cancelled."""
        written = clock.monotonic()
        while True:
            await asyncio.sleep(FOLD_S)
            self.fold()
            if clock.monotonic() - written >= self.config.write_s:
                await self.write()
                written = clock.monotonic()

    async def write(self) -> None:
        """What was counted until now is in the file afterwards, or `message` says why not."""
        self.fold()
        # Shielded: who is cancelled meanwhile must not leave a writing of unknown fate behind.
        await asyncio.shield(tasks.spawn(self._write(), "router.usage.write"))

    async def read(self, question: Question) -> list[Sums]:
        """What was counted until now. Raises BookError, TooMuchError."""
        await self.write()
        return await self._run(lambda: self._book.read(question))

    @property
    def message(self) -> str:
        """What went wrong and still matters; empty: nothing."""
        if self._why:
            return f"usage cannot be written and is kept in memory: {self._why}"
        return self._book.set_aside

    @property
    def off(self) -> str:
        """Says so while nothing is counted."""
        return "" if self.config.enabled else "usage is not counted: [usage] enabled is false"

    async def close(self) -> None:
        """The last requests have ended."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.write()
                await self._run(self._book.close)
        except TimeoutError:
            _log.error("the last usage was not written in time", rows=len(self._ledger))
        self._thread.shutdown(wait=False)

    async def _write(self) -> None:
        async with self._lock:
            rows = self._ledger.take()
            now, config = clock.wall(), self.config
            retains = config.enabled and abs(now - self._retained) >= RETAIN_EVERY_S
            if not rows and not retains and not self._why:
                return
            try:
                await self._run(lambda: self._book.add(rows))
            except BookError as why:
                self._ledger.give_back(rows)
                self._failed(str(why))
                return
            try:
                if retains:
                    await self._run(lambda: self._retain(now, config))
                    self._retained = now
            except BookError as why:
                self._failed(str(why))
                return
            if self._why:
                _log.info("usage is written again")
            self._why = ""

    def _retain(self, now: float, config: Usage) -> None:
        self._book.retain(now, hourly_days=config.hourly_days, keep_days=config.keep_days)

    def _failed(self, why: str) -> None:
        if not self._why:
            _log.error("usage cannot be written and is kept in memory", why=why)
        self._why = why

    async def _run(self, act: Callable[[], T]) -> T:
        before = self._book.set_aside
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        finally:
            if self._book.set_aside != before:
                _log.error("a damaged file of usage was set aside", what=self._book.set_aside)
