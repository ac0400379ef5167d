"""Usage in a SQLite file of the router's own, on a thread of its own.

    user_version 1 · WAL · synchronous=NORMAL: a commit survives kill -9, the last not a power loss
    usage     a row per Row and span: an hour, or, once it is old, a day

Each write adds to what is there, in one transaction. So two routers may have the file open at once,
as they have while one takes over from the other.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from common import clock, sqlite_mark, sqlite_wal
from common.sqlite_mark import Whose
from router.usage import store
from router.usage.rows import COLUMNS, DAY_S, HOUR_S, Row, Rows
from router.usage.store import BookError, Question, Sums

SCHEMA = 1
APPLICATION_ID = 0x43525553  # "CRUS"
BUSY_TIMEOUT_S = 2.0
#: Integers of SQLite end there; sums beyond are nobody's usage.
VALUE_MAX = 1 << 62

T = TypeVar("T")

_KEYS = ("start", "span", *Row._fields[1:])
_TABLE = (
    "CREATE TABLE usage (start INTEGER, span INTEGER, "
    f"{', '.join(f'{k} TEXT' for k in _KEYS[2:])}, "
    f"{', '.join(f'{c} INTEGER' for c in COLUMNS)}, PRIMARY KEY ({', '.join(_KEYS)})) WITHOUT ROWID"
)
_ADDED = ", ".join(f"{c} = {c} + excluded.{c}" for c in COLUMNS)
_ON_CONFLICT = f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET {_ADDED}"
_ADD = f"INSERT INTO usage VALUES ({', '.join('?' * (len(_KEYS) + len(COLUMNS)))}) " + _ON_CONFLICT
_SUMS = ", ".join(f"SUM({c})" for c in COLUMNS)
_NAMES = ", ".join(_KEYS[2:])
_FOLD = (
    f"INSERT INTO usage SELECT start / {DAY_S} * {DAY_S} AS day, {DAY_S}, {_NAMES}, {_SUMS} "
    f"FROM usage WHERE span = {HOUR_S} AND start < ? GROUP BY day, {_NAMES} {_ON_CONFLICT}"
)
#: What an answer may be divided by, as SQL.
DIVISIONS = {
    "month": "strftime('%Y-%m', start, 'unixepoch')",
    "day": "strftime('%Y-%m-%d', start, 'unixepoch')",
    "hour": "strftime(iif(span = 3600, '%Y-%m-%dT%H:00Z', '%Y-%m-%d'), start, 'unixepoch')",
    **{name: name for name in Row._fields[1:]},
}


class SqliteStore:
    """A `Store` in the file `path`."""

    of = "this router"

    def __init__(self, path: Path) -> None:
        self._book = Book(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="usage")

    @property
    def set_aside(self) -> str:
        return self._book.set_aside

    async def add(self, rows: Rows) -> None:
        await self._run(lambda: self._book.add(rows))

    async def retain(self, now: float, *, hourly_days: int, keep_days: int) -> None:
        book = self._book
        await self._run(lambda: book.retain(now, hourly_days=hourly_days, keep_days=keep_days))

    async def read(self, question: Question) -> list[Sums]:
        return await self._run(lambda: self._book.read(question))

    async def close(self) -> None:
        try:
            await self._run(self._book.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)


class Book:
    """The same, where every call blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        #: Which file that is, whatever its name is now.
        self._inode = 0
        #: A damaged file that was set aside; empty: none was.
        self.set_aside = ""

    def add(self, rows: Rows) -> None:
        """All of them or none. Raises BookError."""
        values = [
            (row.start, HOUR_S, *row[1:], *(min(v, VALUE_MAX) for v in counts.values()))
            for row, counts in rows.items()
        ]
        self._change([(_ADD, values)])

    def retain(self, now: float, *, hourly_days: int, keep_days: int) -> None:
        """Fold what is older into days, and forget what is older still. Raises BookError."""
        today = int(now) // DAY_S * DAY_S
        hours, days = today - hourly_days * DAY_S, today - keep_days * DAY_S
        self._change(
            [
                ("DELETE FROM usage WHERE start < ?", [(days,)]),
                (_FOLD, [(hours,)]),
                (f"DELETE FROM usage WHERE span = {HOUR_S} AND start < ?", [(hours,)]),
            ]
        )

    def read(self, question: Question) -> list[Sums]:
        """Sorted by their names. Raises BookError, TooMuchError."""
        names = [DIVISIONS[name] for name in question.by]
        where, given = _where(question)
        of = ", ".join(names)
        text = (
            f"SELECT {', '.join([*names, _SUMS])} FROM usage WHERE {where}"
            + (f" GROUP BY {of} ORDER BY {of}" if names else "")
            + f" LIMIT {store.ANSWER_ROWS_MAX + 1}"
        )
        try:
            found = self._opened().execute(text, given).fetchall()
        except sqlite3.Error as why:
            raise self._failed(why) from why
        at = len(names)
        return store.bounded(
            Sums(tuple(map(str, row[:at])), tuple(int(v or 0) for v in row[at:])) for row in found
        )

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _change(self, changes: Iterable[tuple[str, Iterable[tuple[object, ...]]]]) -> None:
        try:
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            for statement, values in changes:
                db.executemany(statement, values)
            db.execute("COMMIT")
        except sqlite3.Error as why:
            raise self._failed(why) from why

    def _failed(self, why: sqlite3.Error) -> BookError:
        db = self._db
        if db is not None and db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # SQLite rolls back by itself on a full disk
                db.execute("ROLLBACK")
        if _is_damage(why):
            self._put_aside(str(why))
        return BookError(f"{self._path}: {why}")

    def _opened(self) -> sqlite3.Connection:
        """Opened again where it was closed, or set aside. Raises BookError, sqlite3.Error."""
        if self._db is not None and self._is_elsewhere():
            self.close()
        if self._db is None:
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as why:
                if not _is_damage(why):
                    raise
                self._put_aside(str(why))
                self._db = self._open()
        return self._db

    def _is_elsewhere(self) -> bool:
        """An operator, or another router, put the file aside."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.touch(mode=0o600)
            os.chmod(self._path, 0o600)
            self._inode = self._path.stat().st_ino
        except OSError as why:
            raise BookError(f"{self._path}: {why.strerror}") from why
        db = sqlite3.connect(
            self._path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            sqlite_wal.turn_on(db)
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            self._check(db)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        found, version = sqlite_mark.whose(db, APPLICATION_ID, SCHEMA)
        if found is Whose.NOBODYS:
            db.execute(_TABLE)
            sqlite_mark.mark(db, APPLICATION_ID, SCHEMA)
            return
        if found is Whose.NEWER:
            raise BookError(
                f"{self._path} was written by a newer Creche (its schema is {version}, this one "
                f"knows {SCHEMA}): it is left as it is"
            )
        if found is Whose.OTHERS:
            raise sqlite3.DatabaseError("it is no file of usage")
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))

    def _put_aside(self, why: str) -> None:
        """Rename the file and what belongs to it: the evidence stays, counting begins anew."""
        self.close()
        stamp = clock.wire_time(clock.wall())[:19].replace(":", "").replace("-", "")
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}-{number}")
        try:
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self._path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
        except OSError as error:
            raise BookError(f"{self._path}: damaged ({why}), and {error.strerror}") from error
        self.set_aside = f"{self._path} was damaged ({why}) and set aside as {aside.name}"


def _where(question: Question) -> tuple[str, list[object]]:
    parts = ["start > ? AND start + span > ? AND start < ?"]
    given: list[object] = [int(question.start) - DAY_S, question.start, question.end]
    if question.key is not None:
        parts.append("(key = ? OR key_id = ?)")
        given += [question.key, question.key]
    for name in ("tenant", "model"):
        value = getattr(question, name)
        if value is not None:
            parts.append(f"{name} = ?")
            given.append(value)
    return " AND ".join(parts), given


def _is_damage(why: sqlite3.Error) -> bool:
    """Locked, full, forbidden are no damage: setting a sound file aside would lose it."""
    if isinstance(why, sqlite3.OperationalError):
        return getattr(why, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
    return type(why) is sqlite3.DatabaseError
