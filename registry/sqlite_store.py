"""The table in one SQLite file, on a thread of its own.

    user_version 1 · WAL · synchronous=FULL: a commit that returned survives kill -9 and power loss
    meta      one row: epoch, revision, how many rows the others have
    records   a row per service      retired  a row per life      drained  a row per mark

Every row carries a checksum, and `meta` the counts: a file that SQLite still reads but that lost or
changed a row is damaged too. A damaged file is set aside whole, never half-read; a newer one is
refused; a second registry on the same file is refused. One batch is one transaction.
"""

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Struct

from common import clock, sqlite_mark
from common.errors import RefusalError
from common.sqlite_mark import Whose
from registry.records import Record
from registry.state import Batch, Stored
from registry.store import StoreError, new_epoch

_log = structlog.get_logger("store")

SCHEMA = 1
APPLICATION_ID = 0x43524543  # "CREC"
BUSY_TIMEOUT_S = 2.0

_TABLES = """
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB, sum INTEGER);
CREATE TABLE records (name TEXT PRIMARY KEY, body BLOB, sum INTEGER) WITHOUT ROWID;
CREATE TABLE retired (name TEXT, instance_id TEXT, body BLOB, sum INTEGER,
    PRIMARY KEY (name, instance_id)) WITHOUT ROWID;
CREATE TABLE drained (name TEXT PRIMARY KEY, sum INTEGER) WITHOUT ROWID;
"""

T = TypeVar("T")
K = TypeVar("K")
_encode = msgspec.json.Encoder().encode


class Meta(Struct, frozen=True, kw_only=True):
    epoch: str
    revision: int
    records: int
    retired: int
    drained: int


class Keys:
    """Which rows there are: counting them in SQLite would read the whole file at each commit."""

    def __init__(self, stored: Stored) -> None:
        self.records = {record.name for record in stored.records}
        self.retired = set(stored.retired)
        self.drained = set(stored.drained)

    def applied(self, batch: Batch) -> tuple[int, int, int]:
        """How many rows of each there are once `batch` is in; nothing is changed yet."""
        return (
            _count(self.records, batch.records),
            _count(self.retired, batch.retired),
            _count(self.drained, batch.drained),
        )

    def apply(self, batch: Batch) -> None:
        _apply(self.records, batch.records)
        _apply(self.retired, batch.retired)
        _apply(self.drained, batch.drained)


def _count(keys: set[K], changes: dict[K, Any]) -> int:
    return len(keys) + sum((v is not None) - (k in keys) for k, v in changes.items())


def _apply(keys: set[K], changes: dict[K, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            keys.discard(key)
        else:
            keys.add(key)


class Damaged(Exception):
    """The file is not what was written."""


class SqliteStore:
    """A `Store` in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None
        self._meta: Meta | None = None
        self._keys = Keys(Stored(epoch=""))

    async def open(self) -> Stored:
        return await self._run(self._open)

    async def commit(self, batch: Batch) -> None:
        await self._run(lambda: self._commit(batch))

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, act: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        # shielded: a handler that is cancelled must not leave a commit of unknown fate behind
        return await asyncio.shield(loop.run_in_executor(self._thread, act))

    # on the thread

    def _open(self) -> Stored:
        try:
            return self._load()
        except (Damaged, sqlite3.DatabaseError) as why:
            if _is_operational(why):
                raise RefusalError(_why_not(self._path, why)) from why
            self._set_aside(str(why))
        try:
            return self._load()
        except (Damaged, sqlite3.DatabaseError) as why:
            raise RefusalError(_why_not(self._path, why)) from why

    def _load(self) -> Stored:
        db = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            stored, self._meta = _read(db, self._path)
        except BaseException:
            db.close()
            raise
        self._db = db
        self._keys = Keys(stored)
        return stored

    def _set_aside(self, why: str) -> None:
        """Rename the file and what belongs to it: the evidence stays, a new table begins."""
        stamp = clock.wire_time(clock.wall())[:19].replace(":", "").replace("-", "")
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}-{number}")
        for suffix in ("", "-wal", "-shm", "-journal"):
            part = Path(f"{self._path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        _log.error(
            "the state file is damaged and was set aside; the registry starts empty, "
            "live services register again within one beat, drain marks are lost",
            file=str(self._path),
            set_aside_as=str(aside),
            why=why,
        )

    def _commit(self, batch: Batch) -> None:
        db, old = self._db, self._meta
        assert db is not None and old is not None
        if batch.base_revision != old.revision:
            raise StoreError(f"the store is at revision {old.revision}, not {batch.base_revision}")
        try:
            db.execute("BEGIN IMMEDIATE")
            _write(db, batch)
            records, retired, drained = self._keys.applied(batch)
            meta = Meta(
                epoch=old.epoch,
                revision=batch.revision,
                records=records,
                retired=retired,
                drained=drained,
            )
            _put_meta(db, meta)
            db.execute("COMMIT")
        except sqlite3.Error as why:
            if db.in_transaction:
                _roll_back(db)
            raise StoreError(f"{self._path} can't be written: {why}") from why
        self._meta = meta
        self._keys.apply(batch)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _is_operational(error: Exception) -> bool:
    """Locked, full, forbidden: the file may be sound, and setting it aside would lose it."""
    if not isinstance(error, sqlite3.OperationalError):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }


def _why_not(path: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return (
            f"the state file {path} is in use by another registry.\n"
            f'  Stop that one, or set  state_dir = "…"  to a folder of this one\'s own.'
        )
    if code == sqlite3.SQLITE_FULL:
        return (
            f"the disk of {path} is full: no registration could be kept.\n"
            f'  Make room, or set  state_dir = "…"  to another disk.'
        )
    return (
        f"the state file {path} can't be used: {error}.\n"
        f'  Set  state_dir = "…"  to a folder that this user may write, on a sound disk.'
    )


def _read(db: sqlite3.Connection, path: Path) -> tuple[Stored, Meta]:
    """Lock the file for us alone, check all of it, then read all of it. Raises Damaged."""
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    is_new = _is_new(db, path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("BEGIN IMMEDIATE")  # takes the lock that later ones keep
    if is_new:
        return _create(db, path)
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise Damaged(str(verdict))
    stored, meta = _rows(db)
    db.execute("COMMIT")
    return stored, meta


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty. Raises before anything is changed in one that is not ours."""
    found, version = sqlite_mark.whose(db, APPLICATION_ID, SCHEMA)
    if found is Whose.NOBODYS:
        return True
    if found is Whose.NEWER:
        raise RefusalError(
            f"the state file {path} was written by a newer Creche "
            f"(its schema is {version}, this one knows {SCHEMA}).\n"
            f"  Start the newer version again, or move the file away: live services register again."
        )
    if found is Whose.OTHERS:
        raise Damaged("it is no registry's file")
    return False


def _create(db: sqlite3.Connection, path: Path) -> tuple[Stored, Meta]:
    path.chmod(0o600)  # addresses and metadata are for the daemon's user
    for statement in _TABLES.strip().split(";\n"):
        db.execute(statement)
    meta = Meta(epoch=new_epoch(), revision=0, records=0, retired=0, drained=0)
    _put_meta(db, meta)
    sqlite_mark.mark(db, APPLICATION_ID, SCHEMA)
    db.execute("COMMIT")
    return Stored(epoch=meta.epoch), meta


def _rows(db: sqlite3.Connection) -> tuple[Stored, Meta]:
    row = db.execute("SELECT body, sum FROM meta").fetchone()
    if row is None:
        raise Damaged("its epoch is gone")
    meta = _decode(row[0], row[1], Meta)
    records = tuple(
        _decode(body, sum, Record, name)
        for name, body, sum in db.execute("SELECT name, body, sum FROM records")
    )
    retired = {
        (name, life): _decode(body, sum, float, name, life)
        for name, life, body, sum in db.execute("SELECT name, instance_id, body, sum FROM retired")
    }
    drained = set()
    for name, sum in db.execute("SELECT name, sum FROM drained"):
        if _sum(name) != sum:
            raise Damaged("a drain mark is not as it was written")
        drained.add(name)
    if (len(records), len(retired), len(drained)) != (meta.records, meta.retired, meta.drained):
        raise Damaged("rows are missing")
    if any(record.revision > meta.revision for record in records):
        raise Damaged("a record is newer than the table")
    stored = Stored(
        epoch=meta.epoch,
        revision=meta.revision,
        records=records,
        retired=retired,
        drained=frozenset(drained),
    )
    return stored, meta


def _decode(body: Any, sum: Any, type: type[T], *key: str) -> T:
    if not isinstance(body, bytes) or _sum(*key, body=body) != sum:
        raise Damaged(f"the row of {' '.join(key) or 'meta'} is not as it was written")
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as why:  # ours, by its sum, yet not of this schema
        raise Damaged(f"the row of {' '.join(key) or 'meta'} can't be read: {why}") from why


def _sum(*key: str, body: bytes = b"") -> int:
    return zlib.crc32("\0".join(key).encode() + b"\0" + body)


def _write(db: sqlite3.Connection, batch: Batch) -> None:
    _each(
        db,
        "INSERT OR REPLACE INTO records VALUES (?, ?, ?)",
        ((n, body := _encode(r), _sum(n, body=body)) for n, r in batch.records.items() if r),
    )
    _each(
        db,
        "DELETE FROM records WHERE name = ?",
        ((name,) for name, record in batch.records.items() if record is None),
    )
    _each(
        db,
        "INSERT OR REPLACE INTO retired VALUES (?, ?, ?, ?)",
        (
            (*life, body := _encode(lease_s), _sum(*life, body=body))
            for life, lease_s in batch.retired.items()
            if lease_s is not None
        ),
    )
    _each(
        db,
        "DELETE FROM retired WHERE name = ? AND instance_id = ?",
        (life for life, lease_s in batch.retired.items() if lease_s is None),
    )
    _each(
        db,
        "INSERT OR REPLACE INTO drained VALUES (?, ?)",
        ((name, _sum(name)) for name, on in batch.drained.items() if on),
    )
    _each(
        db,
        "DELETE FROM drained WHERE name = ?",
        ((name,) for name, on in batch.drained.items() if not on),
    )


def _each(db: sqlite3.Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    db.executemany(statement, rows)


def _put_meta(db: sqlite3.Connection, meta: Meta) -> None:
    body = _encode(meta)
    db.execute("INSERT OR REPLACE INTO meta VALUES (1, ?, ?)", (body, _sum(body=body)))


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        db.execute("ROLLBACK")
    except sqlite3.Error as why:  # SQLite rolls back by itself when the disk fails
        _log.warning("rolling back failed", why=str(why))
