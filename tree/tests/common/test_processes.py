"""The tests' own process helper: nothing it started, or that those started, is left."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import DiedError, Processes
from tests.support.until import until

pytestmark = pytest.mark.real

#: Ignores SIGTERM, and starts a child that left its session and ignores it too.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
print("up", *sys.argv[1:], flush=True)
time.sleep(300)
"""


async def test_descendants_that_left_the_session_are_found_and_ended(tmp_path: Path) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    started = Processes(tmp_path)
    parent = started.python(script, name="stubborn")
    await parent.said("up child")
    assert len(started.survivors()) == 2
    parent.kill()
    await parent.ended()
    assert len(started.survivors()) == 1
    started.close()
    assert started.survivors() == []


async def test_another_tests_processes_are_left_alone(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Processes(tmp_path / "other")
    mine = processes.start([sys.executable, "-c", "import time; time.sleep(300)"])
    theirs = other.start([sys.executable, "-c", "import time; time.sleep(300)"])
    other.close()
    assert (mine.alive, theirs.alive) == (True, False)


async def test_waiting_for_a_process_that_died_tells_its_last_words(processes: Processes) -> None:
    child = processes.start([sys.executable, "-c", "print('out of memory'); exit(3)"], name="x")
    with pytest.raises(DiedError, match="x ended with 3:\nout of memory"):
        await child.ready("http://127.0.0.1:1/health")
    with pytest.raises(DiedError, match="out of memory"):
        await child.said("never")


async def test_until_tells_what_it_waited_for() -> None:
    answers = iter([0, 0, 7])
    assert await until(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: a seven \(last: 0\)"):
        await until(lambda: 0, 0.05, "a seven")
