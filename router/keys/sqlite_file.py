"""Keys in a SQLite file of the router's own, on a thread of its own.

    user_version 1 · WAL · synchronous=FULL     keys   a row per key, revoked ones too

A file that cannot be trusted ends the start: without its keys nobody may be let in, and nobody
should find that out from 401s.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from common import sqlite_mark, sqlite_wal
from common.errors import RefusalError
from common.sqlite_mark import Whose
from router.keys.record import Key
from router.keys.rows import decoded
from router.keys.store import StoreError, TakenError

SCHEMA = 1
APPLICATION_ID = 0x43524B59  # "CRKY"
BUSY_TIMEOUT_S = 2.0

T = TypeVar("T")
_TABLE = "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT, live INTEGER, body BLOB) WITHOUT ROWID"
#: Two keys of one name can hold at different times, never at once.
_INDEX = "CREATE UNIQUE INDEX live_names ON keys (name) WHERE live"


class SqliteKeys:
    """A `Store` in the file `path`. Other processes may have it open as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")
        self._db: sqlite3.Connection
        self._inode = 0

    async def open(self) -> None:
        await self._run(self._open)

    async def mark(self) -> object:
        # Others' commits alone count; of our own the keeper knows.
        return await self._run(self._mark)

    async def load(self) -> list[Key]:
        return await self._run(self._load)

    async def add(self, key: Key) -> None:
        try:
            await self._run(lambda: self._put("INSERT", key))
        except sqlite3.IntegrityError as why:
            raise TakenError(key.name) from why

    async def revoke(self, which: str, at: float) -> Key | None:
        return await self._run(lambda: self._revoke(which, at))

    async def close(self) -> None:
        await self._run(self._db.close)
        self._thread.shutdown(wait=False)

    async def _run(self, act: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            # Shielded: a handler that is cancelled must not leave a write of unknown fate behind.
            return await asyncio.shield(loop.run_in_executor(self._thread, act))
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as why:
            raise StoreError(f"{self._path} cannot be used: {why}") from why

    # on the thread

    def _open(self) -> None:
        self._path.touch(mode=0o600)
        db = self._db = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            sqlite_wal.turn_on(db)
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            self._check(db)
            db.execute("COMMIT")
            os.chmod(self._path, 0o600)
            self._inode = self._path.stat().st_ino
            self._load()
        except sqlite3.DatabaseError as why:
            db.close()
            if isinstance(why, sqlite3.OperationalError):
                raise
            raise self._refusal(str(why)) from why
        except StoreError as why:
            db.close()
            raise self._refusal(str(why)) from why
        except RefusalError:
            db.close()
            raise

    def _check(self, db: sqlite3.Connection) -> None:
        found, version = sqlite_mark.whose(db, APPLICATION_ID, SCHEMA)
        if found is Whose.NOBODYS:
            db.execute(_TABLE)
            db.execute(_INDEX)
            sqlite_mark.mark(db, APPLICATION_ID, SCHEMA)
            return
        if found is Whose.NEWER:
            raise RefusalError(
                f"the clients' keys in {self._path} were written by a newer Creche (its schema is "
                f"{version}, this one knows {SCHEMA}).\n  Start the newer version again."
            )
        if found is Whose.OTHERS:
            raise StoreError("it is no file of keys")
        verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(str(verdict))

    def _refusal(self, why: str) -> RefusalError:
        return RefusalError(
            f"the clients' keys in {self._path} cannot be read: {why}.\n"
            f"  Put a backup in its place, or move it away and create every key anew."
        )

    def _mark(self) -> object:
        self._must_be_there()
        return self._db.execute("PRAGMA data_version").fetchone()[0]

    def _must_be_there(self) -> None:
        """Of a file that was put in its place what is ordered here would never be read."""
        try:
            there = self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            there = False
        if not there:
            raise StoreError(f"{self._path} was replaced: restart the router to read the new one")

    def _load(self) -> list[Key]:
        rows = self._db.execute("SELECT body FROM keys ORDER BY id").fetchall()
        return decoded(body for (body,) in rows)

    def _put(self, verb: str, key: Key) -> None:
        self._must_be_there()
        self._db.execute(
            f"{verb} INTO keys (id, name, live, body) VALUES (?, ?, ?, ?)",
            (key.id, key.name, key.revoked is None, msgspec.json.encode(key)),
        )

    def _revoke(self, which: str, at: float) -> Key | None:
        for key in self._load():
            if key.revoked is None and which in (key.id, key.name):
                revoked = replace(key, revoked=at)
                self._put("REPLACE", revoked)
                return revoked
        return None
