import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import events
from router.events import Splitter, TooLongError
from router.route import Family
from tests.router.relay_kit import splits

MB = 1 << 20


def fed(data: bytes, cuts: list[int], bytes_max: int = MB) -> tuple[list[bytes], bytes]:
    splitter = Splitter(bytes_max)
    out = [whole for piece in splits(data, cuts) if (whole := splitter.feed(piece))]
    return out, splitter.rest()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
def test_an_event_ends_at_a_blank_line_however_lines_end(end: bytes) -> None:
    out, rest = fed(b"data: a" + end + b"data: b" + end + b"data: c", [])
    assert b"".join(out) == b"data: a" + end + b"data: b" + end
    assert rest == b"data: c"


def test_a_crlf_is_one_line_end() -> None:
    assert fed(b"data: a\r\ndata: b\r\n", []) == ([], b"data: a\r\ndata: b\r\n")


def test_nothing_passes_before_its_blank_line() -> None:
    splitter = Splitter(MB)
    assert splitter.feed(b"data: a\n") == b""
    assert splitter.feed(b"\nda") == b"data: a\n\n"
    assert splitter.feed(b"ta: b\n\n") == b"data: b\n\n"
    assert splitter.rest() == b""


ENDS = tuple(a + b for a in (b"\n", b"\r\n", b"\r") for b in (b"\n", b"\r\n", b"\r"))
TEXT = st.lists(
    st.sampled_from([b"data: x", b": c", b"event: e", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"]),
    max_size=30,
).map(b"".join)


@given(TEXT, st.lists(st.integers(0, 200), max_size=20))
def test_nothing_is_lost_and_every_cut_is_at_a_blank_line(data: bytes, cuts: list[int]) -> None:
    out, rest = fed(data, cuts)
    assert b"".join(out) + rest == data
    for whole in out:
        assert whole.endswith(ENDS), whole


@given(
    st.lists(st.sampled_from([b"data: x\n\n", b": c\n\n", b"data: y\r\n\r\n"]), max_size=12),
    st.sampled_from([b"", b"data: half", b"data: half\n"]),
    st.lists(st.integers(0, 200), max_size=20),
)
def test_any_split_gives_the_same_events(parts: list[bytes], tail: bytes, cuts: list[int]) -> None:
    out, rest = fed(b"".join(parts) + tail, cuts)
    assert b"".join(out) == b"".join(parts)
    assert rest == tail


def test_an_event_may_not_be_endless() -> None:
    with pytest.raises(TooLongError):
        fed(b"data: " + b"x" * 200, [50, 100, 150], bytes_max=100)
    with pytest.raises(TooLongError):
        fed(b"data: a\n\ndata: " + b"x" * 200, [], bytes_max=100)
    fed(b"data: x\n\n" * 100, [], bytes_max=100)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b": hi\n\n", None),
        (b"event: ping\n\n", None),
        (b": hi\n\ndata: x\n\n", (b"", b"x")),
        (b"event: e\ndata:x\n\n", (b"e", b"x")),
        (b"data: a\ndata: b\n\n", (b"", b"a\nb")),
        (b"event: a\n\ndata: x\n\n", (b"", b"x")),
        (b"data\n\n", (b"", b"")),
        (b"data: x\r\n\r\n", (b"", b"x")),
        (b"database: x\n\n", None),
    ],
)
def test_the_first_event_is_the_first_with_data(
    text: bytes, found: tuple[bytes, bytes] | None
) -> None:
    assert events.first_data(text) == found


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        (b"error", b"{}", True),
        (b"", b'{"error":{"message":"x"}}', True),
        (b"", b'{"error":"x"}', True),
        (b"", b'{"object":"error","message":"x"}', True),
        (b"", b'{"type":"error","error":{}}', True),
        (b"", b'{"error":null,"choices":[]}', False),
        (b"", b'{"choices":[{"delta":{"content":"\\"error\\""}}]}', False),
        (b"", b'{"choices":[{"delta":{"error":"x"}}]}', False),
        (b"", b"[DONE]", False),
        (b"", b'"error" no json', False),
        (b"", b'["error"]', False),
    ],
)
def test_errors_as_first_events(name: bytes, data: bytes, error: bool) -> None:
    assert events.is_error(name, data) is error


def test_terminal_markers() -> None:
    assert events.has_marker(Family.CHAT, b"data: {}\n\ndata: [DONE]\n\n")
    assert not events.has_marker(Family.CHAT, b"data: {}\n\n")
    assert events.has_marker(Family.RESPONSES, b'data: {"type":"response.completed"}\n\n')
    assert events.has_marker(Family.MESSAGES, b'data: {"type":"message_stop"}\n\n')


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', (3, 4, None)),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', (3, 4, None)),
        (b'{"usage":{"prompt_tokens":3,"total_tokens":3}}', (3, None, None)),
        (b'{"response":{"usage":{"input_tokens":3,"output_tokens":4}}}', (3, 4, None)),
        (b'{"message":{"usage":{"input_tokens":3,"output_tokens":1}}}', (3, 1, None)),
        (b'{"prompt_eval_count":3,"eval_count":4}', (3, 4, None)),
        (
            b'{"usage":{"prompt_tokens":9,"completion_tokens":4,'
            b'"prompt_tokens_details":{"cached_tokens":8}}}',
            (9, 4, 8),
        ),
        (b'{"usage":{"input_tokens":9,"output_tokens":4,"cache_read_input_tokens":7}}', (9, 4, 7)),
        (b'{"usage":null}', (None, None, None)),
        (b'{"usage":{"prompt_tokens":"many"}}', (None, None, None)),
        (b'"usage" no json', (None, None, None)),
        (b"{}", (None, None, None)),
    ],
)
def test_tokens_of_a_plain_answer(body: bytes, tokens: events.Tokens) -> None:
    assert events.usage_of_answer(body) == tokens


def test_tokens_of_a_stream_come_from_its_last_events() -> None:
    tail = b'half}\n\ndata: {"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
    assert events.usage_of_events(b"", tail) == (3, 4, None)
    first = b'event: m\ndata: {"message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    tail = b'data: {"usage":{"output_tokens":5}}\n\n'
    assert events.usage_of_events(first, tail) == (9, 5, None)
    assert events.usage_of_events(b"data: x\n\n", b"data: [DONE]\n\n") == (None, None, None)


def test_events_are_counted_at_any_line_end() -> None:
    assert events.count(b"data: a\n\n: b\n\n") == 2
    assert events.count(b"data: a\r\n\r\n") == 1
