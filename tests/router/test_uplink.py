"""Any split of an answer's bytes into reads gives the same answer, whatever its framing.

A connection carries three answers in a row, so that what it remembers of the first is used too.
"""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.framing import Framing
from router.nodes import Node
from router.uplink import Pool, Uplink

EVENTS = [b'data: {"n": %d}\n\n' % n for n in range(6)]
ALL = b"".join(EVENTS)
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


#: Bytes of one answer, and the body in it.
ANSWERS = {
    "length": (JSON % (7, b'{"a":1}'), b'{"a":1}'),
    "empty": (JSON % (0, b""), b""),
    "chunks of an event each": (SSE + chunked(*EVENTS), ALL),
    "chunks across events": (SSE + chunked(ALL[:20], ALL[20:]), ALL),
    "chunk extension": (SSE + b"5;a=b\r\ndata:\r\n0\r\n\r\n", b"data:"),
    "trailers": (SSE + b"5\r\ndata:\r\n0\r\nX-Sum: 1\r\n\r\n", b"data:"),
    "an early hint first": (HINT + JSON % (2, b"{}"), b"{}"),
    "an error": (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", b"no"),
}  # fmt: skip


class Transport:
    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        raise AssertionError("a good connection was closed")


class Owner:
    """Takes what came after each read, as the gateway does."""

    def __init__(self, link: Uplink) -> None:
        self.link = link
        self.body = b""
        self.lost = False

    def upstream_received(self) -> None:
        self.body += b"".join(self.link.parts)
        self.link.parts.clear()

    def upstream_lost(self) -> None:
        self.lost = True

    def upstream_paused(self) -> None: ...

    def upstream_resumed(self) -> None: ...


def connection() -> Uplink:
    loop = cast(asyncio.AbstractEventLoop, None)
    pool = Pool(loop, idle_s=60, kept_max=8, head_bytes_max=65_536)
    link = Uplink(pool, Node("one", "127.0.0.1", 1))
    link.connection_made(cast(Any, Transport()))
    return link


def answer(link: Uplink, pieces: list[bytes]) -> tuple[int, bytes, Framing, bool]:
    """Status, body, framing, and whether the connection is good for another."""
    owner = Owner(link)
    link.ask(owner, "POST")
    for number, piece in enumerate(pieces):
        assert not link.complete, f"complete before piece {number} of {len(pieces)}"
        link.data_received(piece)
        assert link.error is None
    assert link.complete
    assert link.head is not None
    found = (link.head.status, owner.body, link.framing, link.keep)
    link.done(0.0)
    return found


@st.composite
def split(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("kind", ANSWERS)
@given(data=st.data())
def test_any_split_gives_the_same_answer(kind: str, data: st.DataObject) -> None:
    raw, body = ANSWERS[kind]
    whole = answer(connection(), [raw])
    assert whole[1] == body
    assert whole[3], "the connection can be used again"
    link = connection()
    for _ in range(3):
        assert answer(link, data.draw(split(raw))) == whole


@given(data=st.data())
def test_a_byte_too_many_is_never_part_of_an_answer(data: st.DataObject) -> None:
    raw, body = ANSWERS[data.draw(st.sampled_from(["length", "chunks of an event each"]))]
    link = connection()
    owner = Owner(link)
    link.ask(owner, "POST")
    read = 0
    for piece in data.draw(split(raw + b"HTTP/1.1 200 OK\r\n\r\n")):
        link.data_received(piece)
        read += len(piece)
        if link.complete or link.error:
            break
    assert owner.body == body
    if read > len(raw):  # the answer's last byte and the next one's first came in one read
        assert link.error is not None or not link.keep
