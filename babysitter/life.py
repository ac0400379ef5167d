"""One process of an engine, from our side: its handle, what watches it, how it comes to an end."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from babysitter import logtail, shim_client
from babysitter.cause import LOG_LINES_KEPT
from babysitter.shim_client import ShimError, ShimHandle
from babysitter.watch import Watch
from common import logs, tasks

#: A shim of an earlier version is asked for its engine's last words, which takes a millisecond; the
#: news that the engine is gone waits no longer than this for them.
LAST_WORDS_S = 0.05
LOG_FILE = "engine.log"


class Life:
    """`folder` is the engine's own."""

    def __init__(self, name: str, handle: ShimHandle, watch: Watch, folder: Path) -> None:
        self.handle = handle
        self.watch = watch
        self._name = name
        self._folder = folder
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping: asyncio.Task[Any] | None = None
        self._log = logs.get("engine", engine=name)

    def spawn(self, watcher: Coroutine[Any, Any, None], what: str) -> None:
        """A task that ends with this life at the latest."""
        self._watchers.append(tasks.spawn(watcher, f"{what} of {self._name}"))

    async def unwatch(self) -> None:
        await tasks.cancel(*self._watchers)

    def end(self, how: Coroutine[Any, Any, Any]) -> None:
        """`how` is the handle's `stop` or `kill`: it returns when none of it is left."""
        self._stopping = tasks.spawn(how, f"end of {self._name}")

    async def stopped(self) -> None:
        """Wait for the last `end`, where there was one."""
        if self._stopping is not None:
            await asyncio.wait([self._stopping])

    async def last_words(self) -> list[str]:
        """With the news of its end; where its shim did not tell, from the log, lives before
        included."""
        if self.handle.last_words is not None:
            return self.handle.last_words[-LOG_LINES_KEPT:]
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                return await self.handle.tail(LOG_LINES_KEPT)
        except (TimeoutError, ShimError):
            return await logtail.tail(self._folder / LOG_FILE, LOG_LINES_KEPT)

    async def clear(self) -> None:
        """Until nothing of it is left, its shim included."""
        await self.unwatch()
        try:
            if self.handle.lost:
                await sweep(self._name, self._folder)
            await self.handle.release()
        except ShimError as why:
            self._log.error("its shim does not end; all of it is ended", why=str(why))
            await sweep(self._name, self._folder)


async def sweep(name: str, folder: Path) -> None:
    """End what any life of this engine left."""
    if swept := await shim_client.sweep_orphans(folder):
        logs.get("engine", engine=name).warning("ended what an earlier life left", processes=swept)
