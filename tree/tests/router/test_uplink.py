"""Any split of an answer's bytes into reads gives the same answer, whatever its framing.

A connection carries three answers in a row, so that what it remembers of the first is used too.
"""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Splitter
from router.framing import Framing
from router.nodes import Node
from router.stream import Stream
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


class StreamOwner(Owner):
    """Runs the stream from its head on, as the gateway does from the first event."""

    out = b""

    def write(self, data: bytes) -> None:
        self.out += data

    def upstream_received(self) -> None:
        link = self.link
        if link.head is None:
            return
        if link.stream is None:
            splitter = Splitter(1 << 20)
            link.stream = Stream(link.parts, splitter, self.write, chunked=True)
        self.write(link.stream.whole())
        if link.complete:
            self.write(link.stream.end())


def dechunked(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        if not count:
            assert data == b"\r\n"
            return body
        assert data[count : count + 2] == b"\r\n"
        body, data = body + data[:count], data[count + 2 :]


@given(data=st.data())
def test_any_split_of_a_running_stream_gives_the_same_stream(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ALL) - 1), max_size=5)))
    parts = data.draw(
        st.sampled_from(
            [EVENTS, [ALL[a:b] for a, b in zip([0, *cuts], [*cuts, len(ALL)], strict=True)]]
        )
    )
    raw = SSE + chunked(*parts)
    # Reads end where they may, and often where a chunk does: that is the short way.
    ends = {len(SSE)}
    for part in parts:
        ends.add(max(ends) + len(b"%x" % len(part)) + 4 + len(part))
    some = data.draw(st.sets(st.sampled_from(sorted(ends)))) | set(
        data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=4))
    )
    reads = sorted(some - {0, len(raw)})
    link = connection()
    for _ in range(2):
        owner = StreamOwner(link)
        link.ask(owner, "POST")
        for start, end in zip([0, *reads], [*reads, len(raw)], strict=True):
            link.data_received(raw[start:end])
            assert link.error is None
        assert link.complete and link.keep
        assert dechunked(owner.out) == ALL
        link.done(0.0)


def test_between_two_chunks_a_read_of_whole_chunks_passes_as_it_came() -> None:
    link = connection()
    owner = StreamOwner(link)
    link.ask(owner, "POST")
    odd = [b"%05X\r\n%b\r\n" % (len(one), one) for one in EVENTS]
    even = [b"%x\r\n%b\r\n" % (len(one), one) for one in EVENTS]

    def read(data: bytes) -> bytes:
        owner.out = b""
        link.data_received(data)
        return owner.out

    assert read(SSE + odd[0]) == even[0]
    assert read(odd[1]) == even[1], "the parser said that a chunk has ended"
    assert read(odd[2]) == odd[2]
    assert read(even[3] + odd[4]) == even[3] + odd[4]
    assert read(odd[5][:12]) == b""
    assert read(odd[5][12:] + odd[0]) == b"%x\r\n%b\r\n" % (32, EVENTS[5] + EVENTS[0])
    assert read(b"2;a=b\r\n:\n\r\n") == b"", "half an event"
    assert read(b"1\r\n\n\r\n") == b"3\r\n:\n\n\r\n"
    assert read(even[1]) == even[1]
    stream = link.stream
    assert stream is not None
    assert read(b"0\r\n\r\n") == b"0\r\n\r\n"
    assert link.complete and link.keep and link.error is None
    stream.count()
    assert (stream.events, stream.last) == (9, even[1])


def test_a_byte_that_is_no_chunk_ends_a_running_stream() -> None:
    for bad in (b"zz\r\n\n\n\r\n", b"\n\n\r\n", b"f\r\n%b\r\n" % EVENTS[0]):
        link = connection()
        owner = StreamOwner(link)
        link.ask(owner, "POST")
        chunk = b"10\r\n%b\r\n" % EVENTS[0]
        for data in (SSE + chunk, chunk, chunk, bad):
            link.data_received(data)
        assert link.error is not None
        assert owner.out == 3 * chunk
