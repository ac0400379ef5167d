"""The file of usage: sums that no retention changes, and what may happen to a file."""

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.usage import book, store
from router.usage.book import DIVISIONS, Book
from router.usage.rows import COLUMNS, DAY_S, Counts, Row, Rows
from router.usage.store import BookError, Question, TooMuchError
from tests.support.processes import Processes
from tests.support.until import until_sync

DAY = 20_000 * DAY_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Book]:
    found = Book(path)
    yield found
    found.close()


def row(start: int = DAY, key: str = "ana", model: str = "m", service: str = "a@h") -> Row:
    return Row(start, key[:1], key, "lab", model, model, service)


def counts(requests: int = 1, **more: int) -> Counts:
    found = Counts()
    found.requests = requests
    for name, value in more.items():
        setattr(found, name, value)
    return found


def sums(found: Book, *by: str, **more: object) -> dict[tuple[str, ...], int]:
    """Requests by the names of `by`."""
    answer = found.read(Question(by=by, **more))  # type: ignore[arg-type]
    return {one.names: one.values[0] for one in answer}


def test_what_is_written_adds_to_what_is_there(opened: Book) -> None:
    opened.add({row(): counts(2, ok=1, cost_nanos=5), row(key="bob"): counts(1)})
    opened.add({row(): counts(3, ok=3, cost_nanos=7)})
    (whole,) = opened.read(Question(by=("key",), key="ana"))
    assert whole.names == ("ana",)
    assert dict(zip(COLUMNS, whole.values, strict=True)) == {
        **dict.fromkeys(COLUMNS, 0), "requests": 5, "ok": 4, "cost_nanos": 12,
    }  # fmt: skip
    assert sums(opened, "key") == {("ana",): 5, ("bob",): 1}


def test_it_is_divided_and_bounded_as_asked(opened: Book) -> None:
    hours = [row(DAY + at * 3_600, "ana" if at % 2 else "bob") for at in range(48)]
    opened.add({one: counts() for one in hours})
    assert sums(opened) == {(): 48}
    assert sums(opened, "day", "key") == {
        ("2024-10-04", "ana"): 12,
        ("2024-10-04", "bob"): 12,
        ("2024-10-05", "ana"): 12,
        ("2024-10-05", "bob"): 12,
    }
    assert sums(opened, "month") == {("2024-10",): 48}
    assert sums(opened, "hour", start=DAY + 7_200, end=DAY + 10_800) == {("2024-10-04T02:00Z",): 1}
    assert sums(opened, start=DAY + DAY_S) == {(): 24}
    assert sums(opened, end=DAY + 1) == {(): 1}, "an hour that is cut counts whole"
    assert sums(opened, "key_id", key="a") == {("a",): 24}, "a key's id is as good as its name"
    assert sums(opened, model="other") == {(): 0}


def test_each_division_is_one_that_is_answered(opened: Book) -> None:
    opened.add({row(): counts()})
    for name in DIVISIONS:
        assert list(sums(opened, name).values()) == [1]


def test_an_answer_has_a_bound(opened: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ANSWER_ROWS_MAX", 3)
    opened.add({row(key=f"k{n}"): counts() for n in range(4)})
    with pytest.raises(TooMuchError):
        sums(opened, "key")
    assert sums(opened, "model") == {("m",): 4}


def test_old_hours_become_days_and_old_days_go(opened: Book) -> None:
    now = DAY + 40 * DAY_S
    for day in range(40):
        opened.add({row(DAY + day * DAY_S + hour * 3_600): counts() for hour in (0, 7, 23)})
    for _ in range(2):  # again changes nothing
        opened.retain(now, hourly_days=10, keep_days=30)
        assert sums(opened) == {(): 90}
        by_day = sums(opened, "day")
        assert len(by_day) == 30
        assert set(by_day.values()) == {3}
        assert len(sums(opened, "hour")) == 20 + 10 * 3
    # One that comes late joins its day.
    opened.add({row(DAY + 20 * DAY_S + 3_600): counts()})
    opened.retain(now, hourly_days=10, keep_days=30)
    assert sums(opened, "hour", start=DAY + 20 * DAY_S, end=DAY + 21 * DAY_S) == {
        ("2024-10-24",): 4
    }


written = st.lists(
    st.dictionaries(
        st.builds(
            row,
            st.integers(0, 24 * 12).map(lambda at: DAY + at * 3_600),
            st.sampled_from(["ana", "bob", ""]),
            st.sampled_from(["m", "n"]),
        ),
        st.builds(counts, st.integers(1, 9), tokens_in=st.integers(0, 1 << 40)),
        max_size=6,
    ),
    max_size=6,
)


@given(written, st.lists(st.integers(0, 14), max_size=6), st.integers(1, 10))
def test_no_retention_changes_a_sum(batches: list[Rows], days: list[int], hourly: int) -> None:
    found = Book(Path("/nonexistent"))
    found._db = sqlite3.connect(":memory:", isolation_level=None)
    found._check(found._db)
    found._is_elsewhere = lambda: False  # type: ignore[method-assign]
    want: dict[tuple[str, str, str], list[int]] = {}
    moments = iter(days)
    try:
        for batch in batches:
            found.add(batch)
            for one, what in batch.items():
                day = (one.start - DAY) // DAY_S
                have = want.setdefault((one.key, one.model, str(day)), [0, 0])
                have[0] += what.requests
                have[1] += what.tokens_in
            if (day_now := next(moments, None)) is not None:
                found.retain(DAY + day_now * DAY_S, hourly_days=hourly, keep_days=1_000)
        got = found._db.execute(
            "SELECT key, model, CAST((start - ?) / 86400 AS TEXT), SUM(requests), SUM(tokens_in) "
            "FROM usage GROUP BY 1, 2, 3",
            (DAY,),
        ).fetchall()
    finally:
        found.close()
    assert {(key, model, day): [a, b] for key, model, day, a, b in got} == want


def test_two_routers_may_have_it_open(path: Path) -> None:
    """As they have while one takes over from the other."""
    one, two = Book(path), Book(path)
    for _ in range(20):
        one.add({row(): counts()})
        two.add({row(): counts(), row(key="bob"): counts()})
        one.retain(DAY + 30 * DAY_S, hourly_days=1, keep_days=90)
    assert sums(one, "key") == sums(two, "key") == {("ana",): 40, ("bob",): 20}
    one.close()
    two.add({row(): counts()})
    assert sums(two, key="ana") == {(): 41}
    two.close()


@pytest.mark.real
def test_what_was_written_survives_kill_9(path: Path, tmp_path: Path) -> None:
    """A writer that is killed in the middle of its writing leaves whole transactions."""
    code = (
        "import sys; from pathlib import Path; from router.usage.book import Book\n"
        "from tests.router.usage.test_book import counts, row\n"
        "book = Book(Path(sys.argv[1]))\n"
        "while True:\n"
        "    book.add({row(): counts(), row(key='bob'): counts()})\n"
        "    print('written', flush=True)\n"
    )
    processes = Processes(tmp_path)
    try:
        process = processes.start([sys.executable, "-c", code, path], name="writer")
        until_sync(lambda: process.log.count("written") >= 50, what="50 writings")
        process.kill()
        process.wait()
        said = process.log.count("written")
    finally:
        processes.close()
    found = Book(path)
    kept = sums(found, "key")
    assert kept[("ana",)] == kept[("bob",)], "a transaction is whole or not there"
    assert kept[("ana",)] in (said, said + 1)
    found.close()


def test_it_is_for_the_routers_user_alone(path: Path, opened: Book) -> None:
    opened.add({row(): counts()})
    for one in path.parent.iterdir():
        assert one.stat().st_mode & 0o077 == 0, one


@pytest.mark.parametrize(
    "text", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_096]
)
def test_a_damaged_file_is_set_aside_whole(path: Path, opened: Book, text: bytes) -> None:
    path.write_bytes(text)
    opened.add({row(): counts()})
    assert sums(opened) == {(): 1}
    (aside,) = path.parent.glob("usage.db.damaged-*")
    assert aside.read_bytes() == text
    assert aside.name in opened.set_aside


def test_damage_within_is_found_when_it_is_opened(path: Path) -> None:
    first = Book(path)
    first.add({row(key=f"key-{n:04}"): counts() for n in range(2_000)})
    first.close()
    raw = bytearray(path.read_bytes())
    raw[8_192:12_288] = bytes(4_096)
    path.write_bytes(raw)
    second = Book(path)
    second.add({row(): counts()})
    assert sums(second) == {(): 1}
    assert "damaged" in second.set_aside
    second.close()


def test_a_file_of_another_kind_is_set_aside(path: Path, opened: Book) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text TEXT)")
    other.close()
    opened.add({row(): counts()})
    assert "it is no file of usage" in opened.set_aside


def test_a_file_of_a_newer_version_is_left_as_it_is(path: Path, opened: Book) -> None:
    opened.add({row(): counts()})
    opened.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version=2")
    other.close()
    with pytest.raises(BookError, match="was written by a newer Creche"):
        opened.add({row(): counts()})
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_file_that_went_is_begun_anew(path: Path, opened: Book) -> None:
    opened.add({row(): counts()})
    for one in list(path.parent.iterdir()):
        one.unlink()
    opened.add({row(key="bob"): counts()})
    assert sums(opened, "key") == {("bob",): 1}


def test_a_file_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    found = Book(tmp_path / "missing" / "usage.db")
    with pytest.raises(BookError, match="No such file"):
        found.add({row(): counts()})
    (tmp_path / "missing").mkdir()
    found.add({row(): counts()})
    assert sums(found) == {(): 1}
    found.close()


def test_a_locked_file_is_no_damage(
    path: Path, opened: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "BUSY_TIMEOUT_S", 0.01)
    opened.add({row(): counts()})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BookError, match="locked"):
        opened.add({row(): counts()})
    other.execute("ROLLBACK")
    other.close()
    opened.add({row(): counts()})
    assert sums(opened) == {(): 2}
    assert not opened.set_aside


def test_a_full_disk_costs_nothing_that_is_there(opened: Book) -> None:
    opened.add({row(): counts()})
    assert opened._db is not None
    opened._db.execute("PRAGMA max_page_count=3")  # as SQLite sees a disk without room
    many = {row(key=f"key-{n:04}"): counts() for n in range(1_000)}
    with pytest.raises(BookError, match="database or disk is full"):
        opened.add(many)
    assert sums(opened) == {(): 1}
    opened._db.execute("PRAGMA max_page_count=1000")
    opened.add(many)
    assert sums(opened) == {(): 1_001}
    assert not opened.set_aside
