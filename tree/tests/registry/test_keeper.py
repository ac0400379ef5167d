"""Durable first, then true, then told; and what happens when it can't be made durable."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from common import tasks
from common.wire.registry import Beat
from registry import commands as ask
from registry.keeper import Keeper, Overloaded
from registry.lease_clock import LeaseClock
from registry.records import Moment
from registry.state import Batch, Change, Stored, Terms
from registry.store import StoreError
from registry.table import Table
from tests.registry.acts import is_done, refusal, registration
from tests.support.until import until


class GatedStore:
    """A store whose disk answers when the test says so."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: str | None = None

    async def open(self) -> Stored:
        return Stored(epoch="e")

    async def commit(self, batch: Batch) -> None:
        self.batches.append(batch)
        await self.gate.wait()
        if self.fails is not None:
            raise StoreError(self.fails)

    async def close(self) -> None:
        return None


class Bench:
    def __init__(self, pending_max: int = 100) -> None:
        self.store = GatedStore()
        self.told: list[Change] = []
        self.table = Table(Terms(), Stored(epoch="e"), Moment(0.0, "t"))
        self.keeper = Keeper(
            self.table,
            self.store,
            LeaseClock(0.0, tick_s=1e9, stall_s=1e9),
            publish=self.publish,
            tick_s=0.01,
            pending_max=pending_max,
        )

    def publish(self, news: Sequence[Change]) -> None:
        self.told += news

    async def post(self, name: str = "a", **more: object) -> ask.Answer:
        return await self.keeper.do(ask.Register(registration(name, **more)))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    running = tasks.spawn(made.keeper.run(), "keeper")
    yield made
    await tasks.cancel(running)


async def test_nothing_is_true_or_told_before_it_is_durable(bench: Bench) -> None:
    bench.store.gate.clear()
    answer = tasks.spawn(bench.post(), "post")
    await until(lambda: bench.store.batches)
    assert bench.table.entries == {}
    assert bench.told == []
    assert not answer.done()
    bench.store.gate.set()
    assert is_done(await answer)
    assert set(bench.table.entries) == {"a"}
    assert len(bench.told) == 1


async def test_what_waits_for_one_commit_shares_the_next(bench: Bench) -> None:
    bench.store.gate.clear()
    first = tasks.spawn(bench.post("first", port=1), "post")
    await until(lambda: bench.store.batches)
    others = [tasks.spawn(bench.post(f"s{n}", port=10 + n), "post") for n in range(50)]
    await asyncio.sleep(0)
    bench.store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch.records) for batch in bench.store.batches] == [1, 50]


async def test_those_of_one_batch_see_each_other(bench: Bench) -> None:
    bench.store.gate.clear()
    blocker = tasks.spawn(bench.post("x", port=1), "post")
    await until(lambda: bench.store.batches)
    first = tasks.spawn(bench.post("a"), "post")
    second = tasks.spawn(bench.post("a", host="10.0.0.2"), "post")
    third = tasks.spawn(bench.post("b"), "post")
    await asyncio.sleep(0)
    bench.store.gate.set()
    await blocker
    assert is_done(await first)
    assert refusal(await second)[2] == "10.0.0.1:8100"
    assert refusal(await third)[2] == "a"


async def test_when_the_disk_fails_nothing_happened_and_everyone_is_told(bench: Bench) -> None:
    await bench.post()
    bench.store.fails = "disk full"
    with pytest.raises(StoreError, match="disk full"):
        await bench.post("b", port=8200)
    with pytest.raises(StoreError):
        await bench.keeper.do(ask.Remove("a"))
    assert set(bench.table.entries) == {"a"}
    assert bench.keeper.store_error == "disk full"
    assert (len(bench.told), bench.table.revision) == (1, 1)
    bench.store.fails = None
    assert is_done(await bench.post("b", port=8200))
    assert bench.keeper.store_error is None
    assert [change.revision for change in bench.told] == [1, 2]


async def test_a_refusal_needs_no_disk(bench: Bench) -> None:
    await bench.post()
    bench.store.fails = "disk full"
    assert refusal(await bench.post(host="10.0.0.2"))[0] == 409
    assert refusal(await bench.keeper.do(ask.Remove("nobody")))[0] == 404


async def test_beats_that_change_nothing_wait_for_no_disk(bench: Bench) -> None:
    await bench.post("a")
    bench.store.gate.clear()
    slow = tasks.spawn(bench.post("b", port=8200), "post")
    await until(lambda: len(bench.store.batches) == 2)
    assert is_done(await bench.keeper.beat("a", Beat(load={"in_flight": 1.0})))
    bench.store.fails = "disk full"
    bench.store.gate.set()
    with pytest.raises(StoreError):
        await slow
    assert is_done(await bench.keeper.beat("a", Beat()))


async def test_a_beat_of_a_service_that_a_commit_is_about_waits_for_it(bench: Bench) -> None:
    await bench.post("a", instance_id="old")
    bench.store.gate.clear()
    replacing = tasks.spawn(bench.post("a", instance_id="new"), "post")
    await until(lambda: len(bench.store.batches) == 2)
    beat = tasks.spawn(bench.keeper.beat("a", Beat(instance_id="old")), "beat")
    await asyncio.sleep(0.01)
    assert not beat.done()
    bench.store.gate.set()
    assert is_done(await replacing)
    assert refusal(await beat)[0] == 409


async def test_more_than_may_wait_is_refused() -> None:
    bench = Bench(pending_max=2)  # nobody carries anything out
    waiting = [tasks.spawn(bench.post(str(n), port=n + 1), "post") for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await bench.post("x")
    await tasks.cancel(*waiting)


async def test_a_client_that_leaves_does_not_undo_what_it_asked(bench: Bench) -> None:
    bench.store.gate.clear()
    answer = tasks.spawn(bench.post(), "post")
    await until(lambda: bench.store.batches)
    await tasks.cancel(answer)
    bench.store.gate.set()
    await until(lambda: "a" in bench.table.entries)


async def test_time_passes_even_while_a_commit_hangs(bench: Bench) -> None:
    keeping = tasks.spawn(bench.keeper.keep_time(), "time")
    bench.keeper._clock = LeaseClock(0.0, tick_s=0.01, stall_s=1e9)
    bench.store.gate.clear()
    answer = tasks.spawn(bench.post(), "post")
    await until(lambda: bench.store.batches)
    seen = bench.keeper._clock._seen
    await until(lambda: bench.keeper._clock._seen > seen)
    bench.store.gate.set()
    await answer
    await tasks.cancel(keeping)
