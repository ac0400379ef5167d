"""The real process: killed, frozen, given bad files; what it acknowledged is there."""

import asyncio
import json
import random
import signal
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.http import CLOSE_TIMEOUT_S
from registry.__main__ import PROGRAM
from registry.sqlite_store import SqliteStore
from tests.registry.running import Watch, body_of
from tests.support.fleet import Fleet, Part, ask
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real


@pytest.fixture
def fleet(tmp_path: Path) -> Any:
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One registry for the tests that leave it as it is."""
    with Fleet(tmp_path_factory.mktemp("shared")) as made:
        made.registry()
        yield made


def state_file(part: Part) -> Path:
    return part.fleet.folder / "state" / "registry" / "registry.db"


class Registrar(threading.Thread):
    """Registers, drains and deletes as fast as it can, and keeps a ledger of what was acknowledged.

    What got no answer may or may not be there: it is in doubt, until it is asked for again.
    """

    def __init__(self, url: str, number: int) -> None:
        super().__init__()
        self.url = url
        self.number = number
        self.present: dict[str, dict[str, Any]] = {}
        self.absent: set[str] = set()
        self.in_doubt: set[str] = set()
        self.drained: set[str] = set()

    def run(self) -> None:
        dice = random.Random(self.number)
        count = 0
        while True:
            name = f"r{self.number}-{count}"
            host = f"127.0.1.{self.number}"
            body = body_of(name, 1 + count, host=host, lease_s=1, instance_id=name)
            count += 1
            self.in_doubt.add(name)
            try:
                status, said = ask(self.url + "/services", body)
                assert status == 201, said
                self.present[name] = said["service"]
                self.in_doubt.discard(name)
                if dice.random() < 0.3:
                    self.in_doubt.add(name)
                    status, _ = ask(f"{self.url}/services/{name}/drain", {})
                    assert status == 200
                    self.drained.add(name)
                    self.in_doubt.discard(name)
            except OSError:
                return


def test_every_acknowledged_registration_survives_kill_9_at_any_moment(fleet: Fleet) -> None:
    registry = fleet.registry(lease={"lease_s": 600})
    dice = random.Random(9)
    present: dict[str, dict[str, Any]] = {}
    drained: set[str] = set()
    in_doubt: set[str] = set()
    revision = 0
    epoch = registry.get("/health")["epoch"]
    for round in range(3):
        crowd = [Registrar(registry.url, round * 4 + n) for n in range(4)]
        for one in crowd:
            one.start()
        until_sync(lambda: sum(len(one.present) for one in crowd) >= 8)  # noqa: B023
        threading.Event().wait(dice.random() * 0.5)  # the random moment itself
        registry.kill9()
        for one in crowd:
            one.join(30)
            assert not one.is_alive()
            present |= one.present
            drained |= one.drained
            in_doubt |= one.in_doubt
        registry.start()
        listed = registry.get("/services")
        found = {one["name"]: one for one in listed["services"]}
        assert present.keys() <= found.keys()
        assert found.keys() <= present.keys() | in_doubt
        assert {name for name in found if found[name]["draining"]} >= drained
        for name, wanted in present.items():
            for field in ("host", "port", "url", "instance_id", "lease_s", "metadata"):
                assert found[name][field] == wanted[field]
            assert found[name]["is_healthy"] or found[name]["draining"]
        assert listed["revision"] >= max([revision, *(one["revision"] for one in found.values())])
        revision = listed["revision"]
        assert registry.get("/health")["epoch"] == epoch
    assert len(present) > 20


async def test_a_damaged_file_is_set_aside_with_a_clear_message(fleet: Fleet) -> None:
    registry = fleet.registry(start=False)
    file = state_file(registry)
    epoch = await a_state_file(file)
    raw = file.read_bytes()
    file.write_bytes(raw[:3000] + b"\0" * 3000 + raw[6000:])
    await asyncio.to_thread(registry.start)
    assert (await asyncio.to_thread(registry.get, "/services"))["services"] == []
    assert (await asyncio.to_thread(registry.get, "/health"))["epoch"] != epoch
    said = registry.process.log
    assert "the state file is damaged and was set aside" in said
    assert "live services register again within one beat" in said
    (aside,) = file.parent.glob("registry.db.damaged-*")
    assert str(aside) in said


async def a_state_file(path: Path) -> str:
    """A registry's own, without a service. Its epoch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(path)
    stored = await store.open()
    await store.close()
    return stored.epoch


async def test_a_newer_schema_is_refused_and_says_what_to_do(fleet: Fleet) -> None:
    registry = fleet.registry(start=False)
    await a_state_file(state_file(registry))
    with sqlite3.connect(state_file(registry)) as db:
        db.execute("PRAGMA user_version=7")
    db.close()
    registry.start(ready=None)
    assert await registry.process.ended() == 1
    said = registry.process.log
    assert "creche-registry: refusing to start: the state file" in said
    assert "written by a newer Creche (its schema is 7, this one knows 1)" in said
    assert "Traceback" not in said


def test_a_second_registry_on_the_same_state_refuses_to_start(shared: Fleet) -> None:
    registry = shared.parts["registry"]
    folder = str(state_file(registry).parent)
    other = shared._part("other", "registry", {"state_dir": folder}, start=False)
    other.start(ready=None)
    assert other.process.wait() == 1
    assert "in use by another registry" in other.process.log
    assert registry.get("/health")["status"] == "healthy"


def test_a_taken_port_is_told_with_its_owner(shared: Fleet) -> None:
    registry = shared.parts["registry"]
    other = shared._part("late", "registry", {"listen": f"127.0.0.1:{registry.port}"}, start=False)
    other.start(ready=None)
    assert other.process.wait() == 1
    assert f"port {registry.port} is taken by" in other.process.log


async def test_after_a_restart_every_watch_gets_a_reset_of_the_same_epoch(fleet: Fleet) -> None:
    registry = await asyncio.to_thread(fleet.registry, lease={"beat_s": 1, "lease_s": 5})
    async with aiohttp.ClientSession() as session:
        async with Watch(session, registry.url) as watch:
            first = await watch.until("synced")
            body = body_of("a", 8100, lease_s=1, instance_id="x")
            await asyncio.to_thread(ask, registry.url + "/services", body)
            await watch.until("put")
            _, last, data = (await watch.until("put"))[-1]
            assert data["is_healthy"] is False  # its lease lapsed
            await asyncio.to_thread(registry.kill9)
        await asyncio.to_thread(registry.start)
        for heard in (first[-1][1], last):  # also who missed nothing: the lease is a full one again
            async with Watch(session, registry.url, heard) as watch:
                behind = await watch.until("synced")
            assert [name for name, _, _ in behind] == ["reset", "put", "synced"]
            assert behind[0][2] == first[0][2]
            assert behind[1][2]["is_healthy"] is True
            assert behind[-1][1] == last
            await asyncio.to_thread(ask, registry.url + "/services/a/heartbeat", {})


async def test_a_frozen_registry_lets_nobody_lapse_for_the_time_it_missed(fleet: Fleet) -> None:
    registry = await asyncio.to_thread(fleet.registry, lease={"beat_s": 1, "lease_s": 4})
    begun = time.monotonic()
    for number in range(3):
        body = body_of(f"s{number}", 8100 + number, lease_s=1, instance_id="x")
        await asyncio.to_thread(ask, registry.url + "/services", body)
    async with aiohttp.ClientSession() as session, Watch(session, registry.url) as watch:
        await watch.until("synced")
        registry.process.signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        await until(lambda: time.monotonic() - frozen_at > 4.5)  # longer than a lease
        frozen_s = time.monotonic() - frozen_at
        registry.process.signal(signal.SIGCONT)
        name, _, data = (await watch.until("put"))[-1]
        lapsed_s = time.monotonic() - begun
        assert (name, data["is_healthy"]) == ("put", False)
        assert lapsed_s > 4 + frozen_s - 0.5  # a look at the clock before, one after


def test_sigterm_ends_it_at_once_and_leaves_a_clean_file(fleet: Fleet) -> None:
    registry = fleet.registry()
    ask(registry.url + "/services", body_of("a", 8100))
    started = time.monotonic()
    assert registry.stop() == 0
    assert time.monotonic() - started < CLOSE_TIMEOUT_S
    assert [one.name for one in state_file(registry).parent.iterdir()] == ["registry.db"]


def test_check_prints_faults_or_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("")
    bad.write_text("[lease]\nbeat_s = 10\n")
    assert PROGRAM.run(["check", str(good)]) == 0
    said = capsys.readouterr().out
    assert said == "ok   listen 127.0.0.1:18000, SQLite, beat 5 s, lease 15 s\n"
    assert PROGRAM.run(["check", str(bad)]) == 1
    said = capsys.readouterr().out
    assert "bad.toml:2:10" in said
    assert "a beat every 10 s is too rare" in said


def test_the_documented_examples_are_what_it_answers(shared: Fleet) -> None:
    """docs/api-registry.md: each request is sent, its answer's shape compared."""
    registry = shared.parts["registry"]
    text = (Path(__file__).parents[2] / "docs" / "api-registry.md").read_text()
    checked = 0
    for block in text.split("```http\n")[1:]:
        request, _, answer = block.partition("```")[0].partition("\n\n---\n")
        head, _, body = request.partition("\n\n")
        method, path = head.splitlines()[0].split()[:2]
        status_line, _, wanted = answer.partition("\n\n")
        status, said = call(registry.url, method, path, body.encode() or None)
        assert status == int(status_line.split()[0]), (head, said)
        assert keys(said) == keys(json.loads(wanted)), (head, said)
        checked += 1
    assert checked >= 10


def call(url: str, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
    request = urllib.request.Request(url + path, body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


def keys(value: Any) -> Any:
    """The shape of a JSON value, without metadata's own keys."""
    if isinstance(value, dict):
        return {k: None if k == "metadata" else keys(v) for k, v in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return None
