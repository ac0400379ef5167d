"""Requests that wait for a place, through a real router to a real engine that has one.

What counts is the order of events: who has the place before whom, and what is left at the end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

from tests.support.fleet import Fleet, Part, chat
from tests.support.mock import ProcessMock, start_mock
from tests.support.until import until

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"


class Front:
    """Clients of a router with one engine."""

    def __init__(self, router: Part, engine: ProcessMock, session: ClientSession) -> None:
        self.router = router
        self.engine = engine
        self.session = session
        self.tasks: dict[str, asyncio.Task[int]] = {}

    def sends(self, name: str, **headers: str) -> None:
        self.tasks[name] = asyncio.create_task(self._ask(name, headers))  # noqa: TID251

    async def _ask(self, name: str, headers: dict[str, str]) -> int:
        url = self.router.url + CHAT
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        sent["x-request-id"] = name
        async with self.session.post(url, json=chat("m"), headers=sent) as answer:
            await answer.read()
            return answer.status

    async def holds(self, name: str) -> None:
        """Have the place until it leaves."""
        before = (await self.engine.stats())["requests"]
        self.sends(name, x_mock_hang="before")
        await self.engine.saw(requests=before + 1)

    async def leaves(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])

    async def waiting(self, count: int) -> None:
        await until(lambda: self.stats()["models"]["m"]["queued"] == count, what=f"{count} wait")

    def stats(self) -> Any:
        return self.router.get("/stats")

    async def served(self) -> list[str]:
        """Who had the place, one after the other."""
        found: list[str] = (await self.engine.stats())["ids"]
        return found

    async def all_answered(self) -> set[int]:
        return set(await asyncio.gather(*self.tasks.values()))


@asynccontextmanager
async def front(folder: Path, **queue: Any) -> AsyncIterator[Front]:
    """`queue` is the router's. Nobody's time is up unless a test says so."""
    with Fleet(folder) as fleet:
        engine = await start_mock(fleet.processes, name="narrow", models=["m"], max_concurrency=1)
        service = {
            "name": "narrow",
            "host": "127.0.0.1",
            "port": engine.port,
            "metadata": {"models": ["m"], "max_concurrency": 1},
        }
        queue = {"wait_max_s": 600, **queue}
        router = fleet.router(registries=[], static_services=[service], queue=queue)
        async with ClientSession(timeout=ClientTimeout(total=60)) as session:
            yield Front(router, engine, session)


async def test_those_that_wait_are_answered_one_after_the_other_as_they_came(
    tmp_path: Path,
) -> None:
    async with front(tmp_path) as here:
        await here.holds("first")
        names = [f"waits-{at}" for at in range(5)]
        for count, name in enumerate(names, 1):
            here.sends(name)
            await here.waiting(count)
        said = here.router.get("/explain?model=m")
        assert said["targets"][0]["candidates"][0]["why"] == (
            "at capacity: 1 of 1 in flight; 5 waiting"
        )
        await here.leaves("first")
        assert await here.all_answered() == {200}
        assert await here.served() == ["first", *names]
        seen = await here.engine.stats()
        assert (seen["requests"], seen["in_flight_max"]) == (6, 1)
        log = here.router.process
        await until(lambda: log.log.count('"queue_ms"') == 6, what="a line for each")
        assert log.log.count('"queue_ms":0,') == 1, "the first did not wait"


async def test_one_that_leaves_the_queue_is_never_sent_to_the_engine(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        await here.holds("first")
        here.sends("leaves")
        await here.waiting(1)
        here.sends("stays")
        await here.waiting(2)
        await here.leaves("leaves")
        await here.waiting(1)
        await here.leaves("first")
        assert await here.all_answered() == {200}
        assert (await here.engine.stats())["requests"] == 2
        stats = here.stats()
        assert stats["models"]["m"]["queued"] == stats["services"]["narrow"]["in_flight"] == 0


async def test_an_urgent_request_goes_before_others_that_came_earlier(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        await here.holds("first")
        for count, name in enumerate(("low-1", "low-2", "low-3", "high-1", "high-2"), 1):
            here.sends(name, x_priority=name.partition("-")[0])
            await here.waiting(count)
        await here.leaves("first")
        assert await here.all_answered() == {200}
        assert await here.served() == ["first", "low-1", "high-1", "high-2", "low-2", "low-3"]


async def test_one_whose_time_is_up_hears_503_and_the_place_goes_to_the_next(
    tmp_path: Path,
) -> None:
    async with front(tmp_path) as here:
        await here.holds("first")
        here.sends("hasty", x_request_timeout="0.2")
        here.sends("patient")
        assert await here.tasks.pop("hasty") == 503
        await here.waiting(1)
        await here.leaves("first")
        assert await here.all_answered() == {200}


async def test_a_flood_that_fills_the_queue_loses_its_last_place_to_another(
    tmp_path: Path,
) -> None:
    """Without keys an address is a caller; a key each would do the same."""
    async with front(tmp_path, waiting_max=2) as here:
        await here.holds("first")
        for count, name in enumerate(("low", "also-low"), 1):
            here.sends(name, x_priority="low")
            await here.waiting(count)
        here.sends("high", x_priority="high")
        assert await here.tasks.pop("also-low") == 429
        await here.leaves("first")
        assert await here.all_answered() == {200}


async def test_an_engine_that_refuses_a_crowd_is_asked_by_fewer_and_serves_them_all(
    tmp_path: Path,
) -> None:
    """It says 429 to the third at once, and no time: nobody told the router that it takes two."""
    running, refused, goes_on = 0, 0, asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        nonlocal running, refused
        if running == 2:
            refused += 1
            return web.json_response({"error": {"message": "busy"}}, status=429)
        running += 1
        await goes_on.wait()
        running -= 1
        return web.json_response({"object": "chat.completion", "choices": []})

    app = web.Application()
    app.router.add_post(CHAT, answer)
    with Fleet(tmp_path) as fleet:
        async with TestServer(app) as engine, ClientSession() as session:
            service = {"name": "strict", "host": "127.0.0.1", "port": engine.port}
            service["metadata"] = {"models": ["m"]}
            router = fleet.router(registries=[], static_services=[service])

            async def ask() -> int:
                async with session.post(router.url + CHAT, json=chat("m")) as answer:
                    return answer.status

            crowd = [asyncio.create_task(ask()) for _ in range(12)]  # noqa: TID251
            try:
                await until(lambda: router.get("/stats")["models"]["m"]["queued"] == 10, 30)
            finally:
                goes_on.set()
            assert set(await asyncio.gather(*crowd)) == {200}
    assert refused >= 1


async def test_an_engine_that_dies_while_others_wait_leaves_nobody_waiting(
    tmp_path: Path,
) -> None:
    async with front(tmp_path) as here:
        await here.holds("first")
        for count in range(1, 4):
            here.sends(str(count))
            await here.waiting(count)
        here.engine.process.kill()
        assert await here.all_answered() <= {502, 503}
        await here.waiting(0)
