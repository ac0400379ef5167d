"""Follows the registries of the configuration in force: one Watch at a time, over one Fleet.

registries or token change ─▶ the old watch ends ─▶ the next begins; fleet and table stay
no registry is left        ─▶ its services go: the file says that there are others alone
"""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import ClientSession

from common import http, logs, tasks
from common.wire.registry import WatchLoad
from router.fleet import Changes, Fleet
from router.watch import Link, Watch

_NONE = Link(why="no registry configured")

_log = logs.get("watch")


class Following:
    """Owns watch and session. `apply` and `reported` as `Watch` calls them."""

    def __init__(
        self,
        fleet: Fleet,
        apply: Callable[[Changes], None],
        *,
        reported: Callable[[WatchLoad], None],
        dice: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._apply = apply
        self._reported = reported
        self._dice = dice
        self._wanted: tuple[tuple[str, ...], str | None] = ((), None)
        self._changed = asyncio.Event()
        self._watch: Watch | None = None
        self._running: list[asyncio.Task[None]] = []
        self._session: ClientSession | None = None

    @property
    def link(self) -> Link:
        return _NONE if self._watch is None else self._watch.link

    def start(self, registries: tuple[str, ...], token: str | None) -> None:
        self._wanted = (registries, token)
        self._begin()

    async def tried(self, timeout_s: float) -> None:
        """Wait until every address was tried or one has synced."""
        if self._watch is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._watch.tried.wait()

    def change(self, registries: tuple[str, ...], token: str | None) -> None:
        """Follow these from now on; `run` sees to it."""
        if (registries, token) != self._wanted:
            self._wanted = (registries, token)
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._end()
            self._begin()

    async def close(self) -> None:
        """After `run` was cancelled."""
        await self._end()

    def _begin(self) -> None:
        registries, token = self._wanted
        if not registries:
            if self._fleet.records:
                _log.info(
                    "no registry any more: its services go", services=len(self._fleet.records)
                )
                self._apply(self._fleet.forget())
            return
        self._session = http.client(token=token)
        self._watch = Watch(
            registries,
            self._session,
            self._fleet,
            self._apply,
            reported=self._reported,
            dice=self._dice,
        )
        self._running = [
            tasks.spawn(self._watch.run(), "router.watch", fatal=True),
            tasks.spawn(self._watch.compare(), "router.compare", fatal=True),
        ]

    async def _end(self) -> None:
        """What the old watch still holds is applied as it ends: the next one reads the fleet."""
        running, self._running = self._running, []
        session, self._session = self._session, None
        await tasks.cancel(*running)
        self._watch = None
        if session is not None:
            await session.close()
