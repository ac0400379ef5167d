"""/watch as its consumers see it."""

import asyncio
import socket
from contextlib import AsyncExitStack

import aiohttp
import pytest

from common import clock
from common.http import CLOSE_TIMEOUT_S
from registry.commands import Register
from registry.config import Lease, Limits
from registry.state import Stored
from registry.store import MemoryStore
from tests.registry.acts import World, registration
from tests.registry.running import SHORT, Running, Watch, running
from tests.support.until import until


async def test_first_a_reset_then_every_service_then_synced_then_live() -> None:
    async with running() as registry:
        await registry.post("a", 8100)
        await registry.post("b", 8200)
        epoch = (await registry.get("/health"))["epoch"]
        async with registry.watch() as watch:
            events = await watch.until("synced")
            assert [(name, id) for name, id, _ in events] == [
                ("reset", None),
                ("put", None),
                ("put", None),
                ("synced", f"{epoch}-2"),
            ]
            assert events[0][2] == {"epoch": epoch}
            assert events[1][2]["name"] == "a"
            assert events[3][2] == {"revision": 2}
            await registry.post("c", 8300)
            await registry.ask("DELETE", "/services/a")
            name, id, data = await watch.next()
            assert (name, id, data["name"], data["revision"]) == ("put", f"{epoch}-3", "c", 3)
            name, id, data = await watch.next()
            assert (name, id) == ("delete", f"{epoch}-4")
            assert data == {"name": "a", "instance_id": None}


async def test_a_resume_gets_what_was_missed_and_synced() -> None:
    async with running() as registry:
        await registry.post("a", 8100)
        async with registry.watch() as watch:
            last = (await watch.until("synced"))[-1][1]
        await registry.post("b", 8200)
        await registry.ask("DELETE", "/services/a")
        async with registry.watch(last) as watch:
            events = await watch.until("synced")
        assert [name for name, _, _ in events] == ["put", "delete", "synced"]
        async with registry.watch(events[-1][1]) as watch:
            assert [name for name, _, _ in await watch.until("synced")] == ["synced"]


@pytest.mark.parametrize("last", ["other-1", "nonsense", "{epoch}-99", "{epoch}-1"])
async def test_whoever_cannot_resume_gets_a_reset(last: str) -> None:
    async with running(limits=Limits(changes_max=2)) as registry:
        epoch = (await registry.get("/health"))["epoch"]
        for number in range(5):
            await registry.post(f"s{number}", 8100 + number)
        async with registry.watch(last.format(epoch=epoch)) as watch:
            events = await watch.until("synced")
        assert [name for name, _, _ in events] == ["reset"] + ["put"] * 5 + ["synced"]


async def test_a_comment_now_and_then_shows_that_it_lives() -> None:
    async with running(keep_alive_s=0.05) as registry, registry.watch() as watch:
        await watch.until("synced")
        assert [(await watch.next())[0] for _ in range(3)] == [":", ":", ":"]


async def test_loads_are_coalesced_without_ids_and_whole_for_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.feed.LOAD_EVERY_S", 0.1)
    async with running() as registry:
        for name, port in (("a", 8100), ("b", 8200)):
            await registry.post(name, port)
        async with registry.watch() as watch:
            await watch.until("synced")
            begun = clock.monotonic()
            for count in range(20):
                await beat(registry, "a", count)
            await beat(registry, "b", 7)
            seen: dict[str, dict[str, float]] = {}
            events = 0
            while seen != {"a": {"in_flight": 19.0}, "b": {"in_flight": 7.0}}:
                name, id, data = await watch.next()
                assert (name, id) == ("load", None)
                seen |= data
                events += 1
            assert events <= 2 + (clock.monotonic() - begun) / 0.1
            await beat(registry, "b", 8)
            assert (await watch.next())[2] == {"b": {"in_flight": 8.0}}
        async with registry.watch() as late:
            await late.until("synced")
            assert (await late.next())[2] == {"a": {"in_flight": 19.0}, "b": {"in_flight": 8.0}}


async def beat(registry: Running, name: str, in_flight: int) -> None:
    body = {"load": {"in_flight": in_flight}}
    status, _ = await registry.ask("POST", f"/services/{name}/heartbeat", body)
    assert status == 200


async def test_a_lapse_is_told_when_it_happens() -> None:
    async with running(lease=SHORT) as registry, registry.watch() as watch:
        await watch.until("synced")
        await registry.post("a", 8100, lease_s=1)
        puts = [(await watch.next())[2]["is_healthy"] for _ in range(2)]
        assert puts == [True, False]
        assert (await watch.next())[0] == "delete"


class FullHouse(MemoryStore):
    """A registry that was stopped with 10,000 services."""

    async def open(self) -> Stored:
        metadata = {"type": "openai-api", "models_list": [{"id": f"m{n}"} for n in range(5)]}
        world = World()
        draft = world.table.draft()
        for number in range(10_000):
            wanted = registration(f"service-{number}", port=1 + number, metadata=metadata)
            draft.do(Register(wanted), world.now)
        records = tuple(record for record in draft.batch().records.values() if record is not None)
        return Stored(epoch="e", revision=draft.revision, records=records)


async def test_ten_thousand_services_arrive_whole_and_beats_go_on_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.app.store_of", lambda _: FullHouse())
    async with running(lease=Lease(lease_s=600)) as registry, registry.watch() as watch:
        assert (await watch.next())[0] == "reset"
        await beat(registry, "service-0", 1)
        events = await watch.until("synced")
        names = [data["name"] for name, _, data in events if name == "put"]
        assert len(names) == len(set(names)) == 10_000
        assert events[-1][1:] == ("e-10000", {"revision": 10_000})
        assert watch.longest < 512 * 1024


async def test_a_consumer_that_takes_nothing_is_cut_and_others_go_on() -> None:
    limits = Limits(watch_stall_s=4)  # longer than this process, the good consumer, stands still
    async with running(limits=limits) as registry:
        fat = {"text": "x" * 50_000}
        for number in range(400):
            await registry.post(f"s{number}", 1000 + number, metadata=fat)
        loop = asyncio.get_running_loop()
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        host, port = registry.url.removeprefix("http://").split(":")
        await loop.sock_connect(lazy, (host, int(port)))
        await loop.sock_sendall(lazy, b"GET /watch HTTP/1.1\r\nHost: x\r\n\r\n")

        async def cut() -> bool:
            async with registry.session.get(registry.url + "/metrics") as answer:
                return "creche_registry_watchers_cut_total 1.0" in await answer.text()

        await until(cut)
        lazy.close()
        async with registry.watch() as watch:
            assert len(await watch.until("synced")) == 402


async def test_no_more_consumers_than_the_limit() -> None:
    async with running(limits=Limits(watchers_max=1)) as registry, registry.watch() as watch:
        await watch.until("synced")
        status, said = await registry.ask("GET", "/watch")
        assert (status, said["code"]) == (503, "overloaded")


async def test_a_consumer_that_left_is_forgotten() -> None:
    async with running() as registry:
        async with registry.watch() as watch:
            await watch.until("synced")

        async def none() -> bool:
            async with registry.session.get(registry.url + "/metrics") as answer:
                return "creche_registry_watchers 0.0" in await answer.text()

        await until(none)


async def test_stopping_ends_every_watch_at_once() -> None:
    async with AsyncExitStack() as outlives_it:
        session = await outlives_it.enter_async_context(aiohttp.ClientSession())
        async with running() as registry:
            watch = await outlives_it.enter_async_context(Watch(session, registry.url))
            await watch.until("synced")
            loop = asyncio.get_running_loop()
            stopping_at = loop.time()
        assert loop.time() - stopping_at < CLOSE_TIMEOUT_S  # it waited for no consumer
        with pytest.raises(ConnectionError):
            await watch.next()
