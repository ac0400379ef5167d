"""`python -m bench.times`: how long after. The times that are promised, measured on real processes.

    a client leaves (queued, connecting, waiting, streaming) ──▶ its engine is free       50 ms
    a service registers ──▶ the router sends it a request                                100 ms
    an engine's process is killed ──▶ the router holds it unfit                          200 ms

All processes of a machine share CLOCK_MONOTONIC, so the mock engine's time of a departure can be
held against the client's.
"""

import argparse
import asyncio
import http.client
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import cpu
from bench.figures import Tail, table, tail, verdict
from bench.half_open import half_open
from bench.load import request
from bench.quick import say
from tests.support.fleet import Fleet, mock
from tests.support.mock import ProcessMock, start_mock
from tests.support.until import until_sync

OUT = Path(__file__).parent / "out" / "times.json"
MODEL = "bench-model"
#: How many clients leave together.
BATCH = 50
_RST = struct.pack("ii", 1, 0)


class Time(Struct, frozen=True, kw_only=True):
    name: str
    budget_ms: float
    measured: Tail


# ---- clients that leave


class Departing:
    """A client that has asked and will leave without its answer; FIN and RST in turn."""

    def __init__(self, port: int, number: int, headers: dict[str, str]) -> None:
        self.id = f"left-{number}"
        self._reset = number % 2 == 1
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        payload = request(MODEL, stream=True, headers={**headers, "x-request-id": self.id})
        self._socket.sendall(payload)
        self.left_at = 0.0

    def await_event(self) -> None:
        seen = b""
        while b"data: " not in seen:
            seen += self._socket.recv(65536)

    def leave(self) -> None:
        if self._reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.left_at = time.monotonic()
        self._socket.close()


@contextmanager
def one_engine(folder: Path, port: int | None = None, **flags: Any) -> Iterator[Any]:
    """A router before one engine: a mock with `flags`, or whatever listens on `port`."""
    with Fleet(folder) as fleet:
        engine = None
        if port is None:
            engine = asyncio.run(start_mock(fleet.processes, name="e", models=[MODEL], **flags))
            port = engine.port
        service = {"name": "e", "host": "127.0.0.1", "port": port, "metadata": {"models": [MODEL]}}
        fleet.router(registries=[], static_services=[service], timeouts={"connect_s": 30})
        yield fleet, engine


def departures(folder: Path, phase: str, clients: int) -> Tail:
    """Of clients whose request had come so far; the engine is the witness."""
    flags: dict[str, Any] = {"quiet": True}
    headers = {"x-mock-hang": "before"}
    if phase == "queued":
        flags["max_concurrency"] = 1
    elif phase == "streaming":
        headers = {"x-mock-hang": "middle", "x-mock-after": "2"}
    with one_engine(folder, **flags) as (fleet, engine):
        port = fleet.parts["router"].port
        if phase == "queued":
            busy = Departing(port, -2, headers)
            _until(engine, lambda stats: stats["in_flight"] == 1)
        left: list[Departing] = []
        for start in range(0, clients, BATCH):
            batch = [
                Departing(port, start + i, headers) for i in range(min(BATCH, clients - start))
            ]
            arrived = "queued" if phase == "queued" else "in_flight"
            _until(engine, lambda stats: stats[arrived] == len(batch))  # noqa: B023
            if phase == "streaming":
                for client in batch:
                    client.await_event()
            for client in batch:
                client.leave()
            left += batch
            _until(engine, lambda stats: stats["aborts"][phase] == len(left))  # noqa: B023
        stats = asyncio.run(engine.stats())
        if phase == "queued":
            busy.leave()
    noticed = {entry["id"]: entry["at"] for entry in stats["abort_log"]}
    return tail([(noticed[client.id] - client.left_at) * 1000 for client in left])


def _until(engine: ProcessMock, reached: Callable[[dict[str, Any]], bool]) -> None:
    until_sync(lambda: reached(asyncio.run(engine.stats())), 20, "the engine's counts")


def connecting(folder: Path, clients: int) -> Tail:
    """Of clients whose engine does not take the connection: its backlog is full.

    The witness is the kernel: the router's half-open connection goes away.
    """
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        until_sync(lambda: half_open(port) >= 2, 5, "a full backlog")
        with one_engine(folder, port) as (fleet, _):
            times: list[float] = []
            for start in range(0, clients, BATCH):
                times += _connecting_batch(
                    fleet.parts["router"].port, port, start, min(BATCH, clients - start)
                )
        for filler in fillers:
            filler.close()
    return tail(times)


def _connecting_batch(router_port: int, port: int, start: int, count: int) -> list[float]:
    already = half_open(port)
    batch = [Departing(router_port, start + i, {}) for i in range(count)]
    until_sync(lambda: half_open(port) == already + count, 20, "connections on their way")
    for client in batch:
        client.leave()
    gone: list[float] = []
    deadline = time.monotonic() + 20
    while len(gone) < count:
        now_gone = already + count - half_open(port)
        gone += [time.monotonic()] * (now_gone - len(gone))
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count - len(gone)} connections of gone clients are still opening")
    # which is whose cannot be told, so the n-th to go is held against the n-th to leave
    return [(at - client.left_at) * 1000 for at, client in zip(gone, batch, strict=True)]


def _again(began: float, what: str) -> None:
    """Between two looks: short beside what is measured, and not all of a core."""
    if time.monotonic() - began > 30:
        raise RuntimeError(f"after 30 s {what}")
    time.sleep(0.001)


# ---- registrations


def registrations(folder: Path, count: int) -> Tail:
    """From the first byte of a registration to the router's first 200 with the new model."""
    with Fleet(folder) as fleet:
        engine = asyncio.run(
            start_mock(fleet.processes, name="e", host="0.0.0.0", any_model=True, quiet=True)
        )
        registry = http.client.HTTPConnection("127.0.0.1", fleet.registry().port)
        router = http.client.HTTPConnection("127.0.0.1", fleet.router().port)
        times = []
        for number in range(count):
            model = f"model-{number}"
            record = _record(f"service-{number}", f"127.9.0.{number + 1}", engine.port, model)
            began = time.monotonic()
            status, text = _post(registry, "/services", record)
            if status != 201:
                raise RuntimeError(f"registration refused: {status} {text}")
            chat = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
            while _post(router, "/v1/chat/completions", chat)[0] != 200:
                _again(began, f"{model} is not routable")
            times.append((time.monotonic() - began) * 1000)
        return tail(times)


def _record(name: str, host: str, port: int, model: str) -> dict[str, Any]:
    return {
        "name": name,
        "host": host,
        "port": port,
        "hostname": host,
        "url": f"http://{host}:{port}",
        "status": "running",
        "instance_id": f"life-of-{name}",
        "lease_s": 60,
        "metadata": {"type": "openai-api", "models": [model]},
    }


def _post(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, str]:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


# ---- engines that die


def deaths(folder: Path, count: int) -> Tail:
    """From SIGKILL of an engine's process to the router's holding it unfit."""
    names = [f"engine-{number}" for number in range(count)]
    with Fleet(folder) as fleet:
        fleet.registry()
        fleet.router()
        engines = [mock(name, name, backoff_first_s=60) for name in names]
        babysitter = fleet.babysitter("nurse", engines, start=False).start(ready=None)
        until_sync(lambda: set(names) <= set(fleet.models()), 120, "all engines are routable")
        router = http.client.HTTPConnection("127.0.0.1", fleet.parts["router"].port)
        times = []
        for name in names:
            pid = babysitter.get(f"/engines/{name}")["pid"]
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while _is_healthy(router, f"{name}@test"):
                _again(began, f"{name} is still in rotation")
            times.append((time.monotonic() - began) * 1000)
        return tail(times)


def _is_healthy(router: http.client.HTTPConnection, name: str) -> bool:
    router.request("GET", "/services")
    answer = router.getresponse()
    services = json.loads(answer.read())["services"]
    return any(one["healthy"] for one in services if one["name"] == name)


# ---- all of it


def run(folder: Path, clients: int, services: int, kills: int) -> Iterator[Time]:
    def place(name: str) -> Path:
        found = folder / name
        found.mkdir()
        return found

    for phase in ("queued", "waiting", "streaming"):
        measured = departures(place(phase), phase, clients)
        yield Time(name=f"a client leaves, {phase}", budget_ms=50, measured=measured)
    measured = connecting(place("connecting"), clients)
    yield Time(name="a client leaves, connecting", budget_ms=50, measured=measured)
    measured = registrations(place("registrations"), services)
    yield Time(name="a registration is routable", budget_ms=100, measured=measured)
    measured = deaths(place("deaths"), kills)
    yield Time(name="a killed engine is out", budget_ms=200, measured=measured)


def report(times: list[Time]) -> str:
    rows = [
        [
            one.name,
            str(one.measured.count),
            f"{one.measured.p50:.1f}",
            f"{one.measured.p99:.1f}",
            f"{one.measured.max:.1f}",
            f"{one.budget_ms:g}",
            verdict(one.measured.max, one.budget_ms),
        ]
        for one in times
    ]
    return table(["ms after", "count", "p50", "p99", "max", "budget", ""], rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.times", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000, help="that leave, in each phase")
    parser.add_argument("--services", type=int, default=100, help="that register")
    parser.add_argument("--kills", type=int, default=10, help="engines that are killed")
    parser.add_argument("--strict", action="store_true", help="exit 1 when over budget")
    args = parser.parse_args()
    if busy := cpu.machine_is_busy():
        say(busy)
    times = []
    with tempfile.TemporaryDirectory(prefix="creche-times-") as folder:
        for one in run(Path(folder), args.clients, args.services, args.kills):
            say(f"{one.name}: done")
            times.append(one)
    OUT.parent.mkdir(exist_ok=True)
    plain = [
        {
            "name": t.name,
            "budget_ms": t.budget_ms,
            **{k: getattr(t.measured, k) for k in Tail.__struct_fields__},
        }
        for t in times
    ]
    OUT.write_text(json.dumps(plain, indent=1) + "\n")
    print(report(times))
    over = any(one.measured.max > one.budget_ms for one in times)
    return 1 if args.strict and over else 0


if __name__ == "__main__":
    sys.exit(main())
