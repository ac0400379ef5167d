"""Every row of the table, on real sockets; and against itself, in any pieces."""

import asyncio
import contextlib
import re

import pytest

from tests.router.raw_requests import GET, ROWS, Row, on
from tests.router.relay_kit import OK, Client, Rig, Script, Talk, serving, splits

#: A client's next request, on the same connection.
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
_OWN_ADDRESS = re.compile(rb"\r\nHost: 127\.0\.0\.1:\d+\r\n")
_NEW_ID = re.compile(rb"\r\nx-request-id: [^\r]+\r\n")


class Recorder:
    """An upstream that answers each request, and keeps every byte that came."""

    def __init__(self) -> None:
        self.raw = bytearray()

    @property
    def script(self) -> Script:
        async def record(talk: Talk) -> None:
            unread = bytearray()
            while data := await talk.reader.read(65_536):
                self.raw += data
                unread += data
                while (end := _whole(unread)) is not None:
                    del unread[:end]
                    await talk.say(OK)

        return record

    def reached(self) -> bytes:
        plain = _OWN_ADDRESS.sub(b"\r\nHost: upstream\r\n", bytes(self.raw))
        return _NEW_ID.sub(b"\r\nx-request-id: *\r\n", plain)


def _whole(data: bytearray) -> int | None:
    """Where the first request ends, if all of it is there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = re.search(rb"\r\ncontent-length: (\d+)\r\n", data[: end + 2])
    whole = end + 4 + (int(found[1]) if found else 0)
    return whole if len(data) >= whole else None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_one_right_behaviour(row: Row) -> None:
    upstream = Recorder()
    async with serving(upstream.script) as rig:
        assert await told(rig, [row.sent], row) == (row.answers, row.closes)
        assert upstream.reached() == reached(row)


async def test_the_table_in_small_pieces_and_behind_a_request() -> None:
    """What a head means does not depend on how it was cut, nor on what the connection said before
    it: the second time, the ways past the parser are open."""
    for rows in (ROWS[::2], ROWS[1::2]):
        upstream = Recorder()
        async with serving(upstream.script) as rig:
            for number, row in enumerate(rows):
                upstream.raw.clear()
                middle = len(row.sent) // 2
                cuts = [middle] if number % 2 else [1, middle, len(row.sent) - 1]
                pieces = [GET + b"\r\n", *splits(row.sent[:80_000], cuts)]
                answers, closes = await told(rig, pieces, row)
                assert (answers, closes) == ((200, *row.answers), row.closes), row.name
                assert upstream.reached() == on(b"GET /x") + reached(row), row.name


def reached(row: Row) -> bytes:
    return row.reached if row.closes else row.reached + on(b"GET /next")


async def told(rig: Rig, pieces: list[bytes], row: Row) -> tuple[tuple[int, ...], bool]:
    """The statuses of the answers, and whether the connection closed after them: one that did not
    answers one more."""
    client = await rig.client()
    statuses: list[int] = []
    try:
        for piece in pieces[:-1]:
            client.writer.write(piece)
            await client.writer.drain()
            if piece.startswith(GET) and len(pieces) > 1 and not statuses:
                statuses.append(await status(client))
            await asyncio.sleep(0.001)
        client.writer.write(pieces[-1] + NEXT)
        while True:
            try:
                statuses.append(await asyncio.wait_for(status(client), 30))
            except (asyncio.IncompleteReadError, ConnectionError):
                return tuple(statuses), True
            wanted = len(row.answers) + (len(pieces) > 1)
            if not row.closes and len(statuses) == wanted + 1:
                assert statuses.pop() == 200, "the next request"
                return tuple(statuses), False
    finally:
        with contextlib.suppress(ConnectionError):
            await client.close()


async def status(client: Client) -> int:
    """Of the next answer that is not interim."""
    code = 100
    while code == 100:
        head = await client.head()
        code = int(head.split(b" ", 2)[1])
    found = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
    await client.reader.readexactly(int(found[1]) if found else 0)
    return code
