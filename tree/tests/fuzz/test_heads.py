"""The fuzz in small, the same inputs each time. By hand: `python -m tests.fuzz.heads`."""

import pytest

from router import inbound
from tests.fuzz.heads import Finding, fuzz
from tests.fuzz.reading import Door, Theirs, compare
from tests.router.raw_requests import GET, ROWS


async def test_h11_reads_what_the_relay_reads() -> None:
    for runs, _, _ in fuzz(1, runs=1_000):
        last = runs
    assert last == 1_000


async def test_a_door_that_is_laxer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound.Inbound, "_check_line", lambda self, line: self._begun.clear())
    with pytest.raises(Finding, match="not by h11: illegal request line"):
        for _ in fuzz(1, runs=1_000):
            pass


async def test_every_row_of_the_table_is_read_alike() -> None:
    door = Door()
    for row in ROWS:
        assert compare(row.sent, door.read(row.sent), Theirs(row.sent)) is None, row.name


async def test_another_body_waiting_and_a_second_request_are_told_apart() -> None:
    door = Door()
    posted = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    ours = door.read(posted)
    other = compare(b"", ours, Theirs(posted.replace(b"{}", b"[]")))
    assert other == "the body of request 0: b'{}', not b'[]'"
    assert "not by h11: incomplete" in str(compare(b"", ours, Theirs(posted[:-1])))
    waits = compare(b"", ours, Theirs(posted + GET + b"\r\n"))
    assert waits == "waits where h11 has a whole request: b'GET' b'/x'"
