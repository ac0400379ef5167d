"""Real processes in tests: own process group, output in a file, and none left behind.

Every process gets a marker in its environment, which its descendants inherit: so `close` also finds
those that left the process group (engines under their shims), and `survivors` can tell.
"""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import secrets
from tests.support.until import until, until_sync

ROOT = Path(__file__).resolve().parents[2]
MARKER = "CRECHE_TEST_RUN"
LOG_TAIL_BYTES = 4000
#: Reading the system's authorities takes a tenth of each start, and no test asks for one of theirs.
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": "/nonexistent"}


class Process:
    """A process started by a test. Its stdout and stderr go to `log_path`."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self.name = name
        self.popen = popen
        self.log_path = log_path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def log(self) -> str:
        """All it has written so far."""
        return self.log_path.read_text(errors="replace")

    def signal(self, which: signal.Signals) -> None:
        """Send to this process alone, not to its group."""
        if self.alive:
            self.popen.send_signal(which)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit status (negative: the signal). AssertionError, with its log, if it stays."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {timeout_s:g} s:\n{self.tail()}"
            ) from None

    async def ended(self, timeout_s: float = 30.0) -> int:
        """`wait` for tests with a loop."""
        return await asyncio.to_thread(self.wait, timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, then its exit status."""
        self.terminate()
        return self.wait(timeout_s)

    def tail(self) -> str:
        return self.log[-LOG_TAIL_BYTES:]

    async def ready(self, url: str, timeout_s: float = 30.0) -> "Process":
        """Wait until `url` answers 200. AssertionError, with the log, when the process ends."""
        await until(lambda: asyncio.to_thread(self._answers, url), timeout_s, self._what(url))
        return self

    def ready_sync(self, url: str, timeout_s: float = 30.0) -> "Process":
        until_sync(lambda: self._answers(url), timeout_s, self._what(url))
        return self

    async def said(self, text: str, timeout_s: float = 30.0) -> str:
        """Wait until its log holds `text`; the whole log."""
        await until(lambda: self._has_said(text), timeout_s, f"{self.name} says {text!r}")
        return self.log

    def _has_said(self, text: str) -> bool:
        lives = self.alive  # asked first: what it says as it ends counts
        if text in self.log:
            return True
        if not lives:
            self._must_live()
        return False

    def _answers(self, url: str) -> bool:
        self._must_live()
        return answers(url)

    def _must_live(self) -> None:
        if not self.alive:
            raise DiedError(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")

    def _what(self, url: str) -> str:
        return f"{self.name} answers 200 at {url}"


class DiedError(Exception):
    """A process ended while something was expected of it."""


def answers(url: str) -> bool:
    """Whether `url` answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _kill_group(leader: int) -> None:
    """Helpers that a process left in its group, even those whose environment was replaced."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


class Processes:
    """The processes of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = uuid.uuid4().hex
        #: What none of them may write down, besides what `close` finds by itself.
        self.secrets: set[str] = set()
        self.all: list[Process] = []
        #: What every process started from now on has in its environment besides.
        self.env: dict[str, str] = {}

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        keep: Sequence[int] = (),
    ) -> Process:
        """Start `argv` in a process group of its own, from the repository's root. `keep` are file
        descriptors that it inherits."""
        name = name or Path(str(argv[0])).name
        log_path = self.folder / f"{name}-{len(self.all)}.log"
        with log_path.open("wb") as log:
            popen = subprocess.Popen(
                [str(one) for one in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd or ROOT,
                env=self.environment(env),
                start_new_session=True,
                pass_fds=keep,
            )
        process = Process(name, popen, log_path)
        self.all.append(process)
        return process

    def python(
        self,
        *arguments: str | Path,
        name: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start this Python with `arguments`, e.g. `"-m", "registry"`."""
        return self.start([sys.executable, *arguments], name=name or str(arguments[-1]), env=env)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process of this test runs with. State and runtime folders are the test's own."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("NOTIFY_", "WATCHDOG_", "CRECHE_", "XDG_", "LISTEN_"))
        }
        self.secrets |= secrets.of_environment(more or {})
        return {
            **kept,
            **NO_AUTHORITIES,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(self.folder / "state"),
            **self.env,
            **(more or {}),
            MARKER: self.marker,
        }

    def survivors(self) -> list[int]:
        """Processes of this test that run now: those started, and all their descendants."""
        wanted = f"{MARKER}={self.marker}".encode()
        found: list[int] = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                environ = Path("/proc", entry, "environ").read_bytes()
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if wanted in environ.split(b"\0") and state != "Z":
                found.append(int(entry))
        return found

    def close(self) -> None:
        """End everything: SIGTERM to what was started, newest first, then SIGKILL to the rest.

        Raises AssertionError where one of them wrote a secret down.
        """
        for process in reversed(self.all):
            process.terminate()
        deadline = time.monotonic() + 5.0
        for process in self.all:
            try:
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            _kill_group(process.pid)
        until_sync(self._none_left, 30.0, "every process of the test has ended")
        for process in self.all:
            process.popen.wait(30.0)
        found = secrets.leaks(self.folder, self.secrets | secrets.of_files(self.folder))
        assert found == [], "\n".join(found)

    def _none_left(self) -> bool:
        left = self.survivors()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left
