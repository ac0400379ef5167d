"""`creche restart` on a real fleet: one engine after the other, and no client notices."""

import asyncio
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.running import Watch
from tests.support.command import begin, creche
from tests.support.fleet import Fleet, mock
from tests.support.load import many, session
from tests.support.streaming import Streaming
from tests.support.until import until_sync

pytestmark = pytest.mark.real

#: Name, id and data, as the registry's watchers are told.
Event = tuple[str, str | None, Any]
ENGINES = ("one", "two", "three")
QUICK = {"backoff_first_s": 0.1, "backoff_max_s": 0.2, "drain_timeout_s": 5, "max_restarts": 1}


def wrapper(folder: Path, name: str) -> Path:
    """A program of its own for each engine: what it does next time can be changed."""
    path = folder / f"{name}.sh"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three engines of "m", one of "alone"."""
    folder = tmp_path_factory.mktemp("rolling")
    with Fleet(folder) as fleet:
        fleet.registry()
        engines = [mock(one, "m", bin=str(wrapper(folder, one))) for one in ENGINES]
        fleet.babysitter("sitter", [*engines, mock("lonely", "alone")], defaults=QUICK)
        fleet.router()
        yield fleet


@pytest.fixture
def fleet(whole: Fleet) -> Fleet:
    """All of it well, whatever the test before did."""
    for one in marks(whole):
        whole.parts["registry"].post(f"/services/{one}/undrain")
    for one in (*ENGINES, "lonely"):
        whole.wait_service(f"{one}@test", healthy=True, in_flight=0)
    return whole


def pids(fleet: Fleet) -> dict[str, int]:
    found = fleet.parts["sitter"].get("/engines")["engines"]
    return {one["name"]: one["pid"] for one in found}


def marks(fleet: Fleet) -> list[str]:
    services = fleet.parts["registry"].get("/services")["services"]
    return [one["name"] for one in services if one["draining"]]


async def told(fleet: Fleet, since: str | None = None) -> list[Event]:
    """All that the registry told its watchers, up to now. `since`: the id of the last event."""
    async with session() as http, Watch(http, fleet.parts["registry"].url, since) as watch:
        return await watch.until("synced")


def fewest(events: list[Event]) -> int:
    """Of "m", how many were ready when there were the fewest, from the first table on."""
    ready: dict[str, bool] = {}
    counts: list[int] = []
    for name, _, data in events:
        if name == "put" and data["name"].partition("@")[0] in ENGINES:
            ready[data["name"]] = data["is_healthy"] and not data["draining"]
        elif name == "delete":
            ready.pop(data["name"], None)
        if len(ready) == len(ENGINES) or counts:
            counts.append(sum(ready.values()))
    return min(counts)


async def test_a_rolling_restart_costs_no_request_of_continuous_load(fleet: Fleet) -> None:
    before = await asyncio.to_thread(pids, fleet)
    events = await told(fleet)
    running = await asyncio.to_thread(begin, fleet, "restart", "--rolling", "m")
    replies = []
    while running.alive:
        replies += await many(
            fleet.url,
            24,
            model="m",
            at_once=8,
            stream=True,
            headers={"x-mock-tokens": "8", "x-mock-pace-ms": "10"},
        )
    assert running.wait() == 0, running.log
    assert {reply.status for reply in replies} == {200}
    assert all(reply.is_done for reply in replies)
    events += await told(fleet, since=events[-1][1])
    assert fewest(events) == 2
    after = await asyncio.to_thread(pids, fleet)
    assert [name for name in before if before[name] == after[name]] == ["lonely"]
    lines = [line for line in running.log.splitlines() if not line.startswith("  …")]
    assert lines[0] == "m: 3 engines, one after the other; at least 2 others ready all the time"
    assert [line[:5] for line in lines[1:]] == ["✓ 1/3", "✓ 2/3", "✓ 3/3"]
    assert await asyncio.to_thread(marks, fleet) == []


def test_streams_end_before_their_engine_is_restarted(fleet: Fleet) -> None:
    stream = Streaming(fleet.url, "m", tokens=160)
    until_sync(lambda: stream.service, what="it streams")
    said = creche(fleet, "restart", stream.service)
    assert said.code == 0, said.err
    assert stream.done()
    assert f"✓ 1/1  {stream.service}   drained in " in said.out


def test_after_the_limit_an_engine_is_restarted_all_the_same(fleet: Fleet) -> None:
    stream = Streaming(fleet.url, "m", tokens=4000)
    until_sync(lambda: stream.service, what="it streams")
    said = creche(fleet, "restart", stream.service, "--limit", "1", "--json")
    assert said.code == 0, said.err
    assert (said.json["service"], said.json["left"]) == (stream.service, 1)
    stream.leave()


def test_a_models_only_engine_wants_force(fleet: Fleet) -> None:
    before = pids(fleet)
    for arguments in (["--rolling", "alone"], ["lonely"]):
        said = creche(fleet, "restart", *arguments)
        assert said.code == 1
        assert "lonely@test is the only engine that serves alone" in said.err
        assert "--force" in said.err
    assert pids(fleet) == before
    assert creche(fleet, "restart", "lonely", "--force").code == 0
    assert pids(fleet)["lonely"] != before["lonely"]
    said = creche(fleet, "restart", "--rolling", "m", "--min", "3")
    assert said.code == 64
    assert "none can be restarted" in said.err


def test_it_stops_at_the_first_that_does_not_come_back(fleet: Fleet) -> None:
    before = pids(fleet)
    wrapper(fleet.folder, "one").write_text("#!/bin/sh\necho no such GPU\nexit 3\n")
    said = creche(fleet, "restart", "one", "two")
    assert said.code == 1
    assert "✗ one@test did not come up" in said.err
    assert "See why:  creche logs one@test" in said.err
    assert "Not touched:  two@test   Go on with:  creche restart two@test" in said.err
    assert pids(fleet)["two"] == before["two"]
    assert marks(fleet) == []
    wrapper(fleet.folder, "one")
    rolled = creche(fleet, "restart", "--rolling", "m")
    assert rolled.code == 0, rolled.err
    assert "✓ 1/3  one@test" in rolled.out, "what is broken first: it costs nothing"


def test_ctrl_c_undrains_the_current_one_and_says_what_was_not_done(fleet: Fleet) -> None:
    before = pids(fleet)
    stream = Streaming(fleet.url, "m", tokens=4000)
    until_sync(lambda: stream.service, what="it streams")
    rest = [f"{one}@test" for one in ENGINES if f"{one}@test" != stream.service]
    running = begin(fleet, "restart", stream.service, *rest)
    until_sync(lambda: marks(fleet) == [stream.service], what="it drains")
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    assert f"{stream.service} was not restarted, and takes requests again." in running.log
    assert f"Go on with:  creche restart {' '.join(rest)}" in running.log
    until_sync(lambda: marks(fleet) == [], what="its mark is gone")
    assert pids(fleet) == before
    assert stream.alive
    stream.leave()


def test_an_operators_own_mark_stays(fleet: Fleet) -> None:
    before = pids(fleet)
    assert creche(fleet, "drain", "two@test").code == 0
    assert creche(fleet, "restart", "two@test").code == 0
    assert pids(fleet)["two"] != before["two"]
    assert marks(fleet) == ["two@test"]
