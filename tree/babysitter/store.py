"""What a babysitter must still know of an engine after a kill -9: a small file next to its shim's.

Written whole beside the old one and renamed: a reader finds the old or the new. A file of a newer
version, or a damaged one, is left alone and counts as none: the shim's own state decides what runs.
"""

import os
from pathlib import Path

import msgspec

from babysitter.models import Model
from common import logs
from common.wire.babysitter import LastExit

_log = logs.get("store")

SCHEMA = 1
FILE = "supervisor.json"


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to drain an engine that no config names any more."""

    kind: str
    host: str
    port: int
    drain_timeout_s: float
    drain_idle_s: float
    stop_grace_s: float


class Remembered(msgspec.Struct, kw_only=True):
    """`digest` is of what was started (argv, folder, environment); `registered_as` the instance_id
    that the registry knows `instance_id` by; times are wall seconds."""

    schema: int = SCHEMA
    wanted: bool = True
    instance_id: str | None = None
    digest: str | None = None
    registered_as: str | None = None
    models: list[Model] = []
    restarts: int = 0
    streak: int = 0
    failures: list[float] = []
    last_exit: LastExit | None = None
    serving: Serving | None = None


def read(folder: Path) -> Remembered | None:
    path = folder / FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as why:
        _log.warning("cannot be read, starting without it", file=str(path), why=str(why))
        return None
    if found.schema > SCHEMA:
        _log.warning("written by a newer Creche, starting without it", file=str(path))
        return None
    return found


def write(folder: Path, remembered: Remembered) -> None:
    """Never raises: a full disk must not stop the keeping of engines."""
    path = folder / FILE
    beside = folder / f"{FILE}.new"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.encode(remembered))
        os.replace(beside, path)
    except OSError as why:
        _log.warning("cannot be written", file=str(path), why=why.strerror)
