"""A wall clock that a test sets, for processes of its own: Debian's libfaketime, told by a file.

CLOCK_MONOTONIC stays as it is, as in life: what jumps is the time of day, at NTP's first word or an
operator's. `scripts/setup.sh apt faketime=faketime` installs it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import Processes

LIBRARIES = Path("/usr/lib")
SHARED = Path("/dev/shm")


class WallClock:
    """`env` is for those whose clock it is: they read the file at every look at the clock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, ahead_s: int) -> None:
        """It jumps: so far ahead of the true time, or behind."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}\n")
        fresh.replace(self._file)

    @contextmanager
    def rules(self, processes: Processes) -> Iterator[None]:
        """Whoever is started within lives by it."""
        before, processes.env = processes.env, {**processes.env, **self.env}
        try:
            yield
        finally:
            processes.env = before


def swept(processes: Processes) -> None:
    """What the library leaves in shared memory of processes that were killed."""
    for one in processes.all:
        for kind in ("faketime_shm", "sem.faketime_sem"):
            (SHARED / f"{kind}_{one.pid}").unlink(missing_ok=True)


def _library() -> Path:
    found = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: scripts/setup.sh apt faketime=faketime"
    return found[0]
