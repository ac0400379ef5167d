"""`creche` as an operator runs it: a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.fleet import Fleet
from tests.support.processes import NO_AUTHORITIES, ROOT, Process


class Said:
    """What it said, and its exit status."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def creche(fleet: Fleet, *arguments: str, url: str | None = None) -> Said:
    """Run it to its end, against the fleet's first router unless `url` names another."""
    ended = subprocess.run(
        [sys.executable, "-m", "ctl", "--url", url or fleet.url, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        env=_environment(),
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


def begin(fleet: Fleet, *arguments: str) -> Process:
    """Start it; its output is in the process's log."""
    return fleet.processes.python("-m", "ctl", "--url", fleet.url, *arguments, name="creche")


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
    return {**kept, **NO_AUTHORITIES, "XDG_CONFIG_HOME": "/nonexistent"}
