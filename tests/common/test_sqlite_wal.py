"""Two who open a new file at once: the second waits for the first, as it does later."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import sqlite_wal


@pytest.fixture
def first(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """In the middle of turning it on."""
    found = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    found.execute("BEGIN IMMEDIATE")
    yield found
    found.close()


def test_whoever_turns_it_on_at_the_same_moment_is_waited_for(
    first: sqlite3.Connection, tmp_path: Path
) -> None:
    said: list[str] = []

    class Second(sqlite3.Connection):
        def execute(self, sql: str, *_: object) -> sqlite3.Cursor:
            said.append(sql)
            if sql == "BEGIN IMMEDIATE":  # where it would wait
                first.execute("COMMIT")
            return super().execute(sql)

    second = sqlite3.connect(tmp_path / "new.db", isolation_level=None, factory=Second)
    sqlite_wal.turn_on(second)
    assert len(said) == 4, "refused, waited, and turned it on"
    assert not second.in_transaction
    assert second.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    second.close()


def test_one_that_does_not_end_is_waited_for_as_long_as_the_connection_does(
    first: sqlite3.Connection, tmp_path: Path
) -> None:
    second = sqlite3.connect(tmp_path / "new.db", isolation_level=None, timeout=0.01)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_wal.turn_on(second)
    second.close()


def test_what_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"this is no database at all" * 100)
    db = sqlite3.connect(tmp_path / "text.db", isolation_level=None)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        sqlite_wal.turn_on(db)
    db.close()
