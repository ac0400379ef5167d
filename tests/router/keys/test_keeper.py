"""Reads of the keys' store that are under way at once, and end in any order."""

import asyncio

from common.tasks import spawn
from router.keys.keeper import Keeper
from router.keys.orders import Order
from router.keys.record import Key
from router.keys.ring import KeyRing


class Slow:
    """A store that has read and has not answered, until it is told to."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.reads: list[asyncio.Future[None]] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def mark(self) -> object:
        return len(self.keys)

    async def load(self) -> list[Key]:
        found = list(self.keys)
        read = asyncio.get_running_loop().create_future()
        self.reads.append(read)
        await read
        return found

    async def add(self, key: Key) -> None:
        self.keys.append(key)

    async def revoke(self, which: str, at: float) -> Key | None:
        raise NotImplementedError

    async def answers_the_latest(self) -> None:
        for _ in range(20):  # whoever may go on has asked by then
            await asyncio.sleep(0)
        self.reads.pop().set_result(None)


async def test_of_two_reads_the_earlier_never_has_the_last_word() -> None:
    """Or a key that was just made would be nobody's for a while."""
    store = Slow()
    rings: list[KeyRing] = []
    keeper = Keeper(store, rings.append)
    opening = spawn(keeper.open(), "open")
    await store.answers_the_latest()
    await opening
    orders = [spawn(keeper.create(Order(name=name)), name) for name in ("ana", "bob", "eve")]
    for _ in orders:
        await store.answers_the_latest()
    made = {(await order)[0].id for order in orders}
    assert rings[-1].ids == made
    listed = spawn(keeper.keys(), "list")
    last = spawn(keeper.create(Order(name="flo")), "flo")
    await store.answers_the_latest()
    assert len(await listed) == 3
    await store.answers_the_latest()
    made.add((await last)[0].id)
    assert rings[-1].ids == made
