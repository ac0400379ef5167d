"""Follows the keys' store, so that a key made or revoked anywhere counts here in under a second.

    mark changed ─▶ load ─▶ a new KeyRing ─▶ `on_ring`

While the store cannot be asked, the keys that were known last go on to hold; `why` tells it.
"""

import asyncio
import secrets
from collections.abc import Callable

from common import clock, logs
from router.keys.orders import Order
from router.keys.record import ID_BYTES, SECRET_BYTES, Key, digest_of, text_of
from router.keys.ring import KeyRing
from router.keys.store import Store, StoreError

#: Of the second that a revocation may take, most is left for a slow disk.
EVERY_S = 0.25

_log = logs.get("keys")


class Keeper:
    """`on_ring` is called with every new ring, in the loop."""

    def __init__(self, store: Store, on_ring: Callable[[KeyRing], None]) -> None:
        self._store = store
        self._on_ring = on_ring
        self._mark: object = None
        self._opened = False
        self._opening = asyncio.Lock()
        #: One reads at a time: of two, the one that began first must not have the last word.
        self._reading = asyncio.Lock()
        #: What keeps it from following the store; empty: nothing.
        self.why = ""

    async def open(self) -> None:
        """Raises RefusalError, StoreError. Where no keys are wanted the first order opens it."""
        async with self._opening:
            if not self._opened:
                await self._store.open()
                self._opened = True
                await self._look()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                if await self._store.mark() != self._mark:
                    await self._look()
            except StoreError as why:
                if not self.why:
                    _log.error("the clients' keys cannot be followed now", why=str(why))
                self.why = str(why)
            else:
                if self.why:
                    _log.info("the clients' keys are followed again")
                self.why = ""

    async def keys(self) -> list[Key]:
        """All, revoked ones too. Raises RefusalError, StoreError, as all orders do."""
        await self.open()
        async with self._reading:
            return await self._store.load()

    async def create(self, order: Order) -> tuple[Key, str]:
        """A new key, and its text, which nobody can read again. Raises TakenError."""
        await self.open()
        now = clock.wall()
        id_bytes, secret = secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES)
        text = text_of(id_bytes, secret)
        key = order.key(id_bytes.hex(), digest_of(text), now)
        await self._store.add(key)
        await self._look()
        return key, text

    async def revoke(self, which: str) -> Key | None:
        """By name or id. None: no such key holds."""
        await self.open()
        key = await self._store.revoke(which, clock.wall())
        if key is not None:
            await self._look()
        return key

    async def close(self) -> None:
        if self._opened:
            await self._store.close()

    async def _look(self) -> None:
        async with self._reading:
            # The mark first: what changes between the two is seen once more.
            mark = await self._store.mark()
            ring = KeyRing(await self._store.load())
            self._mark = mark
            self._on_ring(ring)
