"""The write-ahead log of a SQLite file that several processes may open at once, new or not."""

import sqlite3

#: Once anybody has turned it on it stays on, so nobody is waited for many times.
TRIES = 3


def turn_on(db: sqlite3.Connection) -> None:
    """For a connection outside of a transaction. Raises sqlite3.Error.

    While another turns it on SQLite refuses at once, whatever the connection's timeout: two readers
    that both want to write would wait for each other. Who begins by writing is let wait.
    """
    for left in reversed(range(TRIES)):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as why:
            if why.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                raise
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
