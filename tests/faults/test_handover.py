"""A router is replaced while clients come and go: nobody is refused, nobody is cut."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, Part, ask, chat, mock
from tests.support.mock import MockHandle, start_mock
from tests.support.ports import free_ports
from tests.support.processes import Process
from tests.support.strict import Kept, Load
from tests.support.until import until

pytestmark = pytest.mark.real


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live, oldest first. Numbers go round: what
    counts is when they began."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, parent, began = fields[0], fields[1], int(fields[19])
        if parent == str(pid) and state != "Z":
            found.append((began, int(entry)))
    return [number for _, number in sorted(found)]


class Endless:
    """An engine whose streams go on until they are told to end."""

    def __init__(self) -> None:
        self.enough = asyncio.Event()
        self.begun = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                one for one in head.lower().split(b"\r\n") if one.startswith(b"content-l")
            )
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            self.begun += 1
            while not self.enough.is_set():
                writer.write(b'data: {"choices": [{"delta": {"content": "on "}}]}\n\n')
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.enough.wait(), 0.02)
            writer.write(b"data: [DONE]\n\n")
        except (OSError, EOFError):
            pass  # a probe, that only connects
        finally:
            writer.close()


@pytest.fixture
async def endless() -> AsyncIterator[Endless]:
    one = Endless()
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    yield one
    one.enough.set()
    server.close()
    await server.wait_closed()


async def engine(fleet: Fleet, name: str) -> MockHandle:
    return await start_mock(fleet.processes, name=name, models=["m"])


def static(name: str, port: int, model: str) -> dict[str, Any]:
    return {"name": name, "host": "127.0.0.1", "port": port, "metadata": {"models": [model]}}


@pytest.fixture
async def fleet(tmp_path: Path, endless: Endless) -> AsyncIterator[Fleet]:
    """A router alone, and two engines that its file names."""
    with Fleet(tmp_path) as fleet:
        (port,) = free_ports(1)
        fleet.router(
            replaceable=True,
            listen=f"127.0.0.1:{port}",
            registries=[],
            static_services=[
                static("one", (await engine(fleet, "one")).port, "m"),
                static("two", (await engine(fleet, "two")).port, "m"),
                static("endless", endless.port, "endless"),
            ],
        )
        yield fleet


def serving(router: Part) -> int:
    """The newest process under the holder."""
    return children(router.process.pid)[-1]


async def replace(router: Part) -> None:
    """By one that is ready."""
    said = '"event":"replaced: '
    before = router.process.log.count(said)
    router.process.signal(signal.SIGUSR2)
    await until(lambda: router.process.log.count(said) > before, 60, "replaced")


async def gone(pid: int) -> None:
    await until(lambda: not Path("/proc", str(pid), "cmdline").exists(), 30, f"{pid} has ended")


async def loaded(load: Load, requests: int) -> None:
    """So many of each kind were answered: the load was a load."""
    await until(
        lambda: bool(load.failed) or min(load.well["short"], load.well["kept"]) > requests,
        60,
        f"{requests} requests of each kind",
    )


async def test_nobody_notices_that_it_is_replaced_three_times(
    fleet: Fleet, endless: Endless
) -> None:
    router = fleet.parts["router"]
    first = serving(router)
    load = Load(router.port, chat("m"))
    load.start(short=3, kept=8)
    streams = [await Kept.open(router.port) for _ in range(4)]
    for one in streams:
        await one.send(chat("endless", stream=True))
    await until(lambda: endless.begun == len(streams), 30, "the streams run")
    for _ in range(3):
        await replace(router)
    assert first in children(router.process.pid)
    endless.enough.set()
    ends = [await one.read() for one in streams]
    assert [(one.status, one.is_done, one.closes) for one in ends] == [(200, True, False)] * 4
    # None of them was told of a close: each connection goes on, in whichever process.
    again = [(one, await one.ask(chat("m"))) for one in streams]
    assert {got.status for _, got in again} == {200}
    await gone(first)
    for one, got in again:
        assert got.closes or (await one.ask(chat("m"))).status == 200
        await one.close()
    await loaded(load, 100)
    await load.stop()
    assert load.failed == {}
    await until(lambda: len(children(router.process.pid)) == 1, 30, "one process is left")
    assert router.stop() == 0
    # Each line of the log is whole, although several processes wrote it.
    lines = [json.loads(line) for line in router.process.log.splitlines()]
    requests = [one for one in lines if one["event"] == "request"]
    assert len(requests) >= sum(load.well.values())
    assert not list((fleet.folder / "state" / "router").glob("*.new*"))


async def test_an_idle_connection_goes_on_in_the_successor(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    first = serving(router)
    kept = await Kept.open(router.port)
    assert (await kept.ask(chat("m"))).status == 200
    await replace(router)
    await gone(first)
    got = await kept.ask(chat("m"))
    assert (got.status, got.closes) == (200, False)
    await kept.close()


async def test_a_stop_gives_a_replaced_one_no_more_time_than_the_other(
    fleet: Fleet, endless: Endless
) -> None:
    router = fleet.parts["router"]
    router.config.write_text(router.config.read_text() + "\n[timeouts]\ndrain_s = 0.5\n")
    first = serving(router)
    await replace(router)  # by one that knows this
    await gone(first)
    stream = await Kept.open(router.port)
    await stream.send(chat("endless", stream=True))
    await until(lambda: endless.begun == 1, 30, "the stream runs")
    await replace(router)
    assert len(children(router.process.pid)) == 2
    router.process.terminate()
    assert await router.process.ended() == 0
    end = await stream.read()  # told in-band, and ended in form
    assert b'"error"' in end.body
    assert not end.is_done
    await stream.close()


async def test_a_successor_that_cannot_start_changes_nothing(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    first = serving(router)
    good = router.config.read_text()
    router.config.write_text("stratgy = 3\n" + good)
    kept = await Kept.open(router.port)
    await kept.ask(chat("m"))
    router.process.signal(signal.SIGUSR2)
    log = await router.process.said("before it was ready: the old one serves on")
    assert "stratgy" in log
    assert children(router.process.pid) == [first]
    assert (await kept.ask(chat("m"))).status == 200
    router.config.write_text(good)
    await replace(router)
    await gone(first)
    assert (await kept.ask(chat("m"))).status == 200
    await kept.close()


async def test_who_comes_while_nobody_serves_waits_for_the_next(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    os.kill(serving(router), signal.SIGKILL)
    waiting = [await Kept.open(router.port) for _ in range(20)]
    got = await asyncio.gather(*(one.ask(chat("m")) for one in waiting))
    assert {one.status for one in got} == {200}
    assert "ended with 137: another starts in 0 s" in router.process.log
    for one in waiting:
        await one.close()


async def test_it_ends_without_its_holder(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    child = serving(router)
    router.kill9()
    await gone(child)
    router.start()
    assert (await asyncio.to_thread(ask, f"{fleet.url}/health"))[0] == 200


async def test_a_successor_may_listen_elsewhere(fleet: Fleet) -> None:
    router = fleet.parts["router"]
    (other,) = free_ports(1)
    text = router.config.read_text()
    router.config.write_text(text.replace(f"127.0.0.1:{router.port}", f"127.0.0.1:{other}"))
    first = serving(router)
    await replace(router)
    await gone(first)
    assert (await asyncio.to_thread(ask, f"http://127.0.0.1:{other}/ready"))[0] == 200
    with pytest.raises(ConnectionRefusedError):
        await Kept.open(router.port)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Fleet]:
    """All three daemons. Engines outlive their babysitter."""
    with Fleet(tmp_path) as fleet:
        fleet.registry()
        fleet.babysitter("sitter", [mock("one", "m"), mock("two", "m")], on_term="keep")
        (port,) = free_ports(1)
        fleet.router(replaceable=True, listen=f"127.0.0.1:{port}")
        for name in ("one@test", "two@test"):
            fleet.wait_service(name, healthy=True, timeout_s=60)
        yield fleet


async def test_every_daemon_restarts_under_load_without_an_error(whole: Fleet) -> None:
    router, registry, sitter = (whole.parts[one] for one in ("router", "registry", "sitter"))
    load = Load(router.port, chat("m"))
    load.start(short=2, kept=6)
    stream = await Kept.open(router.port)
    await stream.send(chat("m", stream=True), {"x-mock-tokens": "400", "x-mock-pace-ms": "25"})
    await replace(router)
    for part, ready in ((registry, "/ready"), (sitter, "/health")):
        assert await asyncio.to_thread(part.stop) == 0
        await asyncio.to_thread(part.start, ready=ready)
    for name in ("one@test", "two@test"):
        await asyncio.to_thread(whole.wait_service, name, healthy=True, timeout_s=60)
    end = await stream.read()
    await stream.close()
    assert (end.status, end.is_done) == (200, True)
    await loaded(load, 50)
    await load.stop()
    assert load.failed == {}


async def test_where_systemd_holds_the_port_who_comes_during_a_restart_waits(
    fleet: Fleet, endless: Endless
) -> None:
    """Without a holder: the old one takes no more, its streams end, the next answers the queue."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        part = fleet.router(
            name="activated",
            start=False,
            listen=f"127.0.0.1:{port}",
            registries=[],
            static_services=[static("endless", endless.port, "endless")],
        )

        def start() -> Process:
            # What systemd does: the socket is descriptor 3, and the variables name the process.
            argv = [sys.executable, "-m", "router", "--config", part.config]
            sets = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&"$HELD"'
            return fleet.processes.start(
                ["bash", "-c", sets, "sh", *argv],
                env={"HELD": str(held.fileno())},
                name="activated",
                keep=[held.fileno()],
            )

        first = await start().ready(f"{part.url}/ready")
        stream = await Kept.open(port)
        await stream.send(chat("endless", stream=True))
        await until(lambda: endless.begun == 1, 30)
        first.terminate()
        await first.said('"event":"stopping"')
        waiting = [await Kept.open(port) for _ in range(20)]
        for one in waiting:
            await one.send(chat("endless", stream=True))
        endless.enough.set()
        assert (await stream.read()).is_done
        assert await first.ended() == 0
        second = start()
        answers = await asyncio.gather(*(one.read() for one in waiting))
        assert [one.is_done for one in answers] == [True] * 20
        for one in (stream, *waiting):
            await one.close()
        second.terminate()
        assert await second.ended() == 0


async def test_one_without_a_holder_says_that_it_cannot_be_replaced_and_serves_on(
    fleet: Fleet,
) -> None:
    services = [static("one", 9, "m")]
    alone = await asyncio.to_thread(
        lambda: fleet.router(name="alone", registries=[], static_services=services)
    )
    alone.process.signal(signal.SIGUSR2)
    await alone.process.said("not replaced: it was started without --replaceable")
    assert (await asyncio.to_thread(ask, f"{alone.url}/health"))[0] == 200


async def test_a_taken_port_is_fatal_as_ever(fleet: Fleet) -> None:
    second = fleet.router(
        name="second",
        start=False,
        replaceable=True,
        listen=f"127.0.0.1:{fleet.parts['router'].port}",
    )
    second.start(ready=None)
    assert await second.process.ended() == 1
    assert f"refusing to start: port {second.port} is taken by " in second.process.log
