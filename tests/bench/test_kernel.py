"""What the benchmarks ask the kernel."""

import os
import socket
import subprocess
import sys

import pytest

from bench import cpu
from bench.half_open import half_open
from tests.support.until import until_sync


def test_connections_to_a_full_backlog_are_half_open() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        assert half_open(port) == 0
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        until_sync(lambda: half_open(port) >= 2)
        for one in waiting:
            one.close()
        until_sync(lambda: half_open(port) == 0)


def test_cpu_time_is_what_was_used() -> None:
    code = (
        "import time\n"
        "while time.process_time() < 0.2: pass\n"
        "print(time.process_time(), flush=True)\n"
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        used_s = float(child.stdout.readline())
        assert cpu.used_s(child.pid) == pytest.approx(used_s, abs=0.05)
        child.communicate(b"\n")


def test_children_count_as_their_parent() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in cpu.family(os.getpid())
    until_sync(lambda: cpu.resident_mb(child.pid) > 1)
    child.communicate(b"\n")
    assert child.pid not in cpu.family(os.getpid())


def test_two_different_cores_or_a_reason() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        with pytest.raises(RuntimeError, match="two cores"):
            cpu.two_cores()
    else:
        assert len(set(cpu.two_cores())) == 2
