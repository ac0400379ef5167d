"""Chat events from bytes, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctl.errors import CtlError
from ctl.sse import ChatEvents, plain_text

STREAM = (
    b": hello\n\n"
    b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"Hel"}}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{"content":"lo \xc3\xa9"}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


def test_a_whole_stream() -> None:
    events = ChatEvents()
    assert "".join(events.feed(STREAM)) == "Hello é"
    assert events.done
    assert events.finish == "stop"
    assert events.usage == {"completion_tokens": 2}


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    events = ChatEvents()
    text = "".join(
        piece for start, end in pairwise(edges) for piece in events.feed(STREAM[start:end])
    )
    assert (text, events.done) == ("Hello é", True)


def test_an_error_event_ends_it_with_its_message() -> None:
    events = ChatEvents()
    with pytest.raises(CtlError) as caught:
        list(events.feed(b'data: {"error":{"message":"engine gone"}}\n\n'))
    assert caught.value.why == "engine gone"


def test_garbage_and_endless_lines_are_refused() -> None:
    with pytest.raises(CtlError, match="no JSON"):
        list(ChatEvents().feed(b"data: {oops\n\n"))
    with pytest.raises(CtlError, match="no event stream"):
        list(ChatEvents().feed(b"x" * (1 << 20) + b"x"))


def test_plain_answers_have_a_text_or_are_refused() -> None:
    assert plain_text({"choices": [{"message": {"content": "hi"}}]}) == "hi"
    with pytest.raises(CtlError):
        plain_text({"object": "list"})
