"""The time of day jumps by an hour, on one machine and not on another: nothing happens.

Leases, backoffs, limits and time-outs run on the clock that never jumps; the other is shown to
people alone. Each daemon has its own wall clock here; engines live by their babysitter's.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, Part, mock
from tests.support.load import many, statuses
from tests.support.until import until
from tests.support.wall_clock import WallClock, swept

pytestmark = pytest.mark.real

#: A lease is longer than a beat and several pauses of a shared machine.
LEASE = {"beat_s": 1, "lease_s": 12}
HOUR_S = 3600
#: Longer than a lease and a beat: a babysitter whose beats wait for a clock that was put back would
#: have been let go.
LEASE_LOOKS_S = 13.5
#: Longer than some beats: a registry whose clock was put forward would have let all go at once.
BEATS_LOOK_S = 5.5
DAEMONS = ("registry", "sitter", "router")


class House(Fleet):
    """A registry, a babysitter with two engines and a router."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.clocks = {name: WallClock(folder / f"{name}.clock") for name in DAEMONS}

    def begin(self) -> "House":
        with self.clocks["registry"].rules(self.processes):
            self.registry(lease=LEASE)
        with self.clocks["sitter"].rules(self.processes):
            engines = [mock("one", "m"), mock("two", "m")]
            sitter = self.babysitter("sitter", engines, start=False).start(ready=None)
        with self.clocks["router"].rules(self.processes):
            self.router()
        sitter.process.ready_sync(sitter.url + "/health", 100)
        for name in ("one@test", "two@test"):
            self.wait_service(name, healthy=True, timeout_s=60)
        return self

    def jump(self, **ahead_s: int) -> None:
        for name, by in ahead_s.items():
            self.clocks[name].set(by)

    def facts(self) -> dict[str, Any]:
        """What no jump may change: revision and lives, as the registry and the babysitter know."""
        registry, sitter = self.parts["registry"], self.parts["sitter"]
        services = registry.get("/services")
        return {
            "revision": services["revision"],
            "fit": {one["name"]: one["is_healthy"] for one in services["services"]},
            "lives": [
                (one["pid"], one["instance_id"], one["state"], one["restarts"])
                for one in sitter.get("/engines")["engines"]
            ],
            "routed": {one["name"]: one["healthy"] for one in self.routed()},
        }

    def routed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.parts["router"].get("/services")["services"]
        return found


def hours_told(part: Part) -> set[int]:
    """How far the times of its requests' lines are from the first one's."""
    raw = part.process.log.splitlines(keepends=True)
    lines = [json.loads(one) for one in raw if one.endswith("\n")]  # the last is being written
    times = [datetime.fromisoformat(one["ts"]) for one in lines if one.get("event") == "request"]
    return {round((one - times[0]).total_seconds() / HOUR_S) for one in times}


def ahead_s(part: Part) -> float:
    """How far its wall clock is from ours, by what it answers."""
    told = datetime.fromisoformat(part.get("/health")["timestamp"])
    return (told - datetime.now(UTC)).total_seconds()  # noqa: TID251


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("clocks")) as house:
        yield house.begin()
    swept(house.processes)


async def settled(house: House) -> dict[str, Any]:
    """Once nothing has changed for longer than a beat: what follows a start has been told."""
    loop = asyncio.get_running_loop()
    found, since = await asyncio.to_thread(house.facts), loop.time()

    async def still() -> bool:
        nonlocal found, since
        now = await asyncio.to_thread(house.facts)
        if now != found:
            found, since = now, loop.time()
        return loop.time() - since > 1.5 * LEASE["beat_s"]

    await until(still, 60, "nothing changes by itself")
    return found


async def unmoved(house: House, before: dict[str, Any], looks_s: float, **jumps: int) -> None:
    """Under load, for `looks_s`: no request fails, nothing changes."""
    house.jump(**jumps)
    for name, by in jumps.items():
        part = house.parts[name]
        await until(lambda part=part, by=by: abs(ahead_s(part) - by) < 60, 30, f"{name} jumped")
    loop = asyncio.get_running_loop()
    until_s = loop.time() + looks_s
    while loop.time() < until_s:
        assert statuses(await many(house.url, 50, model="m")) == {200: 50}
        assert await asyncio.to_thread(house.facts) == before


async def test_an_hour_ahead_here_and_behind_there_changes_nothing(house: House) -> None:
    before = await settled(house)
    await unmoved(house, before, LEASE_LOOKS_S, registry=HOUR_S, sitter=-HOUR_S, router=HOUR_S)
    # And the other way round, so each daemon's clock jumps by two hours.
    await unmoved(house, before, BEATS_LOOK_S, registry=-HOUR_S, sitter=HOUR_S, router=-HOUR_S)

    # What it writes follows the clock, within a batch of lines.
    router = house.parts["router"]
    await until(lambda: -2 in hours_told(router), what="lines of an hour behind")
    assert hours_told(router) == {0, -2}, "requests an hour ahead, then an hour behind"

    # And an engine that dies is missed, restarted and used as ever.
    sitter = house.parts["sitter"]
    sitter.post("/engines/one/kill")
    await until(lambda: asyncio.to_thread(lambda: house.facts()["lives"][0][3] == 1), 30)
    await asyncio.to_thread(house.wait_service, "one@test", healthy=True)


async def test_daemons_that_start_an_hour_before_they_ended_find_all_they_left(
    house: House,
) -> None:
    """What lies on disk was written in the future: a table, a snapshot, the states of engines."""
    _, kept = house.facts()["lives"]
    house.jump(registry=HOUR_S, sitter=HOUR_S, router=HOUR_S)
    parts = [house.parts[name] for name in DAEMONS]
    for part in parts:
        await until(lambda part=part: abs(ahead_s(part) - HOUR_S) < 60, 30, "it jumped")
    house.parts["sitter"].post("/engines/one/stop")  # something to write down
    await asyncio.to_thread(house.wait_service, "two@test", healthy=True)
    await until(lambda: asyncio.to_thread(lambda: len(house.routed()) == 1), 60, "one is left")
    for part in parts:
        await asyncio.to_thread(part.kill9)
    house.jump(registry=0, sitter=0, router=0)
    for part in parts:
        with house.clocks[part.name].rules(house.processes):
            part.start(ready=None)
        await part.process.ready(part.url + "/ready", 100)
    assert house.facts()["lives"][1][:2] == kept[:2], "the engine that ran was kept"
    await asyncio.to_thread(house.wait_service, "two@test", healthy=True)
    assert statuses(await many(house.url, 50, model="m")) == {200: 50}
