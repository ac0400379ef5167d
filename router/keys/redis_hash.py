"""Keys in Redis, shared by all routers that are told the same `redis`.

    <prefix>keys         hash: id to the key, revoked ones too
    <prefix>keys:names   hash: name of a key that holds to its id
    <prefix>keys:mark    another text after every change

One script for each change, so that a name holds once whoever makes it. What was read last is kept
in a file of the router's own (digests, as ever): a router that starts while Redis is away lets in
whom it knew, and a Redis that lost its data is given it back by the first router that finds out.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from common import logs
from common.redis_link import AWAY
from router.keys.record import Key
from router.keys.rows import decoded
from router.keys.store import StoreError, TakenError

_log = logs.get("keys")

_ADD = """
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[4])
return 1
"""
_REVOKE = """
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[4])
return 1
"""
_RESTORE = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
for i = 2, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  if ARGV[i + 1] ~= '' then redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i]) end
end
redis.call('SET', KEYS[3], ARGV[1])
return 1
"""


class RedisKeys:
    """A `Store`. `known` is the file of what was read last."""

    def __init__(self, redis: Redis, sentinel: Sentinel | None, prefix: str, known: Path) -> None:
        self._redis = redis
        self._sentinel = sentinel
        self._hash = f"{prefix}keys"
        self._names = f"{prefix}keys:names"
        self._mark = f"{prefix}keys:mark"
        self._known = known
        #: Redis has not answered yet: what the file says holds.
        self._from_file = False

    async def open(self) -> None:
        try:
            await self.mark()
        except StoreError as why:
            if not self._known.exists():
                raise
            self._from_file = True
            _log.error("the clients' keys are those known last", why=str(why))

    async def mark(self) -> object:
        try:
            found = await self._ask(self._redis.get(self._mark))
        except StoreError:
            if self._from_file:
                return None
            raise
        self._from_file = False
        if found is None and await self._restore():
            found = await self._ask(self._redis.get(self._mark))
        return found or b"0"

    async def _restore(self) -> bool:
        """Nothing was ever written there, or it is lost: what this router knew, if it did."""
        keys = await self._read_known()
        if not keys:
            return False
        said: list[str | bytes] = [_mark()]
        for key in keys:
            live = key.name if key.revoked is None else ""
            said += [key.id, live, msgspec.json.encode(key)]
        names = (self._hash, self._names, self._mark)
        if await self._ask(self._redis.eval(_RESTORE, 3, *names, *said)):
            _log.error("Redis had lost the clients' keys; it was given those known", keys=len(keys))
        return True

    async def load(self) -> list[Key]:
        if self._from_file:
            return await self._read_known()
        keys = decoded(await self._ask(self._redis.hvals(self._hash)))
        gone = {key.id: key for key in await self._read_known() if key.revoked is not None}
        keys = [gone.get(key.id, key) for key in keys]
        for key in keys:
            # A revocation is final, whatever a Redis that lost its last writes says.
            if key.id in gone:
                await self._run(_REVOKE, key.id, key.name, key)
        keys.sort(key=lambda key: key.id)
        try:
            await asyncio.to_thread(self._keep, msgspec.json.encode(keys))
        except OSError as why:
            _log.error(
                "the clients' keys could not be kept for a start without Redis", why=str(why)
            )
        return keys

    async def add(self, key: Key) -> None:
        if not await self._run(_ADD, key.id, key.name, key):
            raise TakenError(key.name)

    async def revoke(self, which: str, at: float) -> Key | None:
        for key in decoded(await self._ask(self._redis.hvals(self._hash))):
            if key.revoked is None and which in (key.id, key.name):
                revoked = replace(key, revoked=at)
                return revoked if await self._run(_REVOKE, key.id, key.name, revoked) else None
        return None

    async def close(self) -> None:
        await self._redis.aclose()
        for one in self._sentinel.sentinels if self._sentinel is not None else ():
            await one.aclose()

    async def _run(self, script: str, id_: str, name: str, key: Key) -> bool:
        keys = (self._hash, self._names, self._mark)
        arguments = (id_, name, msgspec.json.encode(key), _mark())
        return bool(await self._ask(self._redis.eval(script, 3, *keys, *arguments)))

    async def _ask(self, command: Any) -> Any:
        try:
            return await cast("Awaitable[Any]", command)
        except (*AWAY, RedisError) as why:
            raise StoreError(f"the clients' keys in Redis cannot be reached: {why}") from why

    async def _read_known(self) -> list[Key]:
        """What was read last; nothing where that is lost or damaged."""
        try:
            raw = await asyncio.to_thread(self._known.read_bytes)
        except OSError:
            return []
        try:
            return decoded(msgspec.json.decode(raw, type=list[msgspec.Raw]))
        except (msgspec.DecodeError, UnicodeDecodeError) as why:
            _log.error(
                "the file of keys known last is damaged", file=str(self._known), why=str(why)
            )
            return []

    def _keep(self, raw: bytes) -> None:
        """Two may write at once: each has a file of its own until it is whole."""
        fd, name = tempfile.mkstemp(dir=self._known.parent, prefix=f"{self._known.name}.")
        try:
            with open(fd, "wb") as new:
                new.write(raw)
                new.flush()
                os.fsync(new.fileno())
            os.replace(name, self._known)
        except BaseException:
            os.unlink(name)
            raise


def _mark() -> str:
    return secrets.token_hex(8)
