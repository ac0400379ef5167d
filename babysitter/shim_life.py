"""One engine's life as its folder tells it: what to run, how it ended, whose processes are its.

`state.json` is the shim's to write. When its shim is gone we write one word into it, `released`:
the exit has been told.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from babysitter.shim_folder import SCHEMA, STATE, write_atomically


class LaunchError(Exception):
    """The engine could not be started. The text is a sentence for the operator."""


class ShimError(Exception):
    """A shim is there but cannot be used (does not answer, or is of a newer version)."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `env` is the engine's whole environment (it may hold secrets)."""

    engine: str
    instance_id: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | None = None
    #: One log file's limit; `log_files` of them at most, the current one included.
    log_bytes_max: int = 10 * 1024 * 1024
    log_files: int = 5


class EngineExit(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's own process ended. `at` is wall time in seconds.

    `lost`: its shim died first, so neither code nor signal is known and processes may be left:
    call `sweep_orphans`.
    """

    code: int | None = None
    signal: str | None = None
    oom: bool = False
    at: float = 0.0
    lost: bool = False

    @property
    def cause(self) -> str:
        """`shim lost`, `oom`, `signal` or `code`."""
        if self.lost:
            return "shim lost"
        if self.oom:
            return "oom"
        return "signal" if self.signal else "code"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`, and a shim's answer to `status`."""

    schema: int
    phase: str
    engine_id: str
    instance_id: str
    argv_hash: str
    boot_id: str
    shim_pid: int
    shim_start_time: int
    pid: int
    start_time: int
    started_at: float
    socket: str
    exit: EngineExit | None
    released: bool
    lost_bytes: int = 0
    #: The last lines of an engine that has ended; only in answers, never in the file.
    last_words: list[str] | None = None
    #: The engine's control group, where it has one.
    cgroup: str | None = None


def argv_hash(argv: list[str]) -> str:
    """Hex; compare with `ShimHandle.argv_hash` to see whether a config changed meanwhile."""
    return hashlib.sha256("\0".join(argv).encode(errors="surrogateescape")).hexdigest()[:32]


def folder_mark(folder: Path) -> str:
    """What all lives of a folder carry in their engine id, and those of no other folder."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def engine_id(folder: Path, engine: str, instance_id: str) -> str:
    """The mark of one life, in the environment of all its processes."""
    life = hashlib.sha256(f"{engine}\0{instance_id}".encode()).hexdigest()[:16]
    return f"{folder_mark(folder)}-{life}"


def read_state(folder: Path, *, strict: bool = True) -> State | None:
    """What the last shim wrote; None where it wrote nothing readable. Raises ShimError (strict)."""
    raw = _read(folder)
    schema = raw.get("schema")
    if strict and isinstance(schema, int | float) and schema > SCHEMA:
        raise ShimError(
            f"{folder / STATE} was written by a newer Creche (schema {schema}, "
            f"this one knows {SCHEMA}).\n  Start the newer babysitter again."
        )
    try:
        return msgspec.convert(raw, State)
    except msgspec.ValidationError:
        return None


def acknowledge(folder: Path) -> None:
    """The exit has been told: the next `adopt` finds nothing."""
    state = _read(folder)
    if not state or state.get("released"):
        return
    try:
        write_atomically(str(folder / STATE), msgspec.json.encode({**state, "released": True}))
    except OSError:
        pass


def _read(folder: Path) -> dict[str, Any]:
    """The state as it stands; empty where it is missing or damaged."""
    try:
        return msgspec.json.decode((folder / STATE).read_bytes(), type=dict[str, Any])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return {}
