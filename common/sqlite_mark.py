"""Whose a SQLite file is, by the marks in its header. One that is not ours is left as it is."""

import sqlite3
from enum import Enum


class Whose(Enum):
    #: Empty: `mark` makes it ours.
    NOBODYS = "nobody's"
    OURS = "ours"
    #: Ours, of a version that is not known yet.
    NEWER = "newer"
    OTHERS = "another's"


def whose(db: sqlite3.Connection, application_id: int, schema: int) -> tuple[Whose, int]:
    """And the version of its schema. Raises sqlite3.Error."""
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not mark and not version and not db.execute("PRAGMA schema_version").fetchone()[0]:
        return Whose.NOBODYS, 0
    if mark != application_id:
        return Whose.OTHERS, version
    if version > schema:
        return Whose.NEWER, version
    return (Whose.OURS if version == schema else Whose.OTHERS), version


def mark(db: sqlite3.Connection, application_id: int, schema: int) -> None:
    db.execute(f"PRAGMA application_id={application_id}")
    db.execute(f"PRAGMA user_version={schema}")
