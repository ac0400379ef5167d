"""Whose process, whose socket, and how they end."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from babysitter import cgroup, procfs
from babysitter.processes import descendants, end_all, find_marked, listens, serves, until_gone
from babysitter.procfs import Proc
from tests.babysitter.shim_bench import python


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes that a test started; ended and reaped afterwards."""
    them: list[subprocess.Popen[bytes]] = []
    yield them
    for one in them:
        one.kill()
        one.communicate()


def run(started: list["subprocess.Popen[bytes]"], script: str, **env: str) -> tuple[Proc, str]:
    """Start `script`; its process once it said a line, and the line."""
    one = subprocess.Popen(python(script), stdout=subprocess.PIPE, env=env)
    started.append(one)
    assert one.stdout is not None
    line = one.stdout.readline().decode().strip()
    found = procfs.look(one.pid)
    assert found is not None
    return found, line


IDLE = "import signal; print('up'); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + IDLE


def proc(pid: int, ppid: int) -> Proc:
    return Proc(pid, 1, ppid, pid, pid, "S")


# ── reading ────────────────────────────────────────────────────────────────────────────────────


def test_a_name_with_brackets_and_spaces_does_not_confuse() -> None:
    fields = b"S 1 20 30 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
    assert procfs.parse_stat(7, b"7 (a) b (c) " + fields) == Proc(7, 4711, 1, 20, 30, "S")
    assert procfs.parse_stat(7, b"7 (a)") is None
    assert procfs.parse_stat(7, b"") is None


def test_a_process_whose_first_thread_ended_is_no_zombie() -> None:
    fields = "1 20 30 0 -1 0 0 0 0 0 0 0 0 0 20 0 {} 0 4711 0 0"
    for threads, state in ((1, "Z"), (2, "S")):
        found = procfs.parse_stat(7, b"7 (a) Z " + fields.format(threads).encode())
        assert found is not None
        assert found.state == state


def test_all_below_the_roots_are_found_parents_first_and_once() -> None:
    procs = {pid: proc(pid, ppid) for pid, ppid in ((2, 1), (3, 2), (4, 3), (5, 1), (6, 5))}
    assert [one.pid for one in procfs.under([2], procs)] == [3, 4]
    assert sorted(one.pid for one in procfs.under([1], procs)) == [2, 3, 4, 5, 6]
    assert [one.pid for one in procfs.under([2, 3], procs)] == [4]
    loop = {1: proc(1, 2), 2: proc(2, 1)}
    assert [one.pid for one in procfs.under([1], loop)] == [2]


def test_a_mark_is_one_life_or_all_of_a_folder_and_never_a_longer_name() -> None:
    assert procfs.has_mark(b"abc-1", "abc-1")
    assert procfs.has_mark(b"abc-1", "abc")
    assert not procfs.has_mark(b"abc-12", "abc-1")
    assert not procfs.has_mark(b"abcd-1", "abc")


@pytest.mark.real
def test_marked_processes_are_found_by_their_environment_alone(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    mark = f"test{os.getpid()}"
    one, _ = run(started, IDLE, CRECHE_ENGINE_ID=f"{mark}-1")
    run(started, IDLE, CRECHE_ENGINE_ID=f"{mark}x-1")
    run(started, IDLE, OTHER=f"CRECHE_ENGINE_ID={mark}-1")
    assert [found.pid for found in find_marked(mark)] == [one.pid]
    assert [found.pid for found in find_marked(f"{mark}-1")] == [one.pid]
    assert one in [found._replace(state=one.state) for found in descendants(os.getpid())]


# ── ending ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.real
async def test_a_later_process_of_the_same_pid_is_never_touched(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    found, _ = run(started, IDLE)
    earlier = found._replace(start_time=found.start_time - 1)
    assert not procfs.send(earlier, signal.SIGKILL)
    assert await end_all([earlier], 0) == 0
    assert await until_gone(earlier, 0)
    assert not procfs.is_alive(earlier.pid, earlier.start_time)
    assert procfs.is_alive(found.pid, found.start_time)
    assert started[0].poll() is None


@pytest.mark.real
async def test_each_gets_its_grace_and_what_is_left_is_killed(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    polite, _ = run(started, IDLE)
    assert await end_all([polite], 60) == 1
    assert started[0].wait(30) == -signal.SIGTERM
    another, _ = run(started, IDLE)
    stubborn, _ = run(started, STUBBORN)
    assert await end_all([another, stubborn], 0.2) == 2
    assert started[1].wait(30) in (-signal.SIGTERM, -signal.SIGKILL), "as soon as it got round to"
    assert started[2].wait(30) == -signal.SIGKILL
    assert await end_all([polite, stubborn], 0.2) == 0
    assert procfs.look(polite.pid) is None
    assert not procfs.send(polite, signal.SIGKILL)


@pytest.mark.real
async def test_waiting_for_an_end_is_bounded(started: list["subprocess.Popen[bytes]"]) -> None:
    found, _ = run(started, IDLE)
    assert not await until_gone(found, 0.01)
    waiting = asyncio.gather(until_gone(found, 60))
    assert procfs.send(found, signal.SIGKILL)
    assert await waiting == [True]


async def test_nothing_to_end_is_no_error() -> None:
    assert await end_all([], 5) == 0


# ── sockets ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.real
def test_a_port_belongs_to_a_family_and_to_nobody_else(
    started: list["subprocess.Popen[bytes]"],
) -> None:
    server = (
        "import socket, signal, os; s = socket.create_server(('127.0.0.1', 0))\n"
        "os.fork() and (s.close(), signal.pause())\n"  # only the child holds it
        "print(s.getsockname()[1]); signal.pause()"
    )
    parent, port = run(started, server)
    other, _ = run(started, IDLE)
    assert listens(parent.pid, int(port), "127.0.0.1")
    assert listens(os.getpid(), int(port), "localhost")
    assert not listens(other.pid, int(port), "127.0.0.1")
    assert not listens(parent.pid, int(port), "127.0.0.9")
    with socket.create_server(("127.0.0.1", 0)) as ours:
        assert not listens(parent.pid, ours.getsockname()[1], "127.0.0.1")
        assert listens(os.getpid(), ours.getsockname()[1], "127.0.0.1")
        with socket.create_connection(ours.getsockname()) as client:
            assert not listens(os.getpid(), client.getsockname()[1], "127.0.0.1")
    for child in descendants(parent.pid):
        procfs.send(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("listening", "wanted", "answer"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("0.0.0.0", "10.0.0.5", True),
        ("0.0.0.0", "::1", False),
        ("::", "10.0.0.5", True),
        ("::", "::1", True),
        ("::ffff:10.0.0.5", "10.0.0.5", True),
        ("::1", "[::1]", True),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "0.0.0.0", True),
    ],
)
def test_an_address_serves_another(listening: str, wanted: str, answer: bool) -> None:
    assert serves(listening, wanted) is answer


# ── control groups ─────────────────────────────────────────────────────────────────────────────


def test_the_narrowest_count_of_memory_kills_is_read(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("4:memory:/a/b\n0::/a.service\n")
    assert cgroup.oom_file(str(own), str(tmp_path)) == "/proc/vmstat"
    (tmp_path / "memory" / "a" / "b").mkdir(parents=True)
    v1 = tmp_path / "memory" / "a" / "b" / "memory.oom_control"
    v1.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert cgroup.oom_file(str(own), str(tmp_path)) == str(v1)
    assert cgroup.oom_kills(str(v1)) == 3
    (tmp_path / "a.service").mkdir()
    v2 = tmp_path / "a.service" / "memory.events"
    v2.write_text("low 0\noom 1\noom_kill 2\noom_group_kill 0\n")
    assert cgroup.oom_file(str(own), str(tmp_path)) == str(v2)
    assert cgroup.oom_kills(str(v2)) == 2
    assert cgroup.oom_kills(str(tmp_path / "none")) == 0
    assert cgroup.oom_file(str(tmp_path / "none"), str(tmp_path)) == "/proc/vmstat"


def test_a_group_that_was_not_handed_over_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("0::/a.service\n")
    (tmp_path / "a.service").mkdir()
    assert cgroup.delegated(str(own), str(tmp_path)) is None
    try:
        os.setxattr(tmp_path / "a.service", "user.delegate", b"1")
    except OSError:
        return  # a file system without attributes
    assert cgroup.delegated(str(own), str(tmp_path)) == str(tmp_path / "a.service")


def test_a_group_is_entered_and_killed_by_one_write(tmp_path: Path) -> None:
    group = tmp_path / "creche-x"
    assert cgroup.make(str(tmp_path), "creche-x") is None  # a plain folder, no control group
    assert not cgroup.kill(str(group))
    for name in ("cgroup.procs", "cgroup.kill"):
        (group / name).touch()
    assert cgroup.make(str(tmp_path), "creche-x") == str(group)
    cgroup.enter(str(group))
    assert cgroup.kill(str(group))
    assert (group / "cgroup.procs").read_text() == "0"
    assert (group / "cgroup.kill").read_text() == "1"
    assert cgroup.make(str(tmp_path / "none"), "x") is None
