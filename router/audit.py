"""Who ordered what of this router: a line of JSON for each order, in a file that only grows.

    {"ts": …, "who": "ana", "peer": "10.0.0.7", "method": "POST", "path": "/admin/keys",
     "status": 201, "what": {"key": "bob"}}

Written in a thread, flushed to disk before the order's answer goes out. At `BYTES_MAX` the file
becomes the older one; what was older still is gone.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec

from common import clock, logs
from common.wire.router import AuditEntry

FILE = "audit.jsonl"
OLDER = "audit.1.jsonl"
BYTES_MAX = 8 << 20
SHOWN_MAX = 1_000

_log = logs.get("audit")
_encode = msgspec.json.Encoder().encode


class Audit:
    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._older = folder / OLDER
        self._turn = asyncio.Lock()

    async def note(
        self, who: str, peer: str, method: str, path: str, status: int, what: dict[str, Any]
    ) -> None:
        """Durable when it returns. A disk that refuses is told in the log: the order was done."""
        entry = AuditEntry(
            ts=clock.wire_time(clock.wall()),
            who=who,
            peer=peer,
            method=method,
            path=path,
            status=status,
            what=what,
        )
        _log.info("order", **{"by" if k == "who" else k: v for k, v in _fields(entry).items()})
        async with self._turn:
            try:
                await asyncio.to_thread(self._append, _encode(entry) + b"\n")
            except OSError as why:
                _log.error("an order could not be written down", file=str(self._file), why=str(why))

    async def last(self, count: int) -> list[AuditEntry]:
        """The newest last."""
        async with self._turn:
            return await asyncio.to_thread(self._last, min(count, SHOWN_MAX))

    # in the thread

    def _append(self, line: bytes) -> None:
        fd = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, line)
            os.fsync(fd)
            full = os.fstat(fd).st_size >= BYTES_MAX
        finally:
            os.close(fd)
        if full:
            self._file.replace(self._older)

    def _last(self, count: int) -> list[AuditEntry]:
        found: list[AuditEntry] = []
        for file in (self._older, self._file):
            try:
                lines = file.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            for line in lines[-count:]:
                try:
                    found.append(msgspec.json.decode(line, type=AuditEntry))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # cut short by a crash
        return found[-count:]


def _fields(entry: AuditEntry) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(entry).items() if name != "ts"}
