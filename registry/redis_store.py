"""The table in Redis (or Valkey), shared by any number of registries.

    commit ─▶ one script: nobody was first? nobody was heard? then records, revision, change, notice
    wait   ─▶ a notice of another's commit, or of beats that changed nothing ─▶ news

Each batch has a number (`seq`) and a random name (`stamp`) and says the stamp before it: so a
registry finds out that Redis lost what it had acknowledged, even where others wrote on since.
Then a new epoch begins with what this registry knows, and watchers get a reset.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio.client import PubSub
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from common import clock, redis_link, redis_url
from common.errors import RefusalError
from common.redis_url import Where
from registry import redis_scripts as scripts
from registry import shared
from registry.shared import Clocks, Kept, News, Whole
from registry.state import Batch, Life
from registry.store import AwayError, Heard, Overtaken, StoreError, new_epoch

_log = structlog.get_logger("store")

SCHEMA = 1
CHANGES_MAX = 4096  # batches that a registry may miss before it reads everything anew
NEWS_MAX = 256  # batches read at once
CONNECTIONS_MAX = 16
OPEN_TRIES_S = 3.0  # both may start at once
RENEWALS_MAX = 50  # in a row, each overtaken by another's batch
NAMES_MAX = 2_000  # of one script for beats: bounds how long it holds Redis

T = TypeVar("T")
_encode = msgspec.json.encode
_news = msgspec.json.Decoder(News).decode
_kept = msgspec.json.Decoder(Kept).decode


class Position(Struct, frozen=True):
    """Up to which batch this registry has taken everything."""

    epoch: str = ""
    seq: int = -1
    stamp: str = ""


class _Notice(Struct, frozen=True):
    """What travels on the channel: a commit's number, or what was heard."""

    origin: str
    seq: int | None = None
    loads: dict[str, dict[str, float] | None] | None = None


_notice = msgspec.json.Decoder(_Notice).decode


class Access(redis_url.Access, frozen=True, kw_only=True):
    prefix: str = "creche:"


class _Lost(Exception):
    """Redis does not have what it had acknowledged."""


class _Missed(Exception):
    """More was committed than `changes` still has."""


class RedisStore:
    """A `SharedStore` at `where`."""

    def __init__(self, where: Where, access: Access) -> None:
        self._where = where
        self._prefix = access.prefix
        self._origin = secrets.token_hex(8)
        self._timeout_ms = round(access.timeout_s * 1000)
        self._redis, self._sentinel = redis_link.client(
            where, access, connections_max=CONNECTIONS_MAX
        )
        self._keys = [access.prefix + key for key in scripts.KEYS]
        self._channel = access.prefix + "notices"
        self._commit = self._redis.register_script(scripts.COMMIT)
        self._beats = self._redis.register_script(scripts.BEATS)
        self._renew = self._redis.register_script(scripts.RENEW)
        self._duty = self._redis.register_script(scripts.DUTY)
        self._pubsub: PubSub | None = None
        self._position = Position()
        self._ahead_ms = 0.0  # the store's clock minus this machine's monotonic one

    # the interface

    async def open(self) -> Whole:
        deadline = clock.monotonic() + OPEN_TRIES_S
        while True:
            try:
                return await self._open()
            except StoreError as why:
                if clock.monotonic() > deadline:
                    raise RefusalError(
                        f"the shared state at {self._where} can't be read: {why}.\n"
                        f"  Start it, or look at  state = …  and its password."
                    ) from why
            await asyncio.sleep(0.1)

    async def commit(self, batch: Batch, at: float) -> None:
        clocks = self.clocks(at)
        position, stamp = self._position, secrets.token_hex(8)
        news = shared.news_of(batch, clocks)
        answer = await self._call(
            self._commit,
            position.epoch,
            position.seq,
            position.stamp,
            stamp,
            batch.revision,
            self._channel,
            self._origin,
            CHANGES_MAX,
            _encode(news),
            _writes(news, batch.silent_s),
            clocks.store_ms + self._timeout_ms,
        )
        match answer:
            case [b"ok", now]:
                self._set_clock(now)
                self._position = Position(position.epoch, position.seq + 1, stamp)
            case [b"late", now]:  # or its clock jumped
                self._set_clock(now)
                raise Overtaken
            case [b"beaten", now, found]:
                self._set_clock(now)
                pairs = zip(found[::2], found[1::2], strict=True)
                raise Overtaken({name.decode(): ms / 1000 for name, ms in pairs})
            case _:
                raise Overtaken

    async def news(self, mine: Callable[[], Whole]) -> list[News] | Whole:
        try:
            return await self._read_news()
        except _Missed:
            return await self._open()
        except _Lost:
            return await self._after_loss(mine())

    async def _after_loss(self, mine: Whole) -> Whole:
        """Give it back what this registry knows, besides what others wrote since."""
        for _ in range(RENEWALS_MAX):
            there = await self._read_whole()
            if there is not None and there.epoch != mine.epoch:
                _log.warning("another registry began a new epoch", epoch=there.epoch)
                return there
            whole = mine if there is None else shared.merged(mine, there)
            seen = Position() if there is None else self._position
            epoch = new_epoch()
            if await self._begin(seen, epoch, whole):
                _log.error(
                    "the shared state lost what it had acknowledged; it is given what this "
                    "registry knows, in a new epoch",
                    epoch=epoch,
                    services=len(whole.entries),
                )
                return await self._open()
        raise StoreError("others wrote all the while into a state that lost data")

    async def wait(self, most_s: float) -> list[Heard]:
        try:
            return await self._wait(most_s)
        except (RedisError, *redis_link.AWAY) as why:
            await self._forget_pubsub()
            _heed_cancel()
            raise AwayError(_words(why)) from why

    async def beats(self, heard: Heard) -> None:
        names = list(heard.loads)
        for start in range(0, len(names), NAMES_MAX):
            part = names[start : start + NAMES_MAX]
            notice = _Notice(self._origin, loads={name: heard.loads[name] for name in part})
            self._set_clock(await self._call(self._beats, self._channel, _encode(notice), *part))

    async def has_duty(self, name: str, for_s: float) -> bool:
        key = f"{self._prefix}duty:{name}"
        act = self._duty(keys=[key], args=[self._origin, max(1, round(for_s * 1000))])
        return bool(await _asked(act))

    def clocks(self, at: float) -> Clocks:
        return Clocks(at, round(clock.monotonic() * 1000 + self._ahead_ms))

    async def close(self) -> None:
        await self._forget_pubsub()
        for client in (self._redis, *(self._sentinel.sentinels if self._sentinel else ())):
            try:
                await client.aclose()
            except (RedisError, *redis_link.AWAY):
                pass  # it is away: nothing is left to close

    # reading

    async def _open(self) -> Whole:
        while True:
            whole = await self._read_whole()
            if whole is not None:
                return whole
            empty = Whole(
                epoch="", revision=0, entries=(), silent_s={}, retired={}, drained=frozenset()
            )
            await self._begin(Position(), new_epoch(), empty)

    async def _read_whole(self) -> Whole | None:
        meta_key, records, beats, retired, drained, _ = self._keys
        async with self._redis.pipeline(transaction=True) as asked:
            asked.hgetall(meta_key)
            asked.hvals(records)
            asked.zrange(beats, 0, -1, withscores=True)
            asked.hgetall(retired)
            asked.smembers(drained)
            asked.time()
            meta, kept, heard, lives, marks, time = await _asked(asked.execute())
        if b"epoch" not in meta:
            return None
        if int(meta.get(b"schema", b"0")) > SCHEMA:
            raise RefusalError(
                f"the shared state at {self._where} was written by a newer Creche.\n"
                f"  Start the newer version again, or set another  state_prefix = …"
            )
        now_ms = time[0] * 1000 + time[1] // 1000
        self._set_clock(now_ms)
        try:
            entries = tuple(_kept(one) for one in kept)
        except msgspec.DecodeError as why:
            raise StoreError(f"a record there can't be read: {why}") from why
        self._position = _position(meta[b"epoch"], meta[b"seq"], meta[b"stamp"])
        return Whole(
            epoch=self._position.epoch,
            revision=int(meta[b"revision"]),
            entries=entries,
            silent_s={n.decode(): max(0.0, (now_ms - at) / 1000) for n, at in heard},
            retired={_life(key): float(lease_s) for key, lease_s in lives.items()},
            drained=frozenset(one.decode() for one in marks),
        )

    async def _read_news(self) -> list[News]:
        """What follows on what this registry has. Raises _Lost or _Missed where nothing does."""
        found: list[News] = []
        position = self._position
        while True:
            async with self._redis.pipeline(transaction=True) as asked:
                asked.hmget(self._keys[0], "epoch", "seq", "stamp")
                asked.xrange(self._keys[5], min=f"({position.seq}-0", max="+", count=NEWS_MAX)
                asked.time()
                meta, batches, time = await _asked(asked.execute())
            self._set_clock(time[0] * 1000 + time[1] // 1000)
            at_end = Position() if meta[0] is None else _position(*meta)
            if at_end.epoch != position.epoch or at_end.seq < position.seq:
                raise _Lost
            for id, fields in batches:
                seq = int(id.partition(b"-")[0])
                if seq != position.seq + 1:
                    raise _Missed
                if fields[b"before"].decode() != position.stamp:
                    raise _Lost
                try:
                    found.append(_news(fields[b"news"]))
                except msgspec.DecodeError as why:
                    raise StoreError(f"a change there can't be read: {why}") from why
                position = Position(position.epoch, seq, fields[b"stamp"].decode())
            if position.seq == at_end.seq:
                if position != at_end:
                    raise _Lost
                self._position = position
                return found
            if not batches:
                raise _Missed

    # writing

    async def _begin(self, seen: Position, epoch: str, mine: Whole) -> bool:
        """Start `epoch` with `mine`, unless somebody was first."""
        news = News(
            revision=mine.revision,
            entries={one.record.name: one for one in mine.entries},
            retired=tuple((*life, lease_s) for life, lease_s in mine.retired.items()),
            drained=dict.fromkeys(mine.drained, True),
            beaten=frozenset(one.record.name for one in mine.entries),
        )
        return bool(
            await self._call(
                self._renew,
                seen.epoch,
                seen.seq if seen.seq >= 0 else "",
                seen.stamp,
                epoch,
                mine.revision,
                secrets.token_hex(8),
                SCHEMA,
                self._channel,
                self._origin,
                _writes(news, {}),
            )
        )

    async def _call(self, script: AsyncScript, *args: Any) -> Any:
        return await _asked(script(keys=self._keys, args=list(args)))

    # listening

    async def _wait(self, most_s: float) -> list[Heard]:
        if self._pubsub is None:
            self._pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            await self._pubsub.subscribe(self._channel)
            return []  # what was told before is not heard: ask
        heard: list[Heard] = []
        deadline = clock.monotonic() + most_s
        while (left_s := deadline - clock.monotonic()) > 0:
            _heed_cancel()
            message = await self._pubsub.get_message(timeout=0.001 if heard else left_s)
            if message is None:
                if heard:
                    break
                continue
            try:
                notice = _notice(message["data"])
            except msgspec.DecodeError:
                continue  # a newer registry's
            if notice.origin == self._origin:
                continue
            if notice.loads is not None:
                heard.append(Heard(notice.loads))
            elif notice.seq != self._position.seq:
                break
        return heard

    async def _forget_pubsub(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            try:
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            except (RedisError, *redis_link.AWAY):
                pass  # it is away

    def _set_clock(self, now_ms: int) -> None:
        self._ahead_ms = now_ms - clock.monotonic() * 1000


async def _asked(answer: Awaitable[T] | Any) -> Any:
    """Raises StoreError for whatever goes wrong on the way."""
    try:
        found = await answer
        _heed_cancel()
        return found
    except redis_link.AWAY as why:
        raise AwayError(_words(why)) from why
    except RedisError as why:
        raise StoreError(_words(why)) from why


def _heed_cancel() -> None:
    """The client swallows a cancellation that comes while it times out by itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _position(epoch: bytes, seq: bytes, stamp: bytes) -> Position:
    return Position(epoch.decode(), int(seq), stamp.decode())


def _life(key: bytes) -> Life:
    name, _, instance_id = key.decode().partition("\0")
    return name, instance_id


def _writes(news: News, silent_s: dict[str, float]) -> bytes:
    """What the script must do, as it unpacks it."""
    writes = {
        "silent": [[name, round(s * 1000)] for name, s in silent_s.items()],
        "put": [[name, _encode(one).decode()] for name, one in news.entries.items() if one],
        "drop": [name for name, one in news.entries.items() if one is None],
        "beaten": sorted(news.beaten),
        "retire": [[f"{n}\0{i}", repr(s)] for n, i, s in news.retired if s is not None],
        "unretire": [f"{n}\0{i}" for n, i, s in news.retired if s is None],
        "drain": [name for name, on in news.drained.items() if on],
        "undrain": [name for name, on in news.drained.items() if not on],
    }
    return msgspec.msgpack.encode(writes)
