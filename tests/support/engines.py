"""Engines of a fleet: when everyone means the same life of one; a door that holds up a start."""

import sys
from pathlib import Path
from typing import Any

from tests.support.fleet import Fleet
from tests.support.processes import answers
from tests.support.until import until_sync


def wait_in_use(fleet: Fleet, *engines: str, sitter: str = "sitter") -> None:
    """Wait until each answers and is ready, and the router uses this very life of it. What either
    of them says alone may still be about the life that a test has just ended."""
    for engine in engines:
        until_sync(lambda engine=engine: _in_use(fleet, sitter, engine), what=f"{engine} is in use")


def _in_use(fleet: Fleet, sitter: str, engine: str) -> bool:
    def told() -> dict[str, Any]:
        found: dict[str, Any] = fleet.parts[sitter].get(f"/engines/{engine}")
        return found

    # Who was killed answers no more; so what is told after an answer is of another life.
    if not answers(told()["url"] + "/health"):
        return False
    now = told()
    seen = fleet.service(now["service"])
    return (
        now["state"] == "READY"
        and seen is not None
        and seen["instance_id"] == now["instance_id"]
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
