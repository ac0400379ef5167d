import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from msgspec import json

from common.tasks import cancel, spawn
from common.wire.registry import WatchDelete, WatchReset, WatchSynced
from router import watch
from router.fleet import Changes, Fleet
from router.watch import Watch, merged
from tests.router.making import brain, service
from tests.support.until import until

Script = Callable[["Registry", web.StreamResponse], Awaitable[None]]


def event(name: str, data: object, id: str | None = None) -> bytes:
    head = f"id: {id}\n" if id is not None else ""
    return f"event: {name}\n{head}".encode() + b"data: " + json.encode(data) + b"\n\n"


def put(name: str, *models: str, id: str | None = None) -> bytes:
    return event("put", service(name, *models), id)


def sync(epoch: str, revision: int, *puts: bytes) -> bytes:
    end = event("synced", WatchSynced(revision), f"{epoch}-{revision}")
    return event("reset", WatchReset(epoch)) + b"".join(puts) + end


class Registry:
    """Says on each connection what its script says, then stays until `close`."""

    def __init__(self, *scripts: bytes) -> None:
        self.scripts = list(scripts)
        self.resumed_from: list[str | None] = []
        self.sent: list[web.StreamResponse] = []
        self.epoch = "e"
        self.keep_open = True
        self.closing = asyncio.Event()
        app = web.Application()
        app.router.add_get("/watch", self._watch)
        app.router.add_get("/health", self._health)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    async def say(self, data: bytes) -> None:
        await self.sent[-1].write(data)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.resumed_from.append(request.headers.get("Last-Event-ID"))
        if not self.scripts:
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.sent.append(response)
        await response.write(self.scripts.pop(0))
        if self.keep_open:
            await self.closing.wait()
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "healthy",
                "registry": "running",
                "registered_services": 0,
                "healthy_services": 0,
                "timestamp": "",
                "epoch": self.epoch,
            }
        )


class Watcher:
    def __init__(self, session: ClientSession, *urls: str, fleet: Fleet | None = None) -> None:
        self.brain = brain()
        self.fleet = fleet or Fleet()
        self.applied: list[Changes] = []
        self.loads: list[dict[str, dict[str, float]]] = []
        self.watch = Watch(
            urls, session, self.fleet, self._apply, reported=self.loads.append, dice=lambda: 0.5
        )
        self.task = spawn(self.watch.run(), "test.watch")

    def _apply(self, changes: Changes) -> None:
        self.applied.append(changes)
        self.brain.apply(changes.records, suspect=changes.suspect, fresh=changes.fresh)

    def names(self) -> set[str]:
        return set(self.brain.table.upstreams)


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as one:
        yield one


@pytest.fixture
async def start(session: ClientSession) -> AsyncIterator[Callable[..., Awaitable[Watcher]]]:
    watchers: list[Watcher] = []
    registries: list[Registry] = []

    async def begin(*with_: Registry, fleet: Fleet | None = None) -> Watcher:
        for one in with_:
            await one.server.start_server()
            registries.append(one)
        watcher = Watcher(session, *(one.url for one in with_), fleet=fleet)
        watchers.append(watcher)
        return watcher

    yield begin
    await cancel(*(one.task for one in watchers))
    for one in registries:
        one.closing.set()
        await one.server.close()


Start = Callable[..., Awaitable[Watcher]]


async def test_a_sync_is_applied_once_and_live_news_follow(start: Start) -> None:
    registry = Registry(sync("e", 3, put("a@h", "m"), put("b@h", "m")))
    watcher = await start(registry)
    await watcher.watch.synced.wait()
    await until(lambda: watcher.names() == {"a@h", "b@h"})
    assert len(watcher.applied) == 1
    assert watcher.watch.link.connected
    await registry.say(put("c@h", "m", id="e-4"))
    await until(lambda: "c@h" in watcher.names())
    await registry.say(event("delete", WatchDelete("a@h"), "e-5"))
    await until(lambda: "a@h" not in watcher.names())
    assert watcher.fleet.last_event_id == "e-5"


async def test_many_events_at_once_are_one_swap(start: Start) -> None:
    registry = Registry(sync("e", 0))
    watcher = await start(registry)
    await watcher.watch.synced.wait()
    await registry.say(b"".join(put(f"s{n}@h", "m", id=f"e-{n}") for n in range(200)))
    await until(lambda: len(watcher.names()) == 200)
    assert len(watcher.applied) < 20


async def test_it_reconnects_and_resumes_where_it_was(start: Start) -> None:
    registry = Registry(
        sync("e", 3, put("a@h", "m")),
        put("b@h", "m", id="e-4") + event("synced", WatchSynced(4), "e-4"),
    )
    registry.keep_open = False
    watcher = await start(registry)
    await until(lambda: "b@h" in watcher.names())
    assert registry.resumed_from[:2] == [None, "e-3"]
    assert watcher.names() == {"a@h", "b@h"}


async def test_a_cut_in_the_middle_of_a_sync_changes_nothing(start: Start) -> None:
    registry = Registry(
        sync("e", 3, put("a@h", "m")),
        event("reset", WatchReset("e")) + put("b@h", "m"),
        sync("e", 9, put("c@h", "m")),
    )
    registry.keep_open = False
    watcher = await start(registry)
    await until(lambda: "c@h" in watcher.names())
    assert watcher.names() == {"c@h"}
    assert all("b@h" not in one.records for one in watcher.applied)


async def test_while_the_registry_is_away_the_last_table_serves(start: Start) -> None:
    registry = Registry(sync("e", 3, put("a@h", "m")))
    registry.keep_open = False
    watcher = await start(registry)
    await until(lambda: len(registry.resumed_from) > 2)
    assert not watcher.watch.link.connected
    assert "503" in watcher.watch.link.why
    assert watcher.names() == {"a@h"}


async def test_a_new_epoch_keeps_the_absent_as_suspects(start: Start) -> None:
    registry = Registry(
        sync("e", 3, put("a@h", "m"), put("b@h", "m")), sync("f", 1, put("b@h", "m"))
    )
    registry.keep_open = False
    watcher = await start(registry)
    await until(lambda: watcher.fleet.epoch == "f")
    await until(lambda: watcher.brain.table.upstreams["a@h"].suspect)
    assert watcher.brain.table.upstreams["b@h"].fit


async def test_it_fails_over_to_another_address(start: Start) -> None:
    dead, alive = Registry(), Registry(sync("e", 1, put("a@h", "m")))
    watcher = await start(dead, alive)
    await until(lambda: watcher.names() == {"a@h"})
    assert watcher.watch.link.url == alive.url


async def test_differing_epochs_are_an_error(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(watch._log, "error", lambda text, **_: said.append(text))
    monkeypatch.setattr(watch, "COMPARE_S", 0.01)
    one, other = Registry(sync("e", 1)), Registry()
    other.epoch = "another"
    watcher = await start(one, other)
    await watcher.watch.synced.wait()
    comparing = spawn(watcher.watch.compare(), "test.compare")
    await until(lambda: said)
    await cancel(comparing)
    assert "registries differ" in said[0]


async def test_what_cannot_be_read_is_skipped(start: Start) -> None:
    junk = b"event: put\ndata: {\n\nevent: put\ndata: {}\n\nevent: novel\ndata: 1\n\n: comment\n\n"
    registry = Registry(sync("e", 1, junk, put("a@h", "m")))
    watcher = await start(registry)
    await until(lambda: watcher.names() == {"a@h"})


async def test_a_line_of_half_a_mebibyte_and_more_is_read(start: Start) -> None:
    models = [f"model-{n:06d}" for n in range(60_000)]
    registry = Registry(sync("e", 1, put("a@h", *models)))
    watcher = await start(registry)
    await until(lambda: watcher.names() == {"a@h"})
    assert len(watcher.brain.table.models) == 60_000


async def test_loads_are_handed_on(start: Start) -> None:
    registry = Registry(sync("e", 1) + event("load", {"a@h": {"in_flight": 3}}))
    watcher = await start(registry)
    await until(lambda: watcher.loads == [{"a@h": {"in_flight": 3}}])


async def test_a_snapshot_is_resumed_from(start: Start) -> None:
    fleet = Fleet()
    fleet.restore("e", 7, [service("a@h", "m")])
    registry = Registry(event("synced", WatchSynced(7), "e-7"))
    watcher = await start(registry, fleet=fleet)
    await watcher.watch.synced.wait()
    assert registry.resumed_from == ["e-7"]
    assert set(fleet.records) == {"a@h"}


def test_neighbours_of_one_kind_become_one_change() -> None:
    a, b = service("a@h"), service("b@h")
    found = merged(
        [
            Changes({"a@h": a}, frozenset({"a@h"})),
            Changes({"b@h": b}),
            Changes({"a@h": None}, fresh=True),
            Changes({"a@h": a}, fresh=True),
        ]
    )
    assert found == [
        Changes({"a@h": a, "b@h": b}, frozenset({"a@h"})),
        Changes({"a@h": a}, fresh=True),
    ]
