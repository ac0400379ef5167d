"""Registries that share one Redis, inside the test's own loop and without their HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from common import clock, redis_url, tasks
from common.wire.registry import Beat
from registry import commands as ask
from registry.lease_clock import LeaseClock
from registry.records import Moment
from registry.redis_store import Access, RedisStore
from registry.shared_keeper import SharedKeeper
from registry.state import Change, Terms
from registry.table import Table
from tests.registry.acts import registration

TICK_S = 0.02
#: Nothing lapses while a test runs.
LONG = Terms(lease_s=600, beat_s=200)
#: Longer than a shared machine pauses, for tests that wait for its end.
SHORT = Terms(lease_s=4, beat_s=1, removed_after_leases=2, suspect_max_s=60)


class Peer:
    """One registry: its keeper, its own connection to Redis, what its watchers were told."""

    def __init__(self, keeper: SharedKeeper, store: RedisStore) -> None:
        self.keeper = keeper
        self.store = store
        self.told: list[Change] = []
        self.resets = 0

    @property
    def table(self) -> Table:
        return self.keeper.table

    async def post(self, name: str = "a", **more: Any) -> ask.Answer:
        return await self.keeper.do(ask.Register(registration(name, **more)))

    async def beat(self, name: str = "a", **body: Any) -> ask.Answer:
        return await self.keeper.beat(name, Beat(**body))

    async def delete(self, name: str = "a", instance_id: str | None = None) -> ask.Answer:
        return await self.keeper.do(ask.Remove(name, instance_id))

    async def drain(self, name: str = "a", *, on: bool = True) -> ask.Answer:
        return await self.keeper.do(ask.Drain(name, on))

    def later(self, seconds: float) -> None:
        """Lease time goes on by this much, here alone."""
        self.keeper._clock.stalled_s -= seconds

    async def catch_up(self) -> None:
        """Take all that others did until now."""
        async with self.keeper._turn:
            await self.keeper._catch_up()

    def view(self) -> dict[str, Any]:
        """What is served, but for when it was last heard."""
        return {
            one.name: (
                *(one.host, one.port, one.status, one.instance_id, one.lease_s, one.revision),
                *(one.health_status, one.is_healthy, one.draining, one.reasons),
            )
            for one in self.table.services()
        }


def store_at(url: str, prefix: str = "creche:", **access: Any) -> RedisStore:
    """A Redis that is there is given its time."""
    return RedisStore(redis_url.parse(url), Access(prefix=prefix, **{"timeout_s": 20.0, **access}))


@asynccontextmanager
async def peer(
    url: str,
    *,
    prefix: str = "creche:",
    terms: Terms | None = None,
    running: bool = True,
    tick_s: float = TICK_S,
    **access: Any,
) -> AsyncIterator[Peer]:
    """A registry on the Redis at `url`. Not `running`: it follows nobody unless told to."""
    store = store_at(url, prefix, **access)
    background: list[Any] = []
    try:
        whole = await store.open()
        stall_s = (terms or LONG).lease_s / 4
        lease_clock = LeaseClock(clock.monotonic(), tick_s=tick_s, stall_s=stall_s)
        at = lease_clock.read(clock.monotonic())
        now = Moment(at, clock.wire_time(clock.wall()))
        table = Table.shared(terms or LONG, whole, now, store.clocks(at))
        keeper = SharedKeeper(
            table,
            store,
            lease_clock,
            publish=lambda news: _told(made, news),
            reset=lambda: _reset(made),
            tick_s=tick_s,
            pending_max=1000,
        )
        made = Peer(keeper, store)
        background.append(tasks.spawn(keeper.run(), "keeper"))
        if running:
            background += [
                tasks.spawn(keeper.keep_time(), "time"),
                tasks.spawn(keeper.follow(), "follow"),
                tasks.spawn(keeper.keep_telling_beats(), "beats"),
            ]
        yield made
        made.table.validate()
    finally:
        await tasks.cancel(*background)
        await store.close()


def _told(one: Peer, news: Sequence[Change]) -> None:
    one.told += news


def _reset(one: Peer) -> None:
    one.resets += 1
    one.told.clear()


def same(peers: Sequence[Peer]) -> bool:
    """Whether all serve the same."""
    first = peers[0]
    return all(
        (one.table.epoch, one.table.revision, one.view(), one.table.drained.keys())
        == (
            first.table.epoch,
            first.table.revision,
            first.view(),
            first.table.drained.keys(),
        )
        for one in peers
    )
