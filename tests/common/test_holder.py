"""Whoever holds a port: real processes, real signals, a real notify socket."""

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from common import holder
from tests.support.ports import free_port
from tests.support.processes import Process, Processes
from tests.support.systemd import Systemd
from tests.support.until import until

pytestmark = pytest.mark.real

#: Answers each connection with its pid, until it is told to stop; then ends with `status`.
CHILD = """
import asyncio, os, sys
from common import holder
if holder.wanted(sys.argv[1:]):
    sys.exit(holder.run("test"))
from common import daemon, listen, logs
from common.address import Address
logs.set_up("test", form="json")

async def answer(reader, writer):
    writer.write(str(os.getpid()).encode())
    writer.close()

async def main(me):
    opened = listen.open_all({"listen": Address("127.0.0.1", int(sys.argv[2]))})
    me.held.listens_on(opened.sockets["listen"])
    if os.path.exists("broken"):
        sys.exit(3)
    me.on_reload(lambda: me.reloading() or me.reloaded("again"))
    server = await asyncio.start_server(answer, sock=opened.sockets["listen"][0])
    me.ready("serving")
    await me.until_stopped()
    server.close()
    if me.held.replaced:
        me.held.released()

sys.exit(daemon.run("creche-test", main))
"""


class Held:
    """The holder, and the port."""

    def __init__(self, processes: Processes, folder: Path, *before: str | Path, **env: str) -> None:
        self.port = free_port()
        self.folder = folder
        script = folder / "child.py"
        script.write_text(CHILD)
        argv = [sys.executable, script, "--replaceable", str(self.port)]
        self.process: Process = processes.start(
            [*(str(one).format(port=self.port) for one in before), *argv],
            name="holder",
            env=env,
            cwd=folder,
        )

    def child(self) -> int:
        """Who serves. ConnectionError from one that ended with this client in its hands."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as one:
            said = one.recv(20)
        if not said:
            raise ConnectionError("it ended instead of answering")
        return int(said)

    async def other_than(self, pid: int) -> int:
        return await until(lambda: (found := self.child()) != pid and found)


async def test_systemd_hears_of_one_daemon_however_many_there_are(
    processes: Processes, systemd: Systemd, tmp_path: Path
) -> None:
    held = Held(processes, tmp_path, NOTIFY_SOCKET=systemd.address)
    assert systemd.next() == "READY=1\nSTATUS=serving"
    held.process.signal(signal.SIGHUP)
    assert systemd.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert systemd.next() == "READY=1\nSTATUS=again"
    held.process.signal(signal.SIGUSR2)
    assert systemd.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert systemd.next() == "READY=1\nSTATUS=serving"
    (tmp_path / "broken").touch()
    held.process.signal(signal.SIGUSR2)
    assert systemd.next().endswith("\nSTATUS=replacing")
    assert systemd.next() == "READY=1\nSTATUS=the successor did not start: see the log"
    held.process.terminate()
    assert systemd.next() == "STOPPING=1"
    assert await held.process.ended() == 0


async def test_the_process_group_may_get_the_signal_too(
    processes: Processes, tmp_path: Path
) -> None:
    """`systemctl kill -s USR2` signals every process of the unit."""
    held = Held(processes, tmp_path)
    first = await until(held.child)
    os.kill(first, signal.SIGUSR2)
    held.process.signal(signal.SIGUSR2)
    second = await held.other_than(first)
    for pid in (second, held.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert await held.process.ended() == 0


# Long enough that none is killed which only stands still, as on a machine that is too small.
@pytest.mark.parametrize("systemd", ["a path"], indirect=True)
async def test_one_that_hangs_is_replaced_and_systemd_sees_signs_of_life(
    processes: Processes, systemd: Systemd, tmp_path: Path
) -> None:
    held = Held(processes, tmp_path, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="6000000")
    systemd.until("READY=1\nSTATUS=serving")
    first = held.child()
    os.kill(first, signal.SIGSTOP)
    said = systemd.until("READY=1\nSTATUS=serving")
    assert set(said[:-1]) == {"WATCHDOG=1"}
    assert held.child() != first
    assert "no sign of life for 6 s: killed" in held.process.log
    assert held.process.stop() == 0


async def test_a_start_that_fails_is_the_end_and_its_status(
    processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "broken").touch()
    held = Held(processes, tmp_path)
    assert await held.process.ended() == 3


async def test_a_crash_is_followed_by_another_and_nobody_is_refused(
    processes: Processes, tmp_path: Path
) -> None:
    held = Held(processes, tmp_path)
    first = await until(held.child)
    os.kill(first, signal.SIGKILL)
    second = held.child()  # waits in the queue
    assert second != first
    assert "ended with 137: another starts in 0 s, connections wait" in held.process.log
    held.process.terminate()
    assert await held.process.ended() == 0


async def test_what_systemd_holds_is_given_on(processes: Processes, tmp_path: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None, "install systemd: make test does"
    kept = [activate, "-l", "127.0.0.1:{port}", "-E", "PYTHONPATH", "-E", "CRECHE_TEST_RUN"]
    held = Held(processes, tmp_path, *kept)
    first = await until(held.child)
    held.process.signal(signal.SIGUSR2)
    await held.other_than(first)
    held.process.terminate()
    assert await held.process.ended() == 0


def test_a_check_needs_no_holder_and_a_held_one_is_none_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert holder.wanted(["--config", "a.toml", holder.FLAG])
    assert not holder.wanted(["check", holder.FLAG])
    assert not holder.wanted([])
    monkeypatch.setenv(holder.VARIABLE, "1:3:")
    assert not holder.wanted([holder.FLAG])
