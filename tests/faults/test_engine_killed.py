"""An engine dies with -9 under load: what could be saved is saved, what could not is told."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.engines import Door, wait_in_use
from tests.support.fleet import Fleet, chat, mock
from tests.support.load import Reply, many, one, session, statuses
from tests.support.until import until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """Before engine one."""
    return Door(tmp_path_factory.mktemp("door"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, door: Door) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("killed")) as fleet:
        fleet.registry()
        fleet.babysitter(
            "sitter",
            [mock("one", "m", bin=str(door.program)), mock("two", "m")],
            defaults={"backoff_first_s": 0.2, "backoff_max_s": 0.5},
        )
        fleet.router()
        yield fleet


@pytest.fixture
def fleet(whole: Fleet) -> Fleet:
    """All of it well, whatever the test before did."""
    wait_in_use(whole, "one", "two")
    return whole


def pid_of(fleet: Fleet, engine: str) -> int:
    pid: int = fleet.parts["sitter"].get(f"/engines/{engine}")["pid"]
    return pid


async def test_requests_without_a_byte_are_answered_by_another(fleet: Fleet) -> None:
    victim = pid_of(fleet, "one")

    async def during(ended: int) -> None:
        if ended == 50:
            os.kill(victim, signal.SIGKILL)

    replies = await many(
        fleet.url, 300, model="m", during=during, headers={"x-mock-delay-ms": "20"}
    )
    assert statuses(replies) == {200: 300}


async def test_streams_that_had_a_byte_end_in_band_with_an_error(fleet: Fleet) -> None:
    victim = pid_of(fleet, "one")
    slow = {"x-mock-tokens": "40000", "x-mock-pace-ms": "25"}
    begun: list[Reply] = []
    async with session() as http:
        streams = [
            asyncio.ensure_future(  # noqa: TID251
                one(http, fleet.url, chat("m", f"s{n}", stream=True), slow, begun=begun.append)
            )
            for n in range(8)
        ]
        await until(lambda: len(begun) == 8, what="8 streams flow")
        in_flight = (fleet.service("one@test") or {})["in_flight"]
        os.kill(victim, signal.SIGKILL)
        cut: list[Reply] = []

        def some_cut() -> bool:
            cut[:] = [task.result() for task in streams if task.done()]
            return len(cut) == in_flight

        await until(some_cut, what="the streams of the dead engine end")
        for task in streams:
            if not task.done():
                task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    assert in_flight > 0
    for reply in cut:
        assert reply.status == 200
        assert reply.error_in_band, reply.text[-300:]
        assert not reply.is_done
        assert "cut:" not in reply.text, "the error event is followed by a proper end"
        assert reply.service == "one@test"


async def test_it_leaves_rotation_is_restarted_and_comes_back(fleet: Fleet, door: Door) -> None:
    before = fleet.wait_service("one@test", healthy=True)
    restarts = fleet.parts["sitter"].get("/engines/one")["restarts"]
    door.shut()
    try:
        os.kill(pid_of(fleet, "one"), signal.SIGKILL)
        gone = await asyncio.to_thread(fleet.wait_service, "one@test", healthy=False)
    finally:
        door.open()
    assert gone["reasons"]
    back = await asyncio.to_thread(fleet.wait_service, "one@test", healthy=True)
    assert back["instance_id"] != before["instance_id"], "a new life has a new id"
    engine = fleet.parts["sitter"].get("/engines/one")
    assert engine["restarts"] == restarts + 1
    assert engine["last_exit"]["cause"] == "signal"
    assert engine["last_exit"]["signal"] == "SIGKILL"
    replies = await many(fleet.url, 20, model="m")
    assert {reply.service for reply in replies} == {"one@test", "two@test"}
