"""Two registries on one Redis: any of the three dies or freezes, and no request notices."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.registry.running import Watch, body_of
from tests.support.fleet import Fleet, Part, ask, mock
from tests.support.load import acts, many, statuses
from tests.support.redis import Keeps, RedisServer
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real

#: Longer than any pause of a shared machine; shorter than the time for which Redis is frozen.
LEASE = {"beat_s": 1, "lease_s": 8}
MODELS = ["m", "only-one"]


class Pair(Fleet):
    """Two registries, two routers that begin with another of them, one babysitter."""

    def __init__(self, folder: Path, *, keeps: Keeps) -> None:
        super().__init__(folder)
        self.redis = RedisServer(self.processes, folder, keeps=keeps)

    def begin(self) -> "Pair":
        self.redis.start()
        shared = {"state": self.redis.url, "lease": LEASE, "state_timeout_s": 1}
        self.one = self.registry(name="registry-1", start=False, **shared)
        self.two = self.registry(name="registry-2", start=False, **shared)
        urls = [self.one.url, self.two.url]
        engines = [mock("one", "m", "only-one"), mock("two", "m")]
        self.babysitter("sitter", engines, start=False, registries=urls)
        self.router(start=False, registries=urls)
        self.router(name="router-2", start=False, registries=urls[::-1])
        for part in self.parts.values():
            part.start(ready=None)
        for part in self.parts.values():
            part.process.ready_sync(part.url + "/ready", 60)
        sitter = self.parts["sitter"]
        until_sync(lambda: sitter.get("/info")["registered"], what="its own record")
        return self

    def well(self) -> "Pair":
        """All of it, whatever the test before did."""
        for name, one in view(self.one).items():
            if one[3]:
                assert self.two.post(f"/services/{name}/undrain")[0] == 200
        for name in ("one@test", "two@test"):
            self.wait_service(name, healthy=True, timeout_s=60)
        until_sync(self.agree, what="all have one view")
        return self

    def views(self) -> list[dict[str, Any]]:
        return [view(part) for part in (self.one, self.two)]

    def agree(self) -> bool:
        """Both registries, and both routers with them."""
        first, second = self.views()
        fit = {name for name, one in first.items() if one[2] and name.startswith(("one", "two"))}
        return first == second and all(
            fit == {s["name"] for s in self.parts[r].get("/services")["services"] if s["healthy"]}
            for r in ("router", "router-2")
        )


def view(part: Part) -> dict[str, Any]:
    return {
        one["name"]: (one["instance_id"], one["revision"], one["is_healthy"], one["draining"])
        for one in part.get("/services")["services"]
    }


async def agreed(pair: Pair) -> None:
    await until(lambda: asyncio.to_thread(pair.agree), what="all have one view")


async def healthy(part: Part) -> None:
    await until(
        lambda: asyncio.to_thread(lambda: part.get("/health")["status"] == "healthy"),
        what=f"{part.name} is well",
    )


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("keeping"), keeps="always") as pair:
        yield pair.begin()


@pytest.fixture(scope="module")
def forgetting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Its Redis keeps nothing on disk."""
    with Pair(tmp_path_factory.mktemp("forgetting"), keeps="nothing") as pair:
        yield pair.begin()


@pytest.fixture
def pair(keeping: Pair) -> Pair:
    return keeping.well()


@pytest.fixture
def forgetful(forgetting: Pair) -> Pair:
    return forgetting.well()


async def test_no_request_fails_while_either_registry_dies_then_both(pair: Pair) -> None:
    lives = {name: one[0] for name, one in view(pair.one).items()}
    epoch = pair.one.get("/health")["epoch"]
    during = acts(
        {
            50: pair.one.kill9,
            120: pair.one.start,
            160: pair.two.kill9,
            200: pair.one.kill9,
            280: pair.two.start,
            320: pair.one.start,
        }
    )
    assert statuses(await many(pair.url, 400, model="m", during=during)) == {200: 400}
    await agreed(pair)
    assert {name: one[0] for name, one in view(pair.one).items()} == lives
    assert {part.get("/health")["epoch"] for part in (pair.one, pair.two)} == {epoch}


async def test_they_refuse_and_drain_as_one_and_a_watch_moves_without_a_reset(pair: Pair) -> None:
    await agreed(pair)
    holder = pair.one.get("/services/one@test")
    wanted = body_of("thief", holder["port"], host=holder["host"], lease_s=4)
    for registry in (pair.one, pair.two):
        status, said = await asyncio.to_thread(registry.post, "/services", wanted)
        assert (status, said["holder"]) == (409, "one@test")
    async with aiohttp.ClientSession() as session:
        async with Watch(session, pair.one.url) as watch:
            assert (await watch.next())[0] == "reset"
            last = (await watch.until("synced"))[-1][1]
        assert pair.two.post("/services/two@test/drain")[0] == 200
        async with Watch(session, pair.two.url, last) as watch:
            events = await watch.until("synced")
            assert [event[0] for event in events] == ["put", "synced"]
            assert events[0][2]["draining"] is True
            last = events[-1][1]
        await until(lambda: asyncio.to_thread(lambda: view(pair.one)["two@test"][3]))
        async with Watch(session, pair.one.url, last) as watch:
            assert (await watch.next())[:2] == ("synced", last)
    await until(
        lambda: asyncio.to_thread(
            lambda: (pair.service("two@test") or {}).get("healthy") is not True
        ),
        what="the router knows",
    )


async def test_redis_killed_and_back_with_its_file_has_lost_nothing(pair: Pair) -> None:
    await agreed(pair)
    assert pair.one.post("/services/two@test/drain")[0] == 200
    await agreed(pair)
    before, epoch = view(pair.one), pair.one.get("/health")["epoch"]
    during = acts({50: pair.redis.kill9, 200: pair.redis.start})
    assert statuses(await many(pair.url, 300, model="m", during=during)) == {200: 300}
    for part in (pair.one, pair.two):
        await healthy(part)
    await agreed(pair)
    assert view(pair.one) == before
    assert pair.two.get("/health")["epoch"] == epoch


async def test_redis_back_without_its_data_is_given_what_is_known(forgetful: Pair) -> None:
    pair = forgetful
    assert pair.one.post("/services/two@test/drain")[0] == 200
    await agreed(pair)
    before, epoch = view(pair.one), pair.one.get("/health")["epoch"]
    pair.redis.kill9()
    pair.redis.start()

    def renewed() -> bool:
        epochs = {part.get("/health")["epoch"] for part in (pair.one, pair.two)}
        return len(epochs) == 1 and epochs != {epoch}

    await until(lambda: asyncio.to_thread(renewed), what="a new epoch, the same for both")
    await agreed(pair)
    assert view(pair.two) == before
    assert pair.models() == MODELS


async def test_where_all_forgot_the_babysitters_remember(forgetful: Pair) -> None:
    pair = forgetful
    lives = {name: one[0] for name, one in view(pair.one).items()}
    for part in (pair.one, pair.two):
        part.kill9()
    pair.redis.kill9()
    pair.redis.start()
    await asyncio.to_thread(pair.one.start)
    await asyncio.to_thread(pair.two.start)
    assert statuses(await many(pair.url, 50, model="m")) == {200: 50}
    await until(lambda: asyncio.to_thread(lambda: len(view(pair.two)) == len(lives)))
    await agreed(pair)
    assert {name: one[0] for name, one in view(pair.two).items()} == lives


async def test_a_redis_frozen_for_longer_than_a_lease_expires_nobody(pair: Pair) -> None:
    await agreed(pair)
    before = view(pair.one)
    async with aiohttp.ClientSession() as session, Watch(session, pair.two.url) as watch:
        await watch.until("synced")
        pair.redis.freeze()
        frozen_at = time.monotonic()
        await until(
            lambda: asyncio.to_thread(lambda: pair.one.get("/health")["status"] == "degraded")
        )
        wanted = body_of("late", 1, lease_s=4)
        # It does not wait for the thaw: an answer comes while Redis is frozen.
        status, said = await asyncio.to_thread(ask, pair.one.url + "/services", wanted)
        assert (status, said["code"]) == (503, "store")
        while time.monotonic() - frozen_at < LEASE["lease_s"] + 2:
            assert view(pair.one) == view(pair.two) == before
            assert ask(pair.one.url + "/ready")[0] == 200
            assert statuses(await many(pair.url, 10, model="only-one")) == {200: 10}
        pair.redis.thaw()
        for part in (pair.one, pair.two):
            await healthy(part)
        status, _ = await asyncio.to_thread(ask, pair.one.url + "/services", wanted)
        assert status == 201
        told = [data["name"] for _, id, data in await watch.until("put") if id is not None]
        assert told == ["late"], "nothing was told before"
    assert {name: view(pair.one)[name] for name in before} == before
