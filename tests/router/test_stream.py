import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Splitter
from router.stream import Stream

A, B = b'data: {"a":1}\n\n', b'data: {"b":2}\n\n'


class Rig:
    def __init__(self, *, chunked: bool = True) -> None:
        self.parts: list[bytes] = []
        self.out = b""
        self.stream = Stream(self.parts, Splitter(1 << 20), self.write, chunked=chunked)

    def write(self, data: bytes) -> None:
        self.out += data

    def read(self, *parts: bytes) -> bool:
        """As a connection does: the short way, else the other. Whether it was the short one."""
        self.parts.extend(parts)
        if self.stream.pass_on():
            return True
        self.write(self.stream.whole())
        return False


def test_one_piece_of_whole_events_takes_the_short_way() -> None:
    rig = Rig()
    assert rig.read(A)
    assert rig.read(A + B)
    assert rig.out == b"f\r\n" + A + b"\r\n1e\r\n" + A + B + b"\r\n"
    assert (rig.stream.events, rig.stream.bytes_out) == (3, 45)
    assert (rig.stream.before, rig.stream.last) == (A, A + B)


def test_anything_else_takes_the_other_and_is_whole_as_well() -> None:
    rig = Rig(chunked=False)
    assert not rig.read(A, B)
    assert not rig.read(A + b"data")
    assert not rig.read(b": x\n\n")
    assert not rig.read()
    assert not rig.read(b"data: y\r\n\r\n")
    assert rig.out == A + B + A + b"data: x\n\ndata: y\r\n\r\n"


def test_what_waits_at_the_end_passes_before_the_framing_ends() -> None:
    rig = Rig()
    rig.read(b"data: half")
    assert rig.out == b""
    assert rig.stream.end() == b"a\r\ndata: half\r\n0\r\n\r\n"
    assert Rig().stream.end() == b"0\r\n\r\n"
    assert Rig(chunked=False).stream.end() == b""


def test_a_write_to_what_has_just_closed_is_no_fault() -> None:
    def closed(data: bytes) -> None:
        raise RuntimeError("the handler is closed")

    parts = [A]
    assert Stream(parts, Splitter(100), closed, chunked=True).pass_on()
    assert parts == []


@given(
    st.lists(st.sampled_from([A, B, b": c\n\n", b"data: ", b"x\n", b"\n", b"\r\n"]), max_size=20)
)
def test_both_ways_together_lose_nothing(reads: list[bytes]) -> None:
    rig = Rig(chunked=False)
    for data in reads:
        rig.read(data)
    assert rig.out + rig.stream.end() == b"".join(reads)


@pytest.mark.parametrize(
    "data",
    [
        b"+f\r\n" + A + b"\r\n",
        b" f\r\n" + A + b"\r\n",
        b"0xf\r\n" + A + b"\r\n",
        b"f;a=b\r\n" + A + b"\r\n",
        b"e\r\n" + A + b"\r\n",
        b"10\r\n" + A + b"\r\n",
        b"f\r\n" + A + b"\r\nf\r\n" + A + b"\r\n",
        b"f\r\n" + A,
        b"6\r\ndata: \r\n",
        b"0\r\n\r\n",
        b"000000000f\r\n" + A + b"\r\n",
        b"\r\n" + A + b"\r\n",
    ],
)
def test_what_is_not_plainly_one_chunk_of_whole_events_is_the_parsers(data: bytes) -> None:
    rig = Rig()
    assert not rig.stream.verbatim(data)
    assert (rig.out, rig.stream.events, rig.stream.bytes_out) == (b"", 0, 0)


def test_one_whole_chunk_passes_as_it_came() -> None:
    rig = Rig()
    chunk = b"1e\r\n" + A + B + b"\r\n"
    assert rig.stream.verbatim(chunk)
    assert rig.out == chunk
    assert (rig.stream.events, rig.stream.bytes_out, rig.stream.last) == (2, 30, A + B)
    rig.read(b"data: half")
    assert not rig.stream.verbatim(chunk), "what waits goes first"
    assert not Rig(chunked=False).stream.verbatim(chunk)
