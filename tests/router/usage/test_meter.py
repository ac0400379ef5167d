"""Counting beside requests: what is written when, and what becomes of it while nothing can be."""

import asyncio
import os
from pathlib import Path

import pytest

from common import tasks
from router.config import Usage
from router.usage import meter
from router.usage.book import Book, SqliteStore
from router.usage.meter import Meter
from router.usage.rows import Rows
from router.usage.store import BookError, Question
from tests.router.usage.test_ledger import ENGINE, ended
from tests.support.until import until

FILE_NAME = "usage.db"


def meter_of(folder: Path, config: Usage | None = None) -> Meter:
    return Meter(SqliteStore(folder / FILE_NAME), config or Usage())


async def requests(found: Meter) -> int:
    (sums,) = await found.read(Question(by=()))
    return sums.values[0]


async def test_an_answer_holds_what_ended_before_it(tmp_path: Path) -> None:
    found = meter_of(tmp_path)
    for count in range(1, 4):
        found.append(*ended(ENGINE))
        assert await requests(found) == count
    await found.close()


async def test_it_writes_by_itself(tmp_path: Path) -> None:
    other = Book(tmp_path / FILE_NAME)
    assert other.read(Question(by=()))[0].values[0] == 0
    found = meter_of(tmp_path, Usage(write_s=0.01))
    running = tasks.spawn(found.run(), "test.usage")
    found.append(*ended(ENGINE))
    await until(lambda: other.read(Question(by=()))[0].values[0] == 1)
    other.close()
    running.cancel()
    await found.close()


async def test_what_is_stopped_loses_nothing(tmp_path: Path) -> None:
    found = meter_of(tmp_path)
    found.append(*ended(ENGINE))
    await found.close()
    after = Book(tmp_path / FILE_NAME)
    assert after.read(Question(by=("service",)))[0].names == ("a@h",)
    after.close()


async def test_more_than_may_wait_is_folded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "WAITING_MAX", 3)
    found = meter_of(tmp_path)
    for _ in range(10):
        found.append(*ended(ENGINE))
    assert len(found._waiting) < 3
    assert await requests(found) == 10
    await found.close()


async def test_what_cannot_be_written_waits_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    add = Book.add

    def try_to_add(self: Book, rows: Rows) -> None:
        if full:
            raise BookError("database or disk is full")
        add(self, rows)

    monkeypatch.setattr(Book, "add", try_to_add)
    found = meter_of(tmp_path)
    for _ in range(5):
        found.append(*ended(ENGINE))
        await found.write()
    assert found.message == (
        "usage cannot be written and is kept in memory: database or disk is full"
    )
    full = False
    assert await requests(found) == 5
    assert found.message == ""
    await found.close()


async def test_a_writing_that_is_cancelled_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = meter_of(tmp_path)
    found.append(*ended(ENGINE))
    asking = tasks.spawn(found.write(), "test.usage")
    await asyncio.sleep(0)  # it has begun
    asking.cancel()
    assert await requests(found) == 1
    await found.close()


async def test_a_damaged_file_is_told_of(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    found = meter_of(tmp_path)
    found.append(*ended(ENGINE))
    assert await requests(found) == 1
    assert "was damaged (file is not a database) and set aside as usage.db.damaged-" in (
        found.message
    )
    await found.close()


async def test_what_is_off_makes_no_file(tmp_path: Path) -> None:
    found = meter_of(tmp_path, Usage(enabled=False))
    await found.write()
    await found.close()
    assert not os.listdir(tmp_path)
    assert found.off == "usage is not counted: [usage] enabled is false"
