"""The last known good view on disk, so that a router started while the registry is away serves.

One JSON file, replaced whole (write, fsync, rename). It carries a schema version: a newer one is
refused, for it may mean something else; a damaged one is set aside as `…damaged-<time>`, never
half-read. Writing happens in a thread, at most once a second.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from msgspec import DecodeError, Struct, ValidationError, json

from common import clock, logs
from common.errors import RefusalError
from common.wire.registry import Service
from router.fleet import Fleet

SCHEMA = 1
#: Ten thousand services with long model lists are a quarter of this.
FILE_BYTES_MAX = 256 << 20

_log = logs.get("snapshot")


class Snapshot(Struct, frozen=True, kw_only=True):
    schema: int
    written: str
    epoch: str
    revision: int
    services: list[Service]


class _Version(Struct):
    schema: int


def of(fleet: Fleet, now_wall: float) -> Snapshot | None:
    """What is worth keeping; None before the first sync. Suspects are kept as they were."""
    if fleet.epoch is None:
        return None
    return Snapshot(
        schema=SCHEMA,
        written=clock.wire_time(now_wall),
        epoch=fleet.epoch,
        revision=fleet.revision,
        services=list(fleet.records.values()),
    )


def parse(data: bytes) -> Snapshot:
    """Raises RefusalError for a newer schema, ValueError for anything damaged."""
    try:
        version = json.decode(data, type=_Version).schema
        if version > SCHEMA:
            raise RefusalError(
                f"its schema is {version}, this version reads {SCHEMA}: a newer router wrote it."
            )
        return json.decode(data, type=Snapshot)
    except (DecodeError, ValidationError, RecursionError) as why:
        raise ValueError(str(why)) from None


def load(path: Path) -> Snapshot | None:
    """The snapshot at `path`; None where there is none or it was damaged (then it is set aside).

    Raises RefusalError for a newer schema.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"larger than {FILE_BYTES_MAX} bytes")
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except RefusalError as why:
        raise RefusalError(
            f"the snapshot {path} cannot be used: {why}\n"
            f"  Start the newer version, or remove the file: the registry fills it again."
        ) from None
    except (ValueError, OSError) as why:
        aside = path.with_name(f"{path.name}.damaged-{int(clock.wall())}")
        with contextlib.suppress(OSError):
            path.replace(aside)
        _log.error("snapshot damaged, set aside", file=str(path), aside=str(aside), why=str(why))
        return None


def save(path: Path, snapshot: Snapshot) -> None:
    """Replace the file atomically. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(json.encode(snapshot))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Keeper:
    """Writes what changed, at most every `every_s`, off the loop; and once more on `close`.

    Only while the file is its own: not before `own` where it begins without, nor after `release`.
    """

    def __init__(
        self, path: Path, fleet: Fleet, *, every_s: float = 1.0, owned: bool = True
    ) -> None:
        self._path = path
        self._fleet = fleet
        self._every_s = every_s
        self._changed = asyncio.Event()
        self._owned = asyncio.Event()
        if owned:
            self._owned.set()
        self._writing = asyncio.Lock()
        self._failing = False

    def own(self) -> None:
        self._owned.set()

    async def release(self) -> None:
        """Another writes the file from now on. What was begun is ended."""
        self._owned.clear()
        async with self._writing:
            pass

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self._owned.wait()
            await self._changed.wait()
            await self._write()
            await asyncio.sleep(self._every_s)

    async def close(self) -> None:
        """After `run` was cancelled."""
        if self._changed.is_set():
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            if self._owned.is_set():
                await self._save()

    async def _save(self) -> None:
        self._changed.clear()
        snapshot = of(self._fleet, clock.wall())
        if snapshot is None:
            return
        try:
            await asyncio.to_thread(save, self._path, snapshot)
        except OSError as why:
            # Serving goes on: only a start without a registry would miss it.
            if not self._failing:
                _log.error("snapshot cannot be written", file=str(self._path), why=str(why))
            self._failing = True
        else:
            self._failing = False
