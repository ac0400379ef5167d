"""The babysitter as a process, with real engines, shims and a real registry."""

import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.fleet import Fleet, Part, ask, chat, mock
from tests.support.ports import free_port
from tests.support.until import until_sync

pytestmark = pytest.mark.real

QUICK = {"backoff_first_s": 0.1, "backoff_max_s": 0.3, "drain_timeout_s": 5, "stop_grace_s": 2}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


def sitter(fleet: Fleet, *engines: dict[str, Any], start: bool = True, **config: Any) -> Part:
    if "registry" not in fleet.parts:
        config.setdefault("registries", [])
    defaults = {**QUICK, **config.pop("defaults", {})}
    return fleet.babysitter("sitter", engines, start=start, defaults=defaults, **config)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A registry and a babysitter, `sitter`, whose engines are well: each test takes its own."""
    with Fleet(tmp_path_factory.mktemp("house")) as fleet:
        fleet.registry()
        waits = {"backoff_first_s": 600, "backoff_max_s": 600}
        sitter(
            fleet,
            mock("one", "m", weight=2.0, region="eu"),
            mock("two", "m", "n"),
            mock("shot", "m", **waits),
            mock("crashed", "m"),
            mock("drained", "m", drain_timeout_s=60),
            mock("renewed", "m"),
            mock("sick", "m", stall_s=1, drain_timeout_s=1),
        )
        yield fleet


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A registry and a babysitter, `sitter`, none of whose engines is ever ready."""
    with Fleet(tmp_path_factory.mktemp("ward")) as fleet:
        fleet.registry()
        oom = "print('loading'); print('RuntimeError: CUDA out of memory'); exit(3)"
        loads = ["--load-ms", "3600000"]
        sitter(
            fleet,
            python("bad", oom, max_restarts=2),
            python("bye", "print('done')"),
            {"kind": "vllm", "name": "v", "model": "m", "bin": "/nowhere/vllm"},
            mock("slow", "m", args=loads),
            mock("late", "m", args=loads, ready_timeout_s=8, max_restarts=1000),
            start=False,
        ).start(ready="/ready")
        yield fleet


def python(name: str, code: str, **more: Any) -> dict[str, Any]:
    """An `[[engine]]` of kind command: a few lines of Python."""
    return {"kind": "command", "name": name, "command": [sys.executable, "-c", code], **more}


def wait_state(part: Part, engine: str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        view: dict[str, Any] = part.get(f"/engines/{engine}")
        return view if view["state"] in states else None

    found = until_sync(look, timeout_s, f"{engine} is {states}")
    assert found is not None
    return found


def record(registry: Part, name: str) -> dict[str, Any]:
    found: dict[str, Any] = registry.get(f"/services/{name}")
    return found


def wait_record(registry: Part, name: str, status: str) -> dict[str, Any]:
    found = until_sync(
        lambda: [r for r in [record(registry, name)] if r.get("status") == status],
        what=f"{name} is {status} in the registry",
    )
    return found[0]


class Streaming:
    """A client in a thread, and its paced stream."""

    def __init__(self, url: str, model: str, *, tokens: int) -> None:
        self._request = urllib.request.Request(
            url + "/v1/chat/completions",
            json.dumps(chat(model, stream=True)).encode(),
            {
                "content-type": "application/json",
                "x-mock-tokens": str(tokens),
                "x-mock-pace-ms": "25",
            },
        )
        self._got: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with urllib.request.urlopen(self._request, timeout=30) as answer:
            self._got.append(answer.read().decode())

    def end(self) -> str:
        """All that it got."""
        self._thread.join(30)
        return self._got[0]


@asynccontextmanager
async def talk(url: str, model: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client in the middle of a conversation, which is in flight until it is left."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/v1/realtime?model={model}") as socket,
    ):
        await heard(socket, "hello")
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
    """It is said back."""
    await socket.send_str(text)
    assert (await socket.receive(timeout=30)).data == text


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_an_engine_is_started_asked_and_registered(house: Fleet) -> None:
    registry, part = house.parts["registry"], house.parts["sitter"]
    view = part.get("/engines/one")
    assert view["state"] == "READY"
    assert view["models"] == ["m"]
    assert (view["kind"], view["service"], view["restarts"]) == ("mock", "one@test", 0)
    found = wait_record(registry, "one@test", "running")
    assert found["instance_id"] == view["instance_id"]
    assert (found["port"], found["url"], found["weight"]) == (view["port"], view["url"], 2.0)
    assert found["is_healthy"]
    assert found["lease_s"]
    metadata = found["metadata"]
    assert metadata["type"] == "openai-api"
    assert metadata["babysitter_url"] == part.url
    assert metadata["parent_service"] == "sitter"
    assert metadata["region"] == "eu"
    assert metadata["models"] == ["m"]
    assert metadata["models_list"][0]["max_model_len"], "extra fields are kept"
    own = wait_record(registry, "sitter", "running")
    assert own["metadata"]["type"] == "babysitter"
    until_sync(
        lambda: (
            record(registry, "sitter")["metadata"]["engines"]["one"]["state"] == "READY"
            and part.get("/engines/one")["registered"]
        ),
        what="its own record tells of its engines",
    )


def test_what_it_answers(house: Fleet) -> None:
    part = house.parts["sitter"]
    status, health = ask(part.url + "/health")
    assert status == 200
    assert (health["status"], health["service"]) == ("healthy", "sitter")
    assert health["engines"]["one"] == {"state": "READY", "last_exit": None, "restarts": 0}
    assert ask(part.url + "/ready")[0] == 200
    models = part.get("/models")
    assert [one["id"] for one in models["data"]] == ["m", "n"]
    until_sync(lambda: part.get("/info")["registered"], what="its own record is there")
    info = part.get("/info")
    assert info["engines"][:2] == ["one", "two"]
    assert (info["name"], info["port"], info["registered"]) == ("sitter", part.port, True)
    assert part.get("/engines")["total"] == len(info["engines"]) == len(health["engines"])
    metrics = ask(part.url + "/metrics")[1]
    assert 'creche_babysitter_engine_state{engine="one",state="READY"} 1.0' in metrics
    status, refusal = ask(part.url + "/engines/three")
    assert (status, refusal["code"]) == (404, "not_found")
    assert ask(part.url + "/engines/one/explode", {})[0] == 404


def test_a_killed_engine_is_told_at_once_and_comes_back(house: Fleet) -> None:
    registry, part = house.parts["registry"], house.parts["sitter"]
    before = part.get("/engines/shot")
    wait_record(registry, "shot@test", "running")
    os.kill(before["pid"], signal.SIGKILL)
    gone = wait_record(registry, "shot@test", "backoff")
    assert not gone["is_healthy"]
    assert gone["metadata"]["last_exit"]["signal"] == "SIGKILL"
    assert ask(part.url + "/health")[0] == 503
    assert part.post("/engines/shot/start")[0] == 202
    back = wait_state(part, "shot", "READY")
    assert back["pid"] != before["pid"]
    assert back["restarts"] == 1
    assert back["last_exit"]["cause"] == "signal"
    again = wait_record(registry, "shot@test", "running")
    assert again["instance_id"] == back["instance_id"] != before["instance_id"]
    assert "last_exit" not in again["metadata"]


def test_an_operators_kill_is_a_crash(house: Fleet) -> None:
    part = house.parts["sitter"]
    before = part.get("/engines/crashed")
    assert part.post("/engines/crashed/kill")[0] == 202
    until_sync(lambda: part.get("/engines/crashed")["restarts"] == 1, what="it counts as a crash")
    assert wait_state(part, "crashed", "READY")["pid"] != before["pid"]


def test_it_is_given_up_with_its_last_words(ward: Fleet) -> None:
    registry, part = ward.parts["registry"], ward.parts["sitter"]
    view = wait_state(part, "bad", "FATAL")
    assert view["restarts"] == 2
    assert view["progress"].startswith("given up: 2 restarts in ")
    last = view["last_exit"]
    assert (last["cause"], last["code"]) == ("oom", 3)
    assert last["log"] == ["loading", "RuntimeError: CUDA out of memory"]
    status, health = ask(part.url + "/health")
    assert status == 503
    assert health["engines"]["bad"]["last_exit"]["log"] == last["log"]

    def told() -> dict[str, Any]:
        found: dict[str, Any] = record(registry, "sitter")["metadata"]["engines"]["bad"]
        return found

    until_sync(lambda: told()["state"] == "FATAL", what="the registry knows")
    assert told()["last_exit"]["log"] == last["log"]
    assert part.post("/engines/bad/start")[0] == 202
    until_sync(lambda: part.get("/engines/bad")["restarts"] > 2, what="it is tried again")


def test_exit_0_is_a_failure_too(ward: Fleet) -> None:
    part = ward.parts["sitter"]
    until_sync(lambda: part.get("/engines/bye")["restarts"] >= 1, what="it is restarted")
    last = part.get("/engines/bye")["last_exit"]
    assert (last["cause"], last["code"]) == ("code", 0)
    assert "should not end, nor go into the background" in last["text"]


def test_a_program_that_is_not_there_is_told_as_such(ward: Fleet) -> None:
    part = ward.parts["sitter"]
    last = wait_state(part, "v", "BACKOFF", "FATAL")["last_exit"]
    assert last["text"].startswith('there is no program "/nowhere/vllm"; fix: bin = ')


def test_killed_it_adopts_what_it_left(fleet: Fleet) -> None:
    registry = fleet.registry()
    part = sitter(fleet, mock("one", "m"))
    os.kill(part.get("/engines/one")["pid"], signal.SIGKILL)
    until_sync(lambda: part.get("/engines/one")["restarts"] == 1, what="one restart to remember")
    before = wait_state(part, "one", "READY")
    wait_record(registry, "one@test", "running")
    part.kill9()
    assert alive(before["pid"])
    ask(before["url"] + "/v1/chat/completions", chat("m"))
    part.start(ready="/health")
    after = part.get("/engines/one")
    for key in ("pid", "instance_id", "restarts", "last_exit"):
        assert after[key] == before[key], key
    until_sync(lambda: part.get("/engines/one")["registered"], what="registered again")
    assert record(registry, "one@test")["instance_id"] == before["instance_id"]
    until_sync(
        lambda: "/v1/chat/completions" in ask(part.url + "/engines/one/log")[1],
        what="what it wrote while nobody watched is there",
    )
    os.kill(after["pid"], signal.SIGKILL)
    until_sync(lambda: part.get("/engines/one")["restarts"] == 2, what="and it is watched again")


def test_adopted_with_another_command_line_it_is_restarted_and_says_why(fleet: Fleet) -> None:
    part = sitter(fleet, mock("one", "m"))
    before = part.get("/engines/one")
    part.kill9()
    text = part.config.read_text()
    part.config.write_text(text.replace('models = ["m"]', 'models = ["m", "n"]'))
    part.start(ready="/ready")
    until_sync(lambda: part.get("/engines/one")["models"] == ["m", "n"], what="the new models")
    assert part.get("/engines/one")["pid"] != before["pid"]
    assert not alive(before["pid"])
    assert "restarted: its command line changed while no babysitter ran" in part.process.log


def test_an_engine_that_the_config_no_longer_names_is_ended(fleet: Fleet) -> None:
    registry = fleet.registry()
    part = sitter(fleet, mock("one", "m"), mock("two", "m"))
    wait_record(registry, "two@test", "running")
    left = part.get("/engines/two")["pid"]
    part.kill9()
    text = part.config.read_text()
    part.config.write_text(text[: text.rindex("[[engine]]")])
    part.start(ready="/health")
    until_sync(lambda: not alive(left), what="it is drained, then stopped")
    assert part.get("/info")["engines"] == ["one"]
    until_sync(lambda: "error" in record(registry, "two@test"), what="and its record is gone")


def test_a_term_leaves_no_process(fleet: Fleet) -> None:
    registry = fleet.registry()
    part = sitter(fleet, mock("one", "m", args=["--workers", "2", "--ignore-term"]), mock("two"))
    wait_record(registry, "one@test", "running")
    assert len(fleet.processes.survivors()) > 4
    assert part.stop() == 0
    left = set(fleet.processes.survivors()) - {registry.process.pid}
    assert left == set()
    until_sync(lambda: registry.get("/services")["services"] == [], what="it has deregistered")


def test_on_term_keep_leaves_engines_to_be_adopted(fleet: Fleet) -> None:
    registry = fleet.registry()
    part = sitter(fleet, mock("one", "m"), on_term="keep")
    before = part.get("/engines/one")
    wait_record(registry, "one@test", "running")
    assert part.stop() == 0
    assert alive(before["pid"])
    assert record(registry, "one@test")["is_healthy"]
    part.start(ready="/health")
    assert part.get("/engines/one")["pid"] == before["pid"]
    part.config.write_text(part.config.read_text().replace('"keep"', '"stop"'))


async def test_a_stop_drains(house: Fleet) -> None:
    registry, part = house.parts["registry"], house.parts["sitter"]
    view = part.get("/engines/drained")
    wait_record(registry, "drained@test", "running")
    async with talk(view["url"], "m") as under_way:
        stream = Streaming(view["url"], "m", tokens=40)
        assert part.post("/engines/drained/stop")[0] == 202
        draining = wait_state(part, "drained", "DRAINING")
        assert draining["pid"] == view["pid"]
        until_sync(lambda: "error" in record(registry, "drained@test"), what="deregistered before")
        assert "[DONE]" in stream.end()
        await heard(under_way, "still there")
        assert part.get("/engines/drained")["state"] == "DRAINING"
    wait_state(part, "drained", "STOPPED")
    assert not alive(view["pid"])
    until_sync(
        lambda: ask(part.url + "/health")[0] == 200, what="what an operator stopped need not run"
    )
    part.post("/engines/drained/start")
    wait_state(part, "drained", "READY")
    assert wait_record(registry, "drained@test", "running")["is_healthy"]


def test_a_restart_keeps_the_record(house: Fleet) -> None:
    registry, part = house.parts["registry"], house.parts["sitter"]
    before = part.get("/engines/renewed")
    wait_record(registry, "renewed@test", "running")
    part.post("/engines/renewed/restart")
    seen = set()

    def restarted() -> bool:
        seen.add(record(registry, "renewed@test").get("status"))
        view = part.get("/engines/renewed")
        return bool(view["state"] == "READY" and view["pid"] != before["pid"])

    until_sync(restarted, what="a new process is ready")
    assert None not in seen, "the record stays"
    assert part.get("/engines/renewed")["restarts"] == 0


def test_an_operators_stop_survives_a_kill_of_the_babysitter(fleet: Fleet) -> None:
    part = sitter(fleet, mock("one", "m"))
    part.post("/engines/one/stop")
    wait_state(part, "one", "STOPPED")
    part.kill9()
    part.start(ready="/health")
    assert part.get("/engines/one")["state"] == "STOPPED"


def test_a_port_that_a_stranger_has_is_told_as_such(fleet: Fleet) -> None:
    port = free_port()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        part = sitter(fleet, mock("one", "m", port=port, max_restarts=1000), start=False)
        part.start(ready="/ready")
        last = wait_state(part, "one", "BACKOFF", "FATAL")["last_exit"]
        assert last["cause"] == "port_taken"
        assert f"port {port} is taken by" in last["text"]
        assert f"pid {os.getpid()}" in last["text"]
    wait_state(part, "one", "READY")


def test_a_stranger_on_its_port_never_makes_it_ready(fleet: Fleet) -> None:
    """The engine runs, something else answers well where it should: it is not ready."""
    port = free_port()
    late = f"""
import subprocess, sys, time
subprocess.run(["true"])
open({str(fleet.folder / "began")!r}, "w").close()
time.sleep(3600)
"""
    lazy = python("lazy", late, port=port, models=["m"], max_restarts=1000)
    part = sitter(fleet, lazy, start=False)
    part.start(ready="/ready")
    until_sync((fleet.folder / "began").exists, what="the engine runs")
    fleet.processes.python(
        "-m", "babysitter.mock", "--port", str(port), "--model", "m", name="stranger"
    ).ready_sync(f"http://127.0.0.1:{port}/health")
    last = until_sync(lambda: part.get("/engines/lazy")["last_exit"], what="it is told")
    assert last["cause"] == "port_taken"
    assert part.get("/engines/lazy")["state"] != "READY"


def test_loading_shows_progress_and_has_its_own_limit(ward: Fleet) -> None:
    part = ward.parts["sitter"]

    def last() -> dict[str, str]:
        found: dict[str, str] = part.get("/engines/late")["last_exit"] or {}
        return found

    # On a busy machine its limit can be over before it was ever asked: then the next try tells.
    said = "not ready after 8 s: "
    until_sync(lambda: last().get("text", "").startswith(said), 90, "another try")
    assert last()["cause"] == "not_ready"

    def progress() -> str:
        return part.get("/engines/slow")["progress"] or ""

    until_sync(lambda: "loading (503 on /health)" in progress(), what="progress is told")
    assert progress().startswith("starting for ")
    assert part.get("/engines/slow")["state"] == "STARTING"


def test_a_sick_engine_is_found_by_its_lack_of_progress(house: Fleet) -> None:
    part = house.parts["sitter"]
    view = part.get("/engines/sick")

    def hang() -> None:
        try:
            ask(
                view["url"] + "/v1/chat/completions",
                chat("m"),
                {"x-mock-hang": "before"},
            )
        except OSError:
            pass

    threading.Thread(target=hang, daemon=True).start()
    until_sync(lambda: part.get("/engines/sick")["restarts"] == 1, what="it is restarted")
    last = part.get("/engines/sick")["last_exit"]
    assert last["cause"] == "stalled"
    assert "1 request in flight and no token for" in last["text"]
    wait_state(part, "sick", "READY")


def test_an_idle_engine_that_generates_nothing_leaves_the_rotation_and_comes_back(
    fleet: Fleet,
) -> None:
    registry = fleet.registry()
    canary = {"canary_idle_s": 0.3, "canary_timeout_s": 0.3, "canary_failures": 1000}
    part = sitter(fleet, mock("one", "m", **canary))
    wait_record(registry, "one@test", "running")
    before = part.get("/engines/one")
    faults = f"{before['url']}/mock/faults"
    assert ask(faults, [{"hang": "before"}])[0] == 200
    assert ask(before["url"] + "/health")[0] == 200, "as a dead core leaves it"
    wait_record(registry, "one@test", "starting")
    view = wait_state(part, "one", "STARTING")
    until_sync(
        lambda: (
            "idle, and generates nothing: no answer on /v1/chat/completions within 0.3 s"
            in (part.get("/engines/one")["progress"] or "")
        ),
        what="its progress says why",
    )
    assert ask(part.url + "/health")[0] == 503
    assert ask(faults, [])[0] == 200
    wait_record(registry, "one@test", "running")
    view = wait_state(part, "one", "READY")
    assert (view["pid"], view["restarts"]) == (before["pid"], 0)


def test_an_idle_engine_that_stays_dumb_is_restarted(fleet: Fleet) -> None:
    canary = {"canary_idle_s": 0.3, "canary_timeout_s": 0.3}
    part = sitter(fleet, mock("one", "m", **canary))
    before = wait_state(part, "one", "READY")
    assert ask(f"{before['url']}/mock/faults", [{"hang": "before"}])[0] == 200
    until_sync(lambda: part.get("/engines/one")["restarts"] >= 1, what="it is restarted")
    last = part.get("/engines/one")["last_exit"]
    assert last["cause"] == "stalled"
    assert last["text"].startswith("idle, and generates nothing: no answer on /v1/chat")
    assert wait_state(part, "one", "READY")["pid"] != before["pid"]


def test_the_registry_away_and_back(fleet: Fleet) -> None:
    registry = fleet.registry()
    part = sitter(fleet, mock("one", "m"))
    wait_record(registry, "one@test", "running")
    registry.kill9()
    assert ask(part.url + "/health")[0] == 200, "engines do not depend on the registry"
    os.kill(part.get("/engines/one")["pid"], signal.SIGKILL)
    until_sync(lambda: part.get("/engines/one")["restarts"] == 1, what="it is kept meanwhile")
    view = wait_state(part, "one", "READY")
    registry.start()
    until_sync(
        lambda: record(registry, "one@test").get("instance_id") == view["instance_id"],
        what="the registry hears of the new life",
    )
    wait_record(registry, "one@test", "running")


def test_a_registry_that_forgot_is_told_again_at_once(fleet: Fleet) -> None:
    registry = fleet.registry(lease={"beat_s": 0.3, "lease_s": 300})
    part = sitter(fleet, mock("one", "m"))
    life = wait_record(registry, "one@test", "running")["instance_id"]
    assert ask(registry.url + "/services/one@test", method="DELETE")[0] == 200
    back = until_sync(
        lambda: [r for r in [record(registry, "one@test")] if r.get("status") == "running"],
        what="it is registered again",
    )[0]
    assert back["instance_id"] != life, "the deleted life is retired: a new id for the same process"
    view = part.get("/engines/one")
    assert view["restarts"] == 0
    assert view["instance_id"] == life, "the process lives on"
    until_sync(lambda: part.get("/engines/one")["registered"], what="it knows its new id")
    part.kill9()
    part.start(ready="/health")
    until_sync(lambda: part.get("/engines/one")["registered"], what="adopted")
    assert record(registry, "one@test")["instance_id"] == back["instance_id"]


def test_a_conflict_is_reported(fleet: Fleet) -> None:
    registry = fleet.registry(lease={"beat_s": 0.3, "lease_s": 300})
    holder = {
        "name": "one@test", "host": "127.0.0.9", "port": 9, "hostname": "x",
        "url": "http://127.0.0.9:9", "status": "running", "instance_id": "other", "lease_s": 300,
    }  # fmt: skip
    assert ask(registry.url + "/services", holder)[0] == 201
    part = sitter(fleet, mock("one", "m"))
    until_sync(lambda: part.get("/engines/one")["conflict"], what="the conflict is told")
    view = part.get("/engines/one")
    assert not view["registered"]
    assert view["state"] == "READY", "it is kept running"
    assert "127.0.0.9:9" in view["conflict"]


def test_two_babysitters_of_one_name_are_told_apart(fleet: Fleet) -> None:
    registry = fleet.registry(lease={"beat_s": 0.2, "lease_s": 300})
    first = sitter(fleet, mock("one", "m"))
    wait_record(registry, "sitter", "running")
    second = fleet.babysitter("second", [mock("two", "m")], defaults=QUICK, start=False)
    second.config.write_text(second.config.read_text().replace('"second"', '"sitter"', 1))
    second.start(ready="/health")
    told = until_sync(lambda: second.get("/info")["conflict"], what="the conflict is told")
    assert told == f"the name 'sitter' is leased at 127.0.0.1:{first.port}"
    assert not second.get("/info")["registered"]
    until_sync(lambda: first.get("/info")["registered"], what="the first is not moved by it")
    assert first.get("/info")["conflict"] is None
    assert record(registry, "sitter")["port"] == first.port
    until_sync(lambda: second.get("/engines/two")["registered"], what="its engine has no conflict")


async def test_a_term_lets_streams_end_while_routers_go_elsewhere(fleet: Fleet) -> None:
    registry = fleet.registry()
    ending = sitter(fleet, mock("one", "m", "only-one"), defaults={"drain_timeout_s": 60})
    view = ending.get("/engines/one")
    fleet.babysitter("other", [mock("two", "m")], defaults=QUICK)
    router = fleet.router()
    fleet.wait_service("one@test", healthy=True)
    fleet.wait_service("two@test", healthy=True)
    async with talk(router.url, "only-one") as under_way:
        stream = Streaming(router.url, "only-one", tokens=40)
        until_sync(lambda: ask(view["url"] + "/mock/stats")[1]["requests"] == 2, what="it streams")
        ending.process.terminate()
        until_sync(lambda: "error" in record(registry, "one@test"), what="it deregisters first")
        assert alive(view["pid"]), "then it drains"
        until_sync(lambda: fleet.service("one@test") is None, what="routers hear of it")
        for _ in range(4):
            status, said = ask(router.url + "/v1/chat/completions", chat("m"))
            assert status == 200
            assert said["choices"][0]["message"]["content"].startswith("two")
        assert stream.end().rstrip().endswith("[DONE]")
        await heard(under_way, "still there")
    assert ending.process.wait() == 0
    assert not alive(view["pid"])


def test_one_who_goes_into_the_background_is_ended_and_told(fleet: Fleet) -> None:
    flag = fleet.folder / "pid"
    code = f"""
import os, pathlib, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
pathlib.Path({str(flag)!r}).write_text(str(os.getpid()))
time.sleep(60)
"""
    part = sitter(fleet, python("daemon", code), start=False).start(ready="/ready")
    until_sync(lambda: part.get("/engines/daemon")["restarts"] >= 2, what="it is a failure")
    assert "nor go into the background" in part.get("/engines/daemon")["last_exit"]["text"]
    assert part.stop() == 0
    assert set(fleet.processes.survivors()) == set()


def test_who_follows_a_log_does_not_hold_up_the_end(fleet: Fleet) -> None:
    part = sitter(fleet, mock("one", "m"))
    with urllib.request.urlopen(part.url + "/engines/one/log?follow=1", timeout=30) as following:
        assert b"one" in following.readline()
        part.process.terminate()
        following.read()  # a proper end: a cut one raises IncompleteRead
    assert part.process.wait() == 0


def test_logs_are_told_and_followed_and_secrets_are_not(fleet: Fleet) -> None:
    secret = "s3cr3t-value-of-an-engine"
    env_file = fleet.folder / "engine.env"
    env_file.write_text(f"ENGINE_API_KEY={secret}\n")
    env_file.chmod(0o600)
    code = """
import os, sys, http.server
print("first"); print("key is", os.environ["ENGINE_API_KEY"]); sys.stdout.flush()
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/say": print("said", flush=True)
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""
    engine = python("talker", code, models=["m"], env_file=str(env_file), args=["{port}"])
    part = sitter(fleet, engine)
    told = "first\nkey is [hidden]\n"
    until_sync(
        lambda: ask(part.url + "/engines/talker/log?lines=2") == (200, told), what="its log is told"
    )
    assert ask(part.url + "/engines/talker/log?lines=-1")[0] == 400
    with urllib.request.urlopen(part.url + "/engines/talker/log?follow=1&lines=0", timeout=30) as f:
        ask(part.get("/engines/talker")["url"] + "/say")
        assert f.readline() == b"said\n"
    for path in ("/engines", "/info", "/health", "/metrics"):
        assert secret not in str(ask(part.url + path)[1])
    assert secret not in part.process.log


def test_the_token_guards_all_but_health_and_ready(fleet: Fleet) -> None:
    token = fleet.folder / "token"
    token.write_text("a-cluster-token-of-some-length\n")
    token.chmod(0o600)
    part = sitter(fleet, mock("one", "m"), token_file=str(token))
    for path in ("/engines", "/info", "/models", "/metrics", "/engines/one/log"):
        assert ask(part.url + path)[0] == 401, path
    assert part.post("/engines/one/kill")[0] == 401
    assert ask(part.url + "/ready")[0] == 200
    bearer = {"Authorization": "Bearer a-cluster-token-of-some-length"}
    assert ask(part.url + "/engines", headers=bearer)[0] == 200


def refusal(fleet: Fleet, *engines: dict[str, Any], **config: Any) -> str:
    part = sitter(fleet, *engines, start=False, **config)
    part.process = fleet.processes.python("-m", "babysitter", "--config", part.config)
    assert part.process.wait() == 1
    return part.process.log


def test_an_engine_on_loopback_is_refused_where_routers_are_elsewhere(fleet: Fleet) -> None:
    said = refusal(
        fleet,
        mock("coder", port=8200, host="127.0.0.1"),
        registries=["http://10.0.0.10:18000"],
        advertise="10.0.0.21",
    )
    assert said.startswith("warning: the babysitter listens on 127.0.0.1 but the registry is on ")
    assert said.endswith(
        "creche-babysitter: refusing to start: coder: the engine listens on 127.0.0.1:8200 but the "
        "registry is on 10.0.0.10; no router could reach it.\n"
        '  Set  advertise = "10.0.0.21"  (this host\'s address towards the registry)\n'
        '  and take  host = "127.0.0.1"  out of the engine.\n'
    )


def test_off_loopback_it_wants_a_token_or_the_word_none(fleet: Fleet) -> None:
    said = refusal(fleet, mock("one"), listen="0.0.0.0:0")
    assert "reachable by others and neither token_file nor auth is set" in said
    assert 'auth = "none"' in said


def test_two_babysitters_do_not_share_a_state_folder(fleet: Fleet) -> None:
    first = sitter(fleet, mock("one", "m"))
    text = first.config.read_text().replace(str(first.port), str(free_port()))
    second = fleet.folder / "second.toml"
    second.write_text(text)
    process = fleet.processes.python("-m", "babysitter", "--config", second)
    assert process.wait() == 1
    assert "another babysitter keeps its state in" in process.log


def test_an_env_file_that_everybody_may_read_is_refused(fleet: Fleet) -> None:
    env_file = fleet.folder / "open.env"
    env_file.write_text("A_KEY=x\n")
    env_file.chmod(0o644)
    assert "chmod 600" in refusal(fleet, mock("one", env_file=str(env_file)))
