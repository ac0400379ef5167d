"""Asks Redis what `router.shares` wants to know, and tells it what ended. The IO, and no decision.

    asks   as they come, all that wait in one pipeline; two on the way at once
    ends   before the next ask, with it; else after 20 ms, or at once where a place comes free
    runs   who still does, every ten seconds
    away   a probe every 200 ms: the scripts are loaded, then it is UP

Each trip is bounded in time by the client; whatever goes wrong means AWAY.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from common import clock, logs, redis_link, tasks
from common.redis_link import AWAY
from common.redis_url import Access, Where
from router import limit_scripts as scripts
from router.limit_terms import Addition, Asking, Settlement
from router.shares import LEASE_S, RENEW_S, Shares

#: Pipelines of asks on the way at once: one more goes out while another's answer is awaited.
_LANES = 2
_CONNECTIONS_MAX = _LANES + 4
#: How long ends are collected.
_ENDS_EVERY_S = 0.02
#: Scripts of ends in one pipeline.
_ENDS_MAX = 20
_PROBE_EVERY_S = 0.2
#: Ids of one RENEW: it bounds how long a script holds Redis.
_IDS_MAX = 500

_log = logs.get("limits")


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_TAKE, _SETTLE = _Script(scripts.take()), _Script(scripts.settle())
_RENEW, _ADD = _Script(scripts.renew()), _Script(scripts.add())
_ALL = (_TAKE, _SETTLE, _RENEW, _ADD)

#: A script, how many keys, then keys and ARGV.
_Call = tuple[_Script, int, list[str | int]]


class SharedLimits:
    """`alone` says whether this router holds the limits by itself while Redis is away."""

    def __init__(
        self, where: Where, access: Access, prefix: str, *, alone: Callable[[], bool]
    ) -> None:
        self.shares = Shares(secrets.token_hex(6), timeout_s=access.timeout_s)
        self._where = where
        self._prefix = prefix
        self._alone = alone
        self._redis: Redis
        self._sentinel: Sentinel | None
        self._redis, self._sentinel = redis_link.client(
            where, access, connections_max=_CONNECTIONS_MAX
        )
        self._asks_wait = asyncio.Event()
        self._ends_wait = asyncio.Event()
        self._hurry = asyncio.Event()
        #: It is away.
        self._went = asyncio.Event()
        #: It knows what was granted without it: asks may go out.
        self._caught_up = asyncio.Event()
        #: Times that it came back: what fails late says nothing of now.
        self._life = 0
        self.shares.asks_wait = self._asks_wait.set
        self.shares.ends_wait = self._ends_wait.set
        self.shares.hurry = self._hurry.set
        self._told_away = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """One try: a Redis that is away stops no router."""
        await self._probe()
        for _ in range(_LANES):
            self._spawn(self._ask(), "limits.ask")
        self._spawn(self._end(), "limits.end")
        self._spawn(self._renew(), "limits.renew")
        self._spawn(self._watch(), "limits.watch")

    async def close(self) -> None:
        """What has ended is told, if Redis is there."""
        await tasks.cancel(*self._tasks)
        if self.shares.up:
            await self._tell_ends()
        for client in (self._redis, *(self._sentinel.sentinels if self._sentinel else ())):
            try:
                await client.aclose()
            except (RedisError, *AWAY):
                pass  # it is away: nothing is left to close

    def _spawn(self, coro: Any, name: str) -> None:
        self._tasks.append(tasks.spawn(coro, name, fatal=True))

    # --- asks -----------------------------------------------------------------------------------

    async def _ask(self) -> None:
        shares = self.shares
        while True:
            await self._asks_wait.wait()
            self._asks_wait.clear()
            await self._caught_up.wait()
            while batch := shares.take_asks():
                await self._take(batch)

    async def _take(self, batch: Sequence[Asking]) -> None:
        shares = self.shares
        ends = self._batches()
        asks = [(_TAKE, *shares.take_arguments(one, self._prefix)) for one in batch]
        answers = await self._call([*map(self._settle, ends), *asks])
        if answers is None:
            self._unsent(ends)
            return
        now = clock.monotonic()
        for asking, answer in zip(batch, answers[len(ends) :], strict=True):
            shares.answered(asking, answer, now)

    # --- ends -----------------------------------------------------------------------------------

    async def _end(self) -> None:
        while True:
            await self._ends_wait.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _ENDS_EVERY_S)
            self._ends_wait.clear()
            self._hurry.clear()
            if self.shares.up:
                if self.shares.tidy():
                    self._ends_wait.set()
                await self._tell_ends()

    async def _tell_ends(self) -> None:
        shares = self.shares
        while True:
            additions = shares.additions()
            batches = self._batches()
            calls = [*map(self._add, additions), *map(self._settle, batches)]
            if not calls:
                return
            if await self._call(calls) is None:
                self._unsent(batches)
                shares.unsent((), additions)
                return

    def _batches(self) -> list[list[Settlement]]:
        return [found for _ in range(_ENDS_MAX) if (found := self.shares.settlements())]

    def _unsent(self, batches: Sequence[list[Settlement]]) -> None:
        for found in reversed(batches):
            self.shares.unsent(found)

    def _settle(self, settlements: Iterable[Settlement]) -> _Call:
        keys: list[str | int] = []
        said: list[str | int] = []
        for one in settlements:
            keys += scripts.keys(self._prefix, one.name)
            said += [one.id, one.tpm, one.cost, -1 if one.used is None else one.used]
        return _SETTLE, len(keys), keys + said

    def _add(self, one: Addition) -> _Call:
        keys = [*scripts.keys(self._prefix, one.name), scripts.added(self._prefix, one.id)]
        said = [one.rpm, one.tpm, one.requests, one.tokens]
        return _ADD, len(keys), [*keys, *said, one.requests_before, one.tokens_before]

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            if self.shares.up:
                await self._call(list(self._renewals()))

    def _renewals(self) -> Iterable[_Call]:
        for name, ids in self.shares.running():
            keys = scripts.keys(self._prefix, name)
            for at in range(0, len(ids), _IDS_MAX):
                part = ids[at : at + _IDS_MAX]
                yield _RENEW, len(keys), [*keys, int(LEASE_S * 1000), *part]

    # --- there or away --------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            if self.shares.up:
                await self._went.wait()
            await asyncio.sleep(_PROBE_EVERY_S)
            await self._probe()

    async def _probe(self) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as asked:
                for script in _ALL:
                    asked.script_load(script.text)
                asked.time()
                found = await self._answers(asked)
        except (RedisError, *AWAY) as why:
            self._is_away(why)
            return
        seconds, micros = found[-1]
        self._life += 1
        self._went.clear()
        redis_ms = seconds * 1000 + micros // 1000
        self.shares.back(redis_ms, clock.monotonic(), alone=self._alone())
        # What this router granted alone is counted, and keeps its places, before more is granted.
        await self._call(list(self._renewals()))
        await self._tell_ends()
        if not self.shares.up:
            return
        self._caught_up.set()
        if self._told_away:
            self._told_away = False
            _log.info("limits are shared again", redis=str(self._where))

    def _is_away(self, why: BaseException) -> None:
        self._caught_up.clear()
        self._went.set()
        self.shares.lost(clock.monotonic())
        if not self._told_away:
            self._told_away = True
            _log.warning(
                "Redis is away: limits are not shared", redis=str(self._where), why=_words(why)
            )

    # --- trips ----------------------------------------------------------------------------------

    async def _call(self, calls: Sequence[_Call]) -> list[Any] | None:
        """The answers, in order. None: it is away now."""
        if not calls:
            return []
        life = self._life
        try:
            async with self._redis.pipeline(transaction=False) as asked:
                for script, keys, said in calls:
                    asked.evalsha(script.sha, keys, *said)
                return await self._answers(asked)
        except (RedisError, *AWAY) as why:
            # One that was started anew forgot the scripts: the probe loads them again.
            if life == self._life:
                self._is_away(why)
        return None

    async def _answers(self, asked: Pipeline) -> list[Any]:
        found: Awaitable[list[Any]] = asked.execute()
        answers = await found
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError  # the client swallows one that comes while it times out
        return answers


def _words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
