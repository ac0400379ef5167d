"""Engines of a fleet: when everyone means the same life of one; a door that holds up a start."""

import sys
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.until import until_sync


def lives(pid: int | None) -> bool:
    """Whether this process runs. One that was killed and not yet reaped does not."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_in_use(fleet: Fleet, *engines: str, sitter: str = "sitter") -> None:
    """Wait until each lives and is ready, and the router uses this very life of it. What either of
    them says alone may still be about the life that a test has just ended."""
    for engine in engines:
        until_sync(lambda engine=engine: _in_use(fleet, sitter, engine), what=f"{engine} is in use")


def _in_use(fleet: Fleet, sitter: str, engine: str) -> bool:
    told = fleet.parts[sitter].get(f"/engines/{engine}")
    seen = fleet.service(told["service"])
    return (
        told["state"] == "READY"
        and lives(told["pid"])
        and seen is not None
        and seen["instance_id"] == told["instance_id"]
        and seen["healthy"]
        and not seen["set_aside"]
        and seen["breaker"] == "closed"
        and seen["in_flight"] == 0
    )


class Door:
    """`program` is for an engine's `bin`: while the door is shut, whoever starts waits at it."""

    def __init__(self, folder: Path) -> None:
        self._bar = folder / "bar"
        self.program = folder / "door"
        self.program.write_text(
            f'#!/bin/sh\nwhile [ -e "{self._bar}" ]; do sleep 0.05; done\n'
            f'exec "{sys.executable}" "$@"\n'
        )
        self.program.chmod(0o755)

    def shut(self) -> None:
        self._bar.touch()

    def open(self) -> None:
        self._bar.unlink(missing_ok=True)
