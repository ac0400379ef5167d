"""The keeper of a table that other registries change too.

    do(command) ─▶ draft ─▶ commit ─┬─ done ─▶ adopt ─▶ publish ─▶ answers
         ▲                          └─ overtaken ─▶ take what others did ─┐
         └────────────────── decide anew ◀───────────────────────────────┘
    follow: a notice, or a second ─▶ take what others did
    beats that change nothing ─▶ true here at once, told to the store ten times a second

What a draft refuses is refused only after the store was asked for news: another registry may know
better. While the store is away lease time stands still, nothing is registered, and beats are noted
but not acknowledged, so that a babysitter tries a registry which the store can still be reached
from; they are told to the store before lease time goes on.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog

from common import clock
from common.wire.registry import Beat
from registry import commands as ask
from registry import shared
from registry.keeper import Keeper, Waiting
from registry.lease_clock import LeaseClock
from registry.shared import Whole
from registry.state import Change
from registry.store import AwayError, Heard, Overtaken, SharedStore, StoreError
from registry.table import Table

_log = structlog.get_logger("keeper")

POLL_S = 1.0  # a notice may be lost, and a silent store must be found out
RETRY_S = 0.2
BEATS_EVERY_S = 0.1
OVERTAKEN_MAX = 50  # in a row, the batch halved each time: others then hold the store up for good


class _Unasked:
    """In the place of a store of one's own, which a shared table has not."""

    async def open(self) -> NoReturn:
        raise NotImplementedError

    async def commit(self, batch: object) -> NoReturn:
        raise NotImplementedError

    async def close(self) -> None:
        return None


class SharedKeeper(Keeper):
    """`away` is why the store can't be reached, None while it can. `reset` tells watchers that the
    table is another now."""

    def __init__(
        self,
        table: Table,
        store: SharedStore,
        lease_clock: LeaseClock,
        *,
        publish: Callable[[Sequence[Change]], None],
        reset: Callable[[], None],
        tick_s: float,
        pending_max: int,
    ) -> None:
        super().__init__(
            table,
            _Unasked(),
            lease_clock,
            publish=publish,
            tick_s=tick_s,
            pending_max=pending_max,
        )
        self.away: str | None = None
        self._shared = store
        self._reset = reset
        self._turn = asyncio.Lock()  # commits and news come one after the other
        self._noted: dict[str, dict[str, float] | None] = {}
        self._has_noted = asyncio.Event()
        self._touched_at = clock.monotonic()

    async def do(self, command: ask.Command) -> ask.Answer:
        if self.away is not None:
            raise StoreError(self.away)
        return await super().do(command)

    async def beat(self, name: str, beat: Beat) -> ask.Answer:
        free = self._draft is None or not self._draft.touches(name)
        if free and self.table.quiet_beat(name, beat, self.now()):
            self._note(name, beat.load)
            if self.away is not None:
                raise StoreError(f"{self.away}; the beat is noted")
            return ask.Done()
        return await self.do(ask.Heartbeat(name, beat))

    # commands

    async def _carry_out(self, waiting: Waiting) -> None:
        todo = list(waiting)
        most, tries, is_sure = len(todo), 0, False
        while todo:
            part = todo[:most]
            async with self._turn:
                try:
                    is_done = await self._attempt(part, is_sure)
                except StoreError as why:
                    if isinstance(why, AwayError):
                        self._lost_touch(str(why))
                    self._fail(part, why)
                    is_done = True
            is_sure = not is_done
            tries = 0 if is_done else tries + 1
            if is_done:
                todo = todo[most:]
            elif tries >= OVERTAKEN_MAX:
                self._fail(part, StoreError("other registries were always first"))
                todo = todo[most:]
            elif tries > 1:
                most = max(1, most // 2)  # what takes less time is overtaken less

    async def _attempt(self, part: Waiting, is_sure: bool) -> bool:
        """False: it must be decided anew, upon news that were taken. Raises StoreError."""
        if self.away is not None:
            raise StoreError(self.away)
        now = self.now()
        draft = self.table.draft()
        answers = [draft.do(command, now) for command, _ in part]
        doubted = not is_sure and any(isinstance(one, ask.Refused) for one in answers)
        if doubted and await self._catch_up():
            return False
        batch = draft.batch()
        self._draft = draft
        try:
            if batch:
                await self._shared.commit(batch, now.at)
                self._touched_at = clock.monotonic()
                self._committed()
        except Overtaken as first:
            self._draft = None
            for name, silent_s in first.heard.items():
                self.table.heard(name, silent_s, self.now())
            if not first.heard:
                await self._catch_up()
            return False
        finally:
            self._draft = None
        self._adopt(draft, part, answers)
        for (command, _), answer in zip(part, answers, strict=True):
            if isinstance(command, ask.Heartbeat) and isinstance(answer, ask.Done):
                self._note(command.name, command.beat.load)
        return True

    # what others did

    async def follow(self) -> NoReturn:
        """Take what other registries do, until cancelled."""
        while True:
            try:
                for heard in await self._shared.wait(POLL_S):
                    self._take_heard(heard)
                async with self._turn:
                    await self._catch_up()
                await self._in_touch()
            except StoreError as why:
                self._lost_touch(str(why))
                await asyncio.sleep(RETRY_S)

    def _take_heard(self, heard: Heard) -> None:
        now = self.now()
        for name, load in heard.loads.items():
            self.table.heard(name, 0.0, now, load)

    async def _catch_up(self) -> bool:
        """Whether anything was new."""
        found = await self._shared.news(self._mine)
        self._touched_at = clock.monotonic()
        now = self.now()
        clocks = self._shared.clocks(now.at)
        if isinstance(found, Whole):
            self.table.become(found, now, clocks)
            self._reset()
            return True
        for news in found:
            draft = self.table.draft()
            draft.take(news, now, clocks)
            self._publish(self.table.adopt(draft))
        return bool(found)

    def _mine(self) -> Whole:
        """All that this registry knows, for a store that lost it."""
        table = self.table
        clocks = self._shared.clocks(self.now().at)
        return Whole(
            epoch=table.epoch,
            revision=table.revision,
            entries=tuple(shared.kept(one, clocks) for one in table.entries.values()),
            silent_s={},
            retired={life: one.lease_s for life, one in table.retired.items()},
            drained=frozenset(table.drained),
        )

    # beats

    def _note(self, name: str, load: dict[str, float] | None) -> None:
        known = self._noted.get(name)
        self._noted[name] = known if load is None else load
        self._has_noted.set()

    async def keep_telling_beats(self) -> NoReturn:
        """Tell the store who was heard, until cancelled."""
        while True:
            await self._has_noted.wait()
            await asyncio.sleep(BEATS_EVERY_S)
            if self.away is not None:
                await asyncio.sleep(RETRY_S)  # `_in_touch` tells them
                continue
            try:
                await self._tell_beats()
            except StoreError as why:
                if isinstance(why, AwayError):
                    self._lost_touch(str(why))

    async def _tell_beats(self) -> None:
        noted, self._noted = self._noted, {}
        self._has_noted.clear()
        if not noted:
            return
        try:
            await self._shared.beats(Heard(noted))
        except BaseException:
            self._noted = noted | self._noted
            self._has_noted.set()
            raise

    # the store comes and goes

    def _lost_touch(self, why: str) -> None:
        if self.away is None:
            _log.error(
                "the shared store is away: nothing expires, nothing can be registered", why=why
            )
            self._clock.pause(clock.monotonic(), self._touched_at)
        self.away = self.store_error = f"the shared store is away: {why}"

    async def _in_touch(self) -> None:
        if self.away is None:
            return
        await self._tell_beats()  # before anybody's time goes on
        self._clock.resume(clock.monotonic())
        self.away = self.store_error = None
        _log.info("the shared store answers again", services=len(self.table.entries))
