"""The cache that routers share: entries in Redis (or Valkey), which none of them waits for long.

    get ─▶ one GET, at most timeout_s ─▶ told once       put ─▶ one SET with its time to live

Where Redis is away or slow the cache is smaller, and no request is worse off: after a failure it
is left alone for AWAY_S, then one look-up tries it for all. What it has may be anybody's: an entry
that does not read as one is none.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from redis.exceptions import RedisError

from common import clock, redis_link, tasks
from common.redis_url import Access, Where
from router.cache.entry import Entry

#: After a failure nobody asks for so long.
AWAY_S = 5.0
CONNECTIONS_MAX = 32
#: Look-ups and writes on their way; what comes on top is not looked up, or not written.
GETS_MAX, PUTS_MAX = 24, 8

_log = structlog.get_logger("cache")


class _Stored(Struct, frozen=True, array_like=True):
    """As it stands in Redis. Times are in Unix seconds: each router has its own other clock."""

    #: Its key once more: whatever else an answer may be, it is the one that was asked for.
    key: bytes
    made: float
    until: float
    type: bytes
    events: bool
    service: str
    model: str | None
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


class SharedCache:
    """The `Shared` of router.cache.keeper."""

    def __init__(self, where: Where, access: Access, prefix: str) -> None:
        """`prefix`: what the names of all keys there begin with."""
        self._where = where
        self.timeout_s = access.timeout_s
        #: Commands that failed or were too slow.
        self.failures = 0
        self._prefix = prefix + "cache:"
        self._redis, self._sentinel = redis_link.client(
            where, access, connections_max=CONNECTIONS_MAX
        )
        self._gets: set[asyncio.Task[None]] = set()
        self._puts: set[asyncio.Task[None]] = set()
        #: Nobody asks before this moment. 0: it is there, as far as is known.
        self._away_until = 0.0

    @property
    def away(self) -> bool:
        return self._away_until > 0

    def get(self, key: bytes, told: Callable[[Entry | None], None]) -> bool:
        if len(self._gets) >= GETS_MAX or not self._may_ask():
            return False
        self._run(self._get(key, told), self._gets)
        return True

    def put(self, key: bytes, entry: Entry) -> None:
        if len(self._puts) < PUTS_MAX and not self._away_until:
            self._run(self._put(key, entry), self._puts)

    async def close(self) -> None:
        await tasks.cancel(*self._gets, *self._puts)
        for client in (self._redis, *(self._sentinel.sentinels if self._sentinel else ())):
            try:
                await client.aclose()
            except (*redis_link.AWAY, RedisError):
                pass  # it is away: nothing is left to close

    async def _get(self, key: bytes, told: Callable[[Entry | None], None]) -> None:
        entry = None
        try:
            async with asyncio.timeout(self.timeout_s):
                found: Any = await self._redis.get(self._name(key))
            self._back()
            entry = None if found is None else read(key, found, clock.wall(), clock.monotonic())
        except (*redis_link.AWAY, RedisError) as why:
            self._failed(why)
        told(entry)

    async def _put(self, key: bytes, entry: Entry) -> None:
        ahead = clock.wall() - clock.monotonic()
        stored = _Stored(
            key,
            entry.made + ahead,
            entry.until + ahead,
            entry.type,
            entry.events,
            entry.service,
            entry.model,
            entry.body,
        )
        left_ms = max(1, int((entry.until - clock.monotonic()) * 1000))
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._redis.set(self._name(key), _encode(stored), px=left_ms)
        except (*redis_link.AWAY, RedisError) as why:
            self._failed(why)

    def _name(self, key: bytes) -> str:
        return self._prefix + key.hex()

    def _may_ask(self) -> bool:
        if not self._away_until:
            return True
        now = clock.monotonic()
        if now < self._away_until:
            return False
        self._away_until = now + AWAY_S  # this one tries it; the others wait for what it finds
        return True

    def _back(self) -> None:
        if self._away_until:
            self._away_until = 0.0
            _log.info("the shared cache is back", where=str(self._where))

    def _failed(self, why: Exception) -> None:
        self.failures += 1
        if not self._away_until:
            _log.warning(
                "the shared cache is away: answers are kept here alone",
                where=str(self._where),
                why=(str(why).strip() or type(why).__name__).splitlines()[0][:200],
            )
        self._away_until = clock.monotonic() + AWAY_S

    def _run(self, act: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]) -> None:
        task = tasks.spawn(act, "cache.redis")
        running.add(task)
        task.add_done_callback(running.discard)


def read(key: bytes, data: bytes, wall: float, now: float) -> Entry | None:
    """An entry by this process's own clock; None for what is none, another's, or over."""
    try:
        found = _decode(data)
    except msgspec.DecodeError:
        return None
    if found.key != key or found.until <= wall:
        return None
    if b"\r" in found.type or b"\n" in found.type or not found.service.isprintable():
        return None
    made = now - max(0.0, wall - found.made)
    return Entry(
        found.type,
        found.events,
        found.body,
        found.service,
        found.model,
        made,
        now + found.until - wall,
    )
