"""`/watch`: hands one change log to any number of consumers.

Each consumer is a cursor into the log. One that takes nothing for `watch_stall_s`, or whose cursor
falls off the log, is cut; it reconnects and gets what is left to know, or a reset.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from aiohttp import web

from common.http import HttpError
from registry import changes
from registry.changes import ChangeLog
from registry.config import Config
from registry.records import served
from registry.state import Change
from registry.table import Table

BURST = 64  # events written at once: bounds what one consumer buffers
LOAD_EVERY_S = 1.0


class Feed:
    """`publish` is called for what became true; `serve` is a consumer's request, until it ends."""

    def __init__(self, table: Table, config: Config, *, shared: bool = False) -> None:
        """`shared`: other registries serve the same table, and the same ids."""
        self._table = table
        self._config = config
        self._shared = shared
        self._log = self._new_log()
        self._wakers: set[asyncio.Event] = set()
        self.is_closing = False
        self._load_round = 0
        self._load_news = b""
        self.cut = 0  # consumers cut for being slow

    @property
    def watchers(self) -> int:
        return len(self._wakers)

    def publish(self, news: Sequence[Change]) -> None:
        if news:
            self._log.append(news)
            self._wake()

    def restart(self) -> None:
        """The table became another: every consumer gets all of it."""
        self._log = self._new_log()
        self._wake()

    def _new_log(self) -> ChangeLog:
        limits = self._config.limits
        return ChangeLog(
            self._table.epoch,
            self._table.revision,
            events_max=limits.changes_max,
            bytes_max=limits.changes_bytes_max,
            shared=self._shared,
        )

    def close(self) -> None:
        """End every consumer's request: the daemon stops."""
        self.is_closing = True
        self._wake()

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.is_closing:
            raise HttpError(503, "the registry is stopping", "stopping")
        if len(self._wakers) >= self._config.limits.watchers_max:
            raise HttpError(503, f"{len(self._wakers)} consumers watch already", "overloaded")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            await response.prepare(request)
            await self._feed(_Consumer(response, self._config.limits.watch_stall_s), waker, request)
        except (TimeoutError, _FellBehind):
            self.cut += 1
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass
        finally:
            self._wakers.discard(waker)
        return response

    async def _feed(
        self, consumer: "_Consumer", waker: asyncio.Event, request: web.Request
    ) -> None:
        log = self._log
        cursor = log.resumes(request.headers.get("Last-Event-ID"))
        if cursor is None:
            cursor = await self._whole_table(consumer, log)
        else:
            cursor = await self._catch_up(consumer, log, cursor)
            await consumer.write(changes.synced(log.epoch, cursor))
        load_round = -1
        while not self.is_closing:
            waker.clear()
            if log is not self._log:
                log = self._log
                cursor = await self._whole_table(consumer, log)
            cursor = await self._catch_up(consumer, log, cursor)
            load_round = await self._tell_loads(consumer, load_round)
            quiet_s = self._config.keep_alive_s - consumer.silent_s
            if quiet_s <= 0:
                await consumer.write(changes.KEEP_ALIVE)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(quiet_s):
                    await waker.wait()

    async def _whole_table(self, consumer: "_Consumer", log: ChangeLog) -> int:
        """A reset, every service as it is now, synced. The cursor to go on from."""
        revision = self._table.revision
        entries = list(self._table.entries.values())  # immutable: true as of `revision`
        await consumer.write(changes.reset(log.epoch))
        for start in range(0, len(entries), BURST):
            burst = entries[start : start + BURST]
            await consumer.write(b"".join(changes.put(served(entry)) for entry in burst))
            await asyncio.sleep(0)  # 10,000 services must not hold up a beat
        await consumer.write(changes.synced(log.epoch, revision))
        return revision

    async def _catch_up(self, consumer: "_Consumer", log: ChangeLog, cursor: int) -> int:
        while cursor < log.last:
            if not log.has(cursor):
                raise _FellBehind
            news = log.after(cursor, BURST)
            cursor += len(news)
            await consumer.write(b"".join(news))
        return cursor

    async def _tell_loads(self, consumer: "_Consumer", told: int) -> int:
        """The loads since round `told`: the last round's changes, or all that are known."""
        if told == self._load_round or not self._table.loads:
            return self._load_round
        if told == self._load_round - 1:
            news = self._load_news
        else:
            news = b"".join(changes.loads(self._table.loads))
        if news:
            await consumer.write(news)
        return self._load_round

    async def keep_telling_loads(self) -> NoReturn:
        """Once a second, what changed of all loads, framed once for everybody."""
        told: dict[str, dict[str, float]] = {}
        while True:
            await asyncio.sleep(LOAD_EVERY_S)
            loads = self._table.loads
            fresh = {name: load for name, load in loads.items() if told.get(name) != load}
            if fresh:
                told = dict(loads)
                self._load_news = b"".join(changes.loads(fresh))
                self._load_round += 1
                self._wake()


class _FellBehind(Exception):
    """The log no longer holds what this consumer needs next."""


class _Consumer:
    """One response, and when it last got something."""

    def __init__(self, response: web.StreamResponse, stall_s: float) -> None:
        self._response = response
        self._stall_s = stall_s
        self._wrote_at = self._now

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def silent_s(self) -> float:
        return self._now - self._wrote_at

    async def write(self, data: bytes) -> None:
        """Raises TimeoutError when nothing is taken for too long, ConnectionError when it left."""
        async with asyncio.timeout(self._stall_s):
            await self._response.write(data)
        self._wrote_at = self._now
