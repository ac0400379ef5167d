"""The tests' own process helper: nothing it started, or that those started, is left."""

import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import DiedError, Process, Processes
from tests.support.until import until, until_sync

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


class Late(Process):
    """Ends between two looks: this one is just too early for its last words."""

    @property
    def log(self) -> str:
        found = super().log
        self.terminate()
        self.wait()
        return found


async def test_what_it_says_as_it_ends_is_heard(processes: Processes) -> None:
    words = "import signal; signal.sigwait([15]); print('goodbye')"
    code = f"import signal; signal.pthread_sigmask(0, [15]); print('up'); {words}"
    child = processes.start([sys.executable, "-c", code], name="x")
    await child.said("up")
    assert "goodbye" in await Late(child.name, child.popen, child.log_path).said("goodbye")


async def test_until_asks_once_more_when_its_time_is_over() -> None:
    """It was this very process that stood still, for longer than it was to wait."""
    begun = time.monotonic()
    answers = iter([0, 7, 0, 7])

    def stands_still() -> int:
        while time.monotonic() < begun + 0.1:
            pass
        return next(answers)

    assert await until(stands_still, 0.05) == 7
    begun = time.monotonic()
    assert until_sync(stands_still, 0.05) == 7


async def test_until_tells_what_it_waited_for() -> None:
    answers = iter([0, 0, 7])
    assert await until(lambda: next(answers)) == 7
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: a seven \(last: 0\)"):
        await until(lambda: 0, 0.05, "a seven")
