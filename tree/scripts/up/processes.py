"""Our processes: started so that they die with us, found again by a mark in their environment.

Every daemon gets CRECHE_UP=<data folder>; engines and shims inherit it. So whatever a run leaves,
even one that was killed with -9, can be told from other fleets' processes, and ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MARK = "CRECHE_UP"
#: A process that was told to end gets this long before it is killed.
END_S = 10.0
#: … and this long once it was told to hurry.
HURRY_S = 5.0
LOG_LINES_TOLD = 12
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(eq=False)
class Daemon:
    """One of the three. `log` is where it writes; `process` its present life."""

    name: str
    config: Path
    log: Path
    mark: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: list[float] = field(default_factory=list)

    def start(self) -> None:
        """A session of its own: Ctrl-C in the terminal is for us alone, we stop them in order."""
        argv = [sys.executable, "-m", self.name, "--config", str(self.config)]
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, MARK: self.mark, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (one thread)
            )

    @property
    def ended(self) -> int | None:
        """Its exit status once it ended (negative: a signal), else None."""
        return self.process.poll() if self.process else None

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, hurry: Callable[[], bool]) -> bool:
        """Wait for its end, kill it when that takes too long; whether it ended by itself.

        Once `hurry` says so it is told again: a daemon takes that as "drop what is running".
        """
        if self.process is None:
            return True
        deadline, hurried = time.monotonic() + END_S, False
        while self.process.poll() is None:
            if hurry() and not hurried:
                hurried = True
                self.process.terminate()
                deadline = time.monotonic() + HURRY_S
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                return False
            time.sleep(0.01)
        return True

    def last_lines(self) -> list[str]:
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 16_384))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-LOG_LINES_TOLD:]


def _die_with_parent() -> None:
    """If `make up` is killed with -9, the kernel tells its daemons to stop: no orphans."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def how_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def marked(mark: str) -> dict[int, str]:
    """Every living process that carries `mark`: pid to name. Zombies are dead."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if wanted not in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                continue
            name, _, rest = Path("/proc", entry, "stat").read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[0] not in ("Z", "X"):
            found[int(entry)] = name_of(int(entry), name.partition("(")[2])
    return found


def name_of(pid: int, comm: str) -> str:
    """`python -m registry …` is told as registry."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return comm
    if b"-m" in words[:-1]:
        return words[words.index(b"-m") + 1].decode("utf-8", "replace")
    return comm


def end_marked(mark: str) -> list[str]:
    """End whatever carries `mark`: TERM, then KILL. The names of what was there."""
    there = marked(mark)
    names = sorted(there.values())
    _signal(there, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while there and time.monotonic() < deadline:
        time.sleep(0.05)
        there = marked(mark)
    while there := marked(mark):
        _signal(there, signal.SIGKILL)
        time.sleep(0.05)
    return names


def _signal(pids: dict[int, str], which: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, which)
        except (ProcessLookupError, PermissionError):
            continue
