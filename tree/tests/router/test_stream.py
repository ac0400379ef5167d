import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Splitter
from router.stream import AT_LEAST, BELOW, COMPARED_MAX, NOTED_MAX, Stream, are_chunks

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
    assert (rig.stream.events, rig.stream.bytes_out) == (3, len(rig.out))
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


#: What looks like chunks of whole events, and is not.
NONE = [
    b"+f\r\n" + A + b"\r\n",
    b" f\r\n" + A + b"\r\n",
    b"0xf\r\n" + A + b"\r\n",
    b"f;a=b\r\n" + A + b"\r\n",
    b"e\r\n" + A + b"\r\n",
    b"10\r\n" + A + b"\r\n",
    b"f\r\n" + A + b"\r\n0\r\n\r\n",
    b"f\r\n" + A + b"\r\nf\r\n" + A,
    b"8\r\ndata: a\n\r\n9\r\n\ndata: b\n\n\r\n",
    b"f\r\n" + A,
    b"6\r\ndata: \r\n",
    b"0\r\n\r\n",
    b"0\r\n\n\n\r\n",
    b"000000000f\r\n" + A + b"\r\n",
    b"\r\n" + A + b"\r\n",
    b"",
]


@pytest.mark.parametrize("data", NONE)
def test_what_is_not_plainly_chunks_of_whole_events_is_the_parsers(data: bytes) -> None:
    assert not are_chunks(data)


@pytest.mark.parametrize("size", [b"f", b"F", b"0f", b"000000f"])
def test_a_chunks_size_may_be_written_in_several_ways(size: bytes) -> None:
    chunk = size + b"\r\n" + A + b"\r\n"
    assert are_chunks(chunk)
    assert are_chunks(chunk + b"1e\r\n" + A + B + b"\r\n")


def compared(data: bytes) -> bool:
    size = len(data)
    return AT_LEAST[size] <= data < BELOW[size] and data.endswith(b"\n\n\r\n")


@given(
    st.one_of(
        st.integers(0, COMPARED_MAX // 2).map(lambda n: b"%x\r\n%b\n\n\r\n" % (n + 2, b"x" * n)),
        st.sampled_from(NONE),
        st.lists(st.sampled_from([b"f", b"10", b"\r", b"\n", b"\r\n", A, B]), max_size=6).map(
            b"".join
        ),
    )
)
def test_what_two_comparisons_take_is_one_chunk_of_whole_events(data: bytes) -> None:
    if compared(data):
        assert are_chunks(data)
    elif data[:1] != b"0" and data.count(b"\n\n\r\n") == 1:
        assert not are_chunks(data)


def test_what_was_noted_counts_once_it_is_asked_for_and_before_anything_else() -> None:
    rig = Rig()
    chunk = b"1e\r\n" + A + B + b"\r\n"
    rig.stream.passed += [chunk] * NOTED_MAX
    rig.stream.count()
    assert (rig.stream.events, rig.stream.bytes_out) == (2 * NOTED_MAX, NOTED_MAX * len(chunk))
    assert (rig.stream.before, rig.stream.last) == (chunk, chunk)
    rig.stream.count()
    assert rig.stream.events == 2 * NOTED_MAX
    rig.stream.passed.append(chunk)
    rig.read(A)
    assert (rig.stream.events, rig.stream.before, rig.stream.last) == (2 * NOTED_MAX + 3, chunk, A)
    rig.stream.passed.append(chunk)
    rig.read(A, A)
    assert (rig.stream.events, rig.stream.before) == (2 * NOTED_MAX + 7, chunk)


def test_a_chunk_passes_as_it_came_only_where_nothing_waits() -> None:
    rig = Rig()
    found = [rig.stream.even]
    for data in (b"data: half", b"\n\n", A):
        rig.read(data)
        found.append(rig.stream.even)
    assert found == [True, False, True, True]
    assert not Rig(chunked=False).stream.even
