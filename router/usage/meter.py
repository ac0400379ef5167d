"""Counts usage beside the requests: on their path an ended one is only appended.

    append ─▶ every FOLD_S ─▶ Ledger ─▶ every `write_s`, off the loop ─▶ Store

Usage is never worth a request: what cannot be written waits in memory, and `message` tells it.
A router that is killed loses what it counted since the last writing; one that is stopped, nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from math import inf

from common import clock, logs, tasks
from router.config import Usage
from router.errors import Problem
from router.plan import Plan
from router.seam import End
from router.usage import budgets
from router.usage.budgets import Bounds, Spending, Who
from router.usage.ledger import Ledger
from router.usage.rows import Rows
from router.usage.store import BookError, KeptError, Question, Store, Sums, TooMuchError

#: What is folded at once holds the loop for a few microseconds a request.
FOLD_S = 0.1
#: Ends that wait to be folded; above it they are folded where they stand.
WAITING_MAX = 5_000
RETAIN_EVERY_S = 3_600.0
#: How often the sums of the month are read again: other routers may have added to them.
LOOK_EVERY_S = 60.0
#: How long the last writing may take when the router ends.
CLOSE_S = 5.0

_log = logs.get("usage")


def _nobody(_: Mapping[Who, Problem]) -> None:
    """Nobody asks for budgets."""


def months(now: float) -> tuple[str, str]:
    """The first days of the month that `now` is in, and of the next (UTC)."""
    year, month = map(int, clock.wire_time(now)[:7].split("-"))
    return f"{year:04}-{month:02}-01", f"{year + month // 12:04}-{month % 12 + 1:02}-01"


class Meter:
    """`append` is a Brain's log: it must cost next to nothing. `config` may be replaced."""

    def __init__(
        self, store: Store, config: Usage, tell: Callable[[Mapping[Who, Problem]], None] = _nobody
    ) -> None:
        """`tell` hears who has used up a budget, whenever that is looked at."""
        self.config = config
        #: Budgets of keys and tenants.
        self.bounds = Bounds()
        self._tell = tell
        self._spending = Spending()
        self._looked = -inf
        self._ledger = Ledger()
        self._store = store
        self._waiting: list[tuple[Plan, End]] = []
        self._lock = asyncio.Lock()
        self._retained = 0.0
        #: Why nothing can be written now; empty: it can.
        self._why = ""
        self._set_aside = ""

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
                await self.look()
                written = clock.monotonic()

    async def write(self) -> None:
        """What was counted until now is in the file afterwards, or `message` says why not."""
        self.fold()
        # Shielded: who is cancelled meanwhile must not leave a writing of unknown fate behind.
        await asyncio.shield(tasks.spawn(self._write(), "router.usage.write"))

    async def look(self) -> None:
        """Whose budget is used up now."""
        if not self.bounds.of:
            self._tell({})
            return
        this, following = months(clock.wall())
        start, now = int(clock.parse_wire_time(this)), clock.monotonic()
        if self._spending.start != start or now - self._looked >= LOOK_EVERY_S:
            async with self._lock:  # what is written meanwhile would be in neither sum
                try:
                    sums = await self._store.read(Question(by=budgets.BY, start=start))
                except (BookError, TooMuchError) as why:
                    _log.error("what was used this month is not known", why=str(why))
                    if self._spending.start != start:
                        self._spending = Spending(start)
                else:
                    self._spending = Spending(start, sums)
                self._looked = now
        self.fold()
        self._tell(self._spending.over(self.bounds, self._ledger.rows, this[:7], following))

    async def read(self, question: Question) -> list[Sums]:
        """What was counted until now. Raises BookError, TooMuchError."""
        await self.write()
        return await self._store.read(question)

    @property
    def of(self) -> str:
        """Whose requests `read` tells of."""
        return self._store.of

    @property
    def message(self) -> str:
        """What went wrong and still matters; empty: nothing."""
        if self._why:
            return f"usage cannot be written and is kept in memory: {self._why}"
        return self._store.set_aside

    @property
    def off(self) -> str:
        """Says so while nothing is counted."""
        return "" if self.config.enabled else "usage is not counted: [usage] enabled is false"

    async def close(self) -> None:
        """The last requests have ended."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.write()
        except TimeoutError:
            self._failed("it took too long")
        if self._why:
            _log.error("the last usage could not be written and is lost", rows=len(self._ledger))
        with contextlib.suppress(TimeoutError):  # a disk that stands still holds up nobody
            async with asyncio.timeout(CLOSE_S):
                await self._store.close()

    async def _write(self) -> None:
        async with self._lock:
            rows = self._ledger.take()
            now, config = clock.wall(), self.config
            retains = config.enabled and abs(now - self._retained) >= RETAIN_EVERY_S
            if not rows and not retains and not self._why:
                return
            try:
                await self._add(rows)
                if retains:
                    days, kept = config.hourly_days, config.keep_days
                    await self._store.retain(now, hourly_days=days, keep_days=kept)
                    self._retained = now
            except BookError as why:
                self._failed(str(why))
            else:
                if self._why:
                    _log.info("usage is written again")
                self._why = ""
            if self._store.set_aside != self._set_aside:
                self._set_aside = self._store.set_aside
                _log.error("a damaged file of usage was set aside", what=self._set_aside)

    async def _add(self, rows: Rows) -> None:
        try:
            await self._store.add(rows)
        except KeptError:
            self._spending.add(rows)
            raise
        except BookError:
            self._ledger.give_back(rows)
            raise
        self._spending.add(rows)

    def _failed(self, why: str) -> None:
        if not self._why:
            _log.error("usage cannot be written and is kept in memory", why=why)
        self._why = why
