"""A babysitter's file changes while its engines serve: only what differs is touched."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, Part, ask, chat, mock, toml
from tests.support.ports import free_port
from tests.support.streaming import Streaming, Turns
from tests.support.until import until_sync

pytestmark = pytest.mark.real

QUICK = {"backoff_first_s": 0.1, "backoff_max_s": 0.3, "drain_timeout_s": 100, "stop_grace_s": 2}
#: Of an engine whose streams end when a test says so.
ONE_AT_A_TIME = ["--max-concurrency", "1"]


class Sitter:
    """A babysitter whose file is edited."""

    def __init__(self, fleet: Fleet, *engines: dict[str, Any]) -> None:
        self.fleet = fleet
        self.engines = [{"port": free_port(), **one} for one in engines]
        self.part: Part = fleet.babysitter("sitter", self.engines, defaults=QUICK)

    def write(self, *engines: dict[str, Any], **config: Any) -> None:
        self.engines = [dict(one) for one in engines]
        fresh = self.part.config.with_suffix(".new")
        fresh.write_text(toml(self.config(**config)))
        fresh.replace(self.part.config)

    def config(self, **config: Any) -> dict[str, Any]:
        return {
            "listen": f"127.0.0.1:{self.part.port}",
            "state_dir": str(self.fleet.folder / "state" / "sitter"),
            "registries": [self.fleet.parts["registry"].url],
            "name": "sitter",
            "host": {"name": "test"},
            "defaults": QUICK,
            **config,
            "engine": self.engines,
        }

    def reload(self, *engines: dict[str, Any], **config: Any) -> dict[str, Any]:
        self.write(*engines, **config)
        status, answer = self.part.post("/reload")
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    def view(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.part.get(f"/engines/{name}")
        return found

    def names(self) -> list[str]:
        found: list[str] = self.part.get("/info")["engines"]
        return found

    def wait_anew(self, name: str, pid: int) -> dict[str, Any]:
        """READY, with another process than `pid`."""

        def look() -> dict[str, Any] | None:
            view = self.view(name)
            return view if view["state"] == "READY" and view["pid"] != pid else None

        found = until_sync(look, what=f"{name} is READY anew")
        assert found is not None
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        fleet.registry()
        yield fleet


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_only_what_differs_is_touched(fleet: Fleet) -> None:
    gone = mock("gone", "only", args=ONE_AT_A_TIME)
    sitter = Sitter(fleet, mock("same", "m"), mock("other", "m"), gone)
    same, other, _ = sitter.engines
    router = fleet.router()
    for one in ("same", "other", "gone"):
        fleet.wait_service(f"{one}@test", healthy=True)
    before = {name: sitter.view(name) for name in sitter.names()}
    streams = Turns(router.url, "only", engine=before["gone"]["url"])

    fresh = mock("fresh", "m", "n", port=free_port())
    answer = sitter.reload(
        {**same, "stall_s": 33.0, "region": "eu"}, {**other, "args": ["--tokens", "3"]}, fresh
    )
    assert answer == {
        "status": "reloaded",
        "started": ["fresh"],
        "stopped": ["gone"],
        "restarted": ["other"],
        "changed": ["same"],
        "needs_restart": [],
        "warnings": [],
    }
    until_sync(lambda: sitter.view("gone")["state"] == "DRAINING", what="it takes its leave")
    until_sync(lambda: fleet.service("gone@test") is None, what="it is deregistered at once")
    waits = "waits until the engines that leave are gone"
    until_sync(lambda: waits in (sitter.view("fresh")["progress"] or ""), what="who is new waits")
    assert streams.alive, "what it was asked ends by itself"
    streams.first.leave()
    assert streams.last.done()
    until_sync(lambda: not alive(before["gone"]["pid"]), what="then it is stopped")
    until_sync(lambda: sitter.names() == ["same", "other", "fresh"], what="and known no more")
    until_sync(lambda: sitter.view("fresh")["state"] == "READY", what="who waited starts")
    sitter.wait_anew("other", before["other"]["pid"])
    assert sitter.view("same")["pid"] == before["same"]["pid"]
    wanted = until_sync(
        lambda: fleet.wait_service("same@test")["metadata"].get("region"), what="its record"
    )
    assert wanted == "eu"
    assert sitter.part.get("/health")["status"] == "healthy"


def test_a_hang_up_reloads_and_a_shorter_stall_takes_effect_in_the_running_process(
    fleet: Fleet,
) -> None:
    sitter = Sitter(fleet, mock("one", "m"), mock("two", "m"))
    [one, two] = sitter.engines
    before = sitter.view("one")
    sitter.write({**one, "stall_s": 1.0, "drain_timeout_s": 1.0}, two)
    sitter.part.process.signal(signal.SIGHUP)
    until_sync(lambda: "configuration reloaded" in sitter.part.process.log, what="it is reloaded")
    assert sitter.view("one")["pid"] == before["pid"]
    hung = Streaming(before["url"], "m", tokens=3, hang="before")
    until_sync(lambda: sitter.view("one")["restarts"] == 1, what="its watchdog has the new limit")
    assert sitter.view("one")["last_exit"]["cause"] == "stalled"
    hung.end()


def test_a_bad_file_changes_nothing_and_is_told(fleet: Fleet) -> None:
    sitter = Sitter(fleet, mock("one", "m"))
    [one] = sitter.engines
    before = sitter.view("one")
    sitter.write({**one, "stal_s": 3.0}, mock("two", "m"))
    status, answer = sitter.part.post("/reload")
    assert status == 400
    assert answer["error"] == f"1 error in {sitter.part.config}: the old configuration stays"
    assert 'did you mean "stall_s"?' in answer["report"]
    assert answer["problems"][0]["line"] > 0
    assert "failed: 1 error in" in sitter.part.get("/health")["message"]
    sitter.write({**one, "env_file": "/nowhere/one.env"})
    status, answer = sitter.part.post("/reload")
    assert (status, "env_file /nowhere/one.env cannot be read" in answer["report"]) == (400, True)
    sitter.write({**one, "port": sitter.part.port}, listen="127.0.0.1:1")
    status, answer = sitter.part.post("/reload")
    assert (status, "is the one that this babysitter listens on" in answer["report"]) == (400, True)
    assert sitter.names() == ["one"]
    assert sitter.view("one")["pid"] == before["pid"]
    assert sitter.reload(one)["changed"] == []
    assert sitter.part.get("/health")["message"] == ""


def test_an_engine_may_move_to_another_port(fleet: Fleet) -> None:
    sitter = Sitter(fleet, mock("one", "m"))
    [one] = sitter.engines
    router = fleet.router()
    fleet.wait_service("one@test", healthy=True)
    before = sitter.view("one")
    moved = {**one, "port": free_port()}
    assert sitter.reload(moved)["restarted"] == ["one"]
    sitter.wait_anew("one", before["pid"])
    found = fleet.wait_service("one@test", healthy=True, port=moved["port"])
    assert found["url"].endswith(str(moved["port"]))
    assert ask(router.url + "/v1/chat/completions", chat("m"))[0] == 200
    assert sitter.view("one")["conflict"] is None


def test_what_an_operator_stopped_stays_stopped_and_starts_as_the_new_file_says(
    fleet: Fleet,
) -> None:
    sitter = Sitter(fleet, mock("one", "m"), mock("two", "m"))
    [one, two] = sitter.engines
    sitter.part.post("/engines/one/stop")
    until_sync(lambda: sitter.view("one")["state"] == "STOPPED", what="it is stopped")
    assert sitter.reload({**one, "models": ["n"]}, two)["restarted"] == ["one"]
    sitter.part.get("/info")
    assert sitter.view("one")["state"] == "STOPPED"
    sitter.part.post("/engines/one/start")
    until_sync(lambda: sitter.view("one")["models"] == ["n"], what="with what the file says")


def test_one_that_was_given_up_is_tried_anew_when_its_settings_change(fleet: Fleet) -> None:
    sitter = Sitter(fleet, mock("one", "m"))
    [one] = sitter.engines
    broken = mock("two", "m", port=free_port(), args=["--exit-after-ms", "1"], max_restarts=0)
    sitter.reload(one, broken)
    until_sync(lambda: sitter.view("two")["state"] == "FATAL", what="it is given up")
    sitter.reload(one, {**broken, "args": []})
    until_sync(lambda: sitter.view("two")["state"] == "READY", what="it is tried anew")


def test_what_only_a_restart_changes_is_named(fleet: Fleet) -> None:
    sitter = Sitter(fleet, mock("one", "m"))
    answer = sitter.reload(*sitter.engines, name="another", on_term="keep")
    assert answer["needs_restart"] == ["name"]
    pid = sitter.view("one")["pid"]
    assert sitter.part.stop() == 0
    assert alive(pid), "on_term is taken from the new file"


def test_engines_of_an_earlier_config_are_drained_at_the_next_start(fleet: Fleet) -> None:
    sitter = Sitter(fleet, mock("one", "m"), mock("left", "only", args=ONE_AT_A_TIME))
    one, _ = sitter.engines
    router = fleet.router()
    fleet.wait_service("left@test", healthy=True)
    left = sitter.view("left")
    kept = sitter.view("one")
    streams = Turns(router.url, "only", engine=left["url"])
    sitter.part.kill9()
    new = mock("new", "m", port=free_port())
    sitter.write(one, new)
    sitter.part.start(ready=None)
    until_sync(lambda: sitter.view("one")["state"] == "READY", what="others are adopted meanwhile")
    assert sitter.view("one")["pid"] == kept["pid"]
    until_sync(lambda: fleet.service("left@test") is None, what="deregistered first")
    assert alive(left["pid"])
    assert streams.alive, "then drained"
    streams.first.leave()
    assert streams.last.done()
    until_sync(lambda: not alive(left["pid"]), what="then stopped")
    until_sync(lambda: sitter.view("new")["state"] == "READY", what="who came new had to wait")
