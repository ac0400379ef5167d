"""A babysitter dies with -9 under load: its engines do not, and its next life finds them."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Door
from tests.support.fleet import Fleet, mock
from tests.support.load import acts, many, statuses
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real


async def test_engines_are_kept_and_no_request_is_lost(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        registry = fleet.registry()
        sitter = fleet.babysitter("sitter", [mock("one", "m"), mock("two", "m")])
        fleet.router()
        fleet.wait_service("one@test", healthy=True)
        fleet.wait_service("two@test", healthy=True)
        before = {one["name"]: one for one in sitter.get("/engines")["engines"]}

        during = acts({100: sitter.kill9, 200: lambda: sitter.start(ready="/health")})
        replies = await many(
            fleet.url, 400, model="m", during=during, headers={"x-mock-delay-ms": "10"}
        )
        assert statuses(replies) == {200: 400}

        after = {one["name"]: one for one in sitter.get("/engines")["engines"]}
        for name, one in before.items():
            assert after[name]["pid"] == one["pid"]
            assert after[name]["instance_id"] == one["instance_id"]
            assert after[name]["state"] == "READY"
            assert after[name]["restarts"] == 0
        lives = {one["name"]: one["instance_id"] for one in registry.get("/services")["services"]}
        assert lives["one@test"] == before["one"]["instance_id"]


async def test_an_engine_that_died_meanwhile_is_seen_and_restarted(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.registry()
        sitter = fleet.babysitter("sitter", [mock("one", "m")], defaults={"backoff_first_s": 0.1})
        fleet.router()
        fleet.wait_models("m")
        first = sitter.get("/engines/one")
        sitter.kill9()
        os.kill(first["pid"], signal.SIGKILL)
        sitter.start(ready="/health")

        def lives_anew() -> dict[str, Any] | None:
            now: dict[str, Any] = sitter.get("/engines/one")
            return now if now["state"] == "READY" and now["pid"] != first["pid"] else None

        second = await until(lambda: asyncio.to_thread(lives_anew), what="another life")
        assert second is not None
        assert second["last_exit"]["signal"] == "SIGKILL", "its exit status was kept by the shim"
        await asyncio.to_thread(fleet.wait_service, "one@test", healthy=True)


def test_a_life_that_was_not_ready_yet_is_not_adopted_as_the_one_before(tmp_path: Path) -> None:
    """The record is still the dead life's when the babysitter dies; the next one must not go on
    with it: to routers a new life under an old name is the engine whose failures they counted."""
    door = Door(tmp_path)
    with Fleet(tmp_path) as fleet:
        registry = fleet.registry()
        sitter = fleet.babysitter(
            "sitter",
            [mock("one", "m", bin=str(door.program))],
            defaults={"backoff_first_s": 0.1},
        )
        first = sitter.get("/engines/one")
        door.shut()
        os.kill(first["pid"], signal.SIGKILL)

        def loads_anew() -> bool:
            now = sitter.get("/engines/one")
            return now["state"] == "STARTING" and now["pid"] not in (None, first["pid"])

        until_sync(loads_anew, what="its next life begins")
        sitter.kill9()
        door.open()
        sitter.start(ready="/health")
        second = sitter.get("/engines/one")
        assert second["instance_id"] != first["instance_id"]

        def registered() -> bool:
            record = registry.get("/services/one@test")
            return (record["status"], record["instance_id"]) == ("running", second["instance_id"])

        until_sync(registered, what="this life is registered")
