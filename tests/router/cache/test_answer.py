"""Which answers are given twice: whole ones, without an error, ended as their dialect ends."""

import pytest

from router.cache.answer import is_good
from router.route import Family

CHAT, RESPONSES, MESSAGES = Family.CHAT, Family.RESPONSES, Family.MESSAGES


def plain(body: bytes, family: Family = CHAT) -> bool:
    return is_good(body, family, events=False)


def stream(*events: bytes, family: Family = CHAT) -> bool:
    body = b"".join(event + b"\n\n" for event in events)
    return is_good(body, family, events=True)


@pytest.mark.parametrize(
    ("body", "family"),
    [
        (b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}', CHAT),
        (b'{"choices":[{"finish_reason":"length"}],"error":null}', CHAT),
        (b'{"choices":[{"message":{"content":"\\"finish_reason\\":\\"abort\\""}}]}', CHAT),
        (b'[{"index":0,"embedding":[0.1]}]', CHAT),
        (b'{"status":"completed","error":null,"output":[]}', RESPONSES),
        (b'{"type":"message","stop_reason":"end_turn"}', MESSAGES),
    ],
)
def test_a_whole_plain_answer(body: bytes, family: Family) -> None:
    assert plain(body, family)


@pytest.mark.parametrize(
    ("body", "family"),
    [
        (b'{"error":{"message":"no"}}', CHAT),
        (b'{"object":"error","message":"no"}', CHAT),
        (b'{"choices":[{"finish_reason": "abort"}]}', CHAT),
        (b'{"choices":[', CHAT),
        (b"", CHAT),
        (b"busy", CHAT),
        (b"[" * 100_000, CHAT),
        (b'{"status":"incomplete","output":[]}', RESPONSES),
        (b'{"status": "failed","error":{"code":"x"}}', RESPONSES),
    ],
)
def test_not_one_that_is_an_error_or_unfinished(body: bytes, family: Family) -> None:
    assert not plain(body, family)


@pytest.mark.parametrize(
    ("events", "family"),
    [
        ([b'data: {"choices":[]}', b": a comment", b"data: [DONE]"], CHAT),
        ([b'data: {"choices":[{"delta":{"content":"an error"}}]}', b"data: [DONE]"], CHAT),
        ([b'data: {"type":"x"}', b'data: {"type":"response.completed"}'], RESPONSES),
        ([b'event: message_stop\ndata: {"type":"message_stop"}'], MESSAGES),
    ],
)
def test_a_stream_that_came_to_its_end(events: list[bytes], family: Family) -> None:
    assert stream(*events, family=family)


@pytest.mark.parametrize(
    ("events", "family"),
    [
        ([], CHAT),
        ([b'data: {"choices":[]}'], CHAT),
        ([b'data: {"choices":[]}', b'data: {"error":{"message":"no"}}', b"data: [DONE]"], CHAT),
        ([b"data: 1", b"event: error\ndata: {}", b"data: [DONE]"], CHAT),
        ([b'data: {"choices":[{"finish_reason":"abort"}]}', b"data: [DONE]"], CHAT),
        ([b"data: [DONE]", b'data: {"choices":[]}'], CHAT),
        ([b'data: {"type":"response.incomplete"}'], RESPONSES),
        ([b'data: {"type":"response.failed"}'], RESPONSES),
    ],
)
def test_not_one_that_broke_off_or_held_an_error(events: list[bytes], family: Family) -> None:
    assert not stream(*events, family=family)


def test_not_one_whose_last_event_is_not_whole() -> None:
    body = b'data: {"choices":[]}\n\ndata: [DONE]\n'
    assert not is_good(body, CHAT, events=True)
