"""Usage in Redis, where all routers that are told the same `redis` add to the same sums.

    <prefix>usage:h:<start>   hash of a day (UTC), by the hour   goes after `hourly_days`
    <prefix>usage:d:<start>   hash of a day                      goes after `keep_days`
    <prefix>usage:batch:<id>  this batch was added               goes after BATCH_S

A field is a row and a column, as JSON. A batch is added by one script, and once, however often it
is sent: a reply that is lost costs nothing, and doubles nothing.
"""

import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from common import clock
from common.redis_link import AWAY, client
from common.redis_url import Access, Where
from router.config import Usage
from router.usage import store
from router.usage.rows import COLUMNS, DAY_S, HOUR_S, Row, Rows
from router.usage.store import BookError, KeptError, Question, Sums

#: One batch holds up Redis for a few milliseconds.
ROWS_PER_BATCH = 200
#: Batches that wait for a Redis that may have them.
BATCHES_MAX = 100
#: How long a batch is known: a router that lost a reply asks again every few seconds.
BATCH_S = 86_400
#: Off the path of requests there is time.
TIMEOUT_S = 2.0
DAYS_AT_ONCE = 20

T = TypeVar("T")

_ADD = """
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
local at = 2
for i = 2, #KEYS do
  local last = at + 2 + 2 * tonumber(ARGV[at + 1])
  redis.call('HINCRBY', KEYS[i], ARGV[at + 2], ARGV[at + 3])
  redis.call('EXPIREAT', KEYS[i], ARGV[at])
  for j = at + 4, last - 1, 2 do redis.call('HINCRBY', KEYS[i], ARGV[j], ARGV[j + 1]) end
  at = last
end
return 1
"""


class Batch:
    """What one script is given."""

    def __init__(self, prefix: str, rows: Iterable[tuple[Row, Any]], config: Usage) -> None:
        self.keys = [f"{prefix}usage:batch:{secrets.token_hex(8)}"]
        self.arguments: list[str | bytes | int] = [BATCH_S]
        hashes: defaultdict[tuple[str, int], list[bytes | int]] = defaultdict(list)
        for row, counts in rows:
            day = row.start // DAY_S * DAY_S
            for kind, start in (("h", row.start), ("d", day)):
                said = hashes[kind, day]
                for column, value in zip(COLUMNS, counts.values(), strict=True):
                    if value:
                        said += [msgspec.json.encode((start, *row[1:], column)), value]
        for (kind, day), said in hashes.items():
            if not said:
                continue
            days = config.hourly_days if kind == "h" else config.keep_days
            self.keys.append(f"{prefix}usage:{kind}:{day}")
            self.arguments += [day + (days + 1) * DAY_S, len(said) // 2, *said]


class RedisStore:
    """A `Store`. `config` as it is now."""

    of = "all routers"
    set_aside = ""

    def __init__(
        self, where: Where, access: Access, prefix: str, config: Callable[[], Usage]
    ) -> None:
        patient = replace(access, timeout_s=max(access.timeout_s, TIMEOUT_S))
        self._redis: Redis
        self._sentinel: Sentinel | None
        self._redis, self._sentinel = client(where, patient, connections_max=4)
        self._prefix = prefix
        self._config = config
        #: Sent or to be sent, and not answered.
        self._batches: list[Batch] = []

    async def add(self, rows: Rows) -> None:
        if len(self._batches) >= BATCHES_MAX:
            await self._send()
        new = [
            Batch(self._prefix, some, self._config())
            for some in _pieces(rows.items(), ROWS_PER_BATCH)
        ]
        self._batches += new
        try:
            await self._send()
        except BookError as why:
            raise KeptError(str(why)) from why

    async def _send(self) -> None:
        while self._batches:
            batch = self._batches[0]
            await self._ask(self._redis.eval(_ADD, len(batch.keys), *batch.keys, *batch.arguments))
            del self._batches[0]

    async def retain(self, now: float, *, hourly_days: int, keep_days: int) -> None:
        """Redis does it."""

    async def read(self, question: Question) -> list[Sums]:
        found: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * len(COLUMNS))
        if not question.by:
            found[()] = [0] * len(COLUMNS)
        for days in _pieces(self._days(question, clock.wall()), DAYS_AT_ONCE):
            hours = await self._hashes("h", days)
            for fields in hours.values():
                _sum(fields, HOUR_S, question, found)
            for fields in (await self._hashes("d", [d for d in days if d not in hours])).values():
                _sum(fields, DAY_S, question, found)
        return store.bounded(Sums(names, tuple(found[names])) for names in sorted(found))

    async def _hashes(self, kind: str, days: Iterable[int]) -> dict[int, dict[bytes, bytes]]:
        """Those that are there, by day."""
        asked = list(days)
        pipe = self._redis.pipeline(transaction=False)
        for day in asked:
            pipe.hgetall(f"{self._prefix}usage:{kind}:{day}")
        answers = await self._ask(pipe.execute()) if asked else []
        return {day: found for day, found in zip(asked, answers, strict=True) if found}

    def _days(self, question: Question, now: float) -> Iterable[int]:
        """Those that may be kept and are asked for."""
        today = int(now) // DAY_S * DAY_S
        first = max(int(question.start), today - self._config().keep_days * DAY_S)
        last = min(int(question.end), today + DAY_S)
        return range(first // DAY_S * DAY_S, last + 1, DAY_S)

    async def close(self) -> None:
        await self._redis.aclose()
        for one in self._sentinel.sentinels if self._sentinel is not None else ():
            await one.aclose()

    async def _ask(self, command: Any) -> Any:
        try:
            return await cast("Awaitable[Any]", command)
        except (*AWAY, RedisError) as why:
            raise BookError(f"Redis: {why}") from why


def _pieces(found: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(found)
    while piece := list(islice(rest, size)):
        yield piece


def _sum(
    fields: dict[bytes, bytes],
    span: int,
    question: Question,
    found: defaultdict[tuple[str, ...], list[int]],
) -> None:
    for field, value in fields.items():
        try:
            start, *names, column = msgspec.json.decode(field)
            row = Row(start, *names)
            at = COLUMNS.index(column)
        except (msgspec.DecodeError, TypeError, ValueError):
            continue  # of a version to come
        if question.wants(row, span):
            found[tuple(_name(row, span, by) for by in question.by)][at] += int(value)


def _name(row: Row, span: int, by: str) -> str:
    """As SQLite's strftime would say it."""
    moment = clock.wire_time(row.start)
    match by:
        case "month":
            return moment[:7]
        case "day":
            return moment[:10]
        case "hour":
            return f"{moment[:16]}Z" if span == HOUR_S else moment[:10]
        case _:
            found: str = getattr(row, by)
            return found
