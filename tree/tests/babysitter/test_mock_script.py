"""An answer with its faults, on bytes alone."""

from itertools import islice

import msgspec
import pytest

from babysitter.mock.answers import Plain, Stream
from babysitter.mock.faults import NO_FAULTS, Faults
from babysitter.mock.script import Action, End, Framing, Wait, plain_bytes, refusal, script

HERE = Framing(b"mock-a")
PLAIN = Plain(200, b'{"ok":true}')
EVENTS = [f"data: {n}\n\n".encode() for n in range(5)]


def stream(pace_s: float = 0.0) -> Stream:
    return Stream(iter(EVENTS), b"data: [DONE]\n\n", pace_s)


def play(answer: Plain | Stream, faults: Faults, framing: Framing = HERE) -> list[Action]:
    return list(script(answer, faults, framing))


def sent(actions: list[Action]) -> bytes:
    return b"".join(action for action in actions if isinstance(action, bytes))


def chunks(raw: bytes) -> list[bytes]:
    """The chunks of a chunked body that is whole; the last is empty."""
    body = raw.partition(b"\r\n\r\n")[2]
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        found.append(body[: int(size, 16)])
        assert body[int(size, 16) :][:2] == b"\r\n"
        body = body[int(size, 16) + 2 :]
    return found


def test_a_plain_answer_names_the_engine_and_its_length() -> None:
    raw = plain_bytes(PLAIN, HERE)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-mock-name: mock-a" in head
    assert b"content-length: 11" in head
    assert body == PLAIN.body


def test_without_faults_a_script_is_the_plain_answer() -> None:
    assert play(PLAIN, NO_FAULTS) == [plain_bytes(PLAIN, HERE)]


def test_a_head_request_gets_the_length_and_no_body() -> None:
    framing = Framing(b"a", bodiless=True)
    assert plain_bytes(PLAIN, framing).endswith(b"content-length: 11\r\n\r\n")
    assert play(PLAIN, Faults(delay_ms=1), framing)[1:] == [plain_bytes(PLAIN, framing)]


def test_a_stream_is_one_chunk_an_event_and_ends_with_done() -> None:
    actions = play(stream(), NO_FAULTS)
    assert chunks(sent(actions)) == [*EVENTS, b"data: [DONE]\n\n", b""]
    assert End.CLOSE not in actions


def test_the_pace_stands_between_events() -> None:
    actions = play(stream(pace_s=0.5), NO_FAULTS)
    assert actions.count(Wait(0.5)) == len(EVENTS) - 1
    assert isinstance(actions[1], bytes)


def test_http_1_0_gets_no_chunks_and_a_close() -> None:
    actions = play(stream(), NO_FAULTS, Framing(b"a", keep_alive=False, http10=True))
    assert sent(actions).endswith(b"".join(EVENTS) + b"data: [DONE]\n\n")
    assert b"chunked" not in sent(actions)
    assert actions[-1] is End.CLOSE


def test_a_delay_comes_before_the_first_byte() -> None:
    assert play(PLAIN, Faults(delay_ms=250))[0] == Wait(0.25)


@pytest.mark.parametrize("fault", ["hang", "reset", "exit"])
@pytest.mark.parametrize("answer", ["plain", "stream"])
def test_a_fault_before_sends_nothing(fault: str, answer: str) -> None:
    given = PLAIN if answer == "plain" else stream()
    assert play(given, Faults(**{fault: "before"})) == [End(fault)]


@pytest.mark.parametrize("fault", ["hang", "reset", "exit"])
@pytest.mark.parametrize("answer", ["plain", "stream"])
def test_a_fault_after_the_head_sends_the_head(fault: str, answer: str) -> None:
    given = PLAIN if answer == "plain" else stream()
    actions = play(given, Faults(**{fault: "head"}))
    assert sent(actions).endswith(b"\r\n\r\n")
    assert actions[-1] is End(fault)


@pytest.mark.parametrize("fault", ["hang", "reset", "exit"])
def test_a_fault_in_the_middle_sends_some_events(fault: str) -> None:
    actions = play(stream(), Faults(**{fault: "middle"}, after=3))
    assert chunks(sent(actions)) == EVENTS[:3]
    assert actions[-1] is End(fault)


def test_a_fault_in_the_middle_of_a_plain_answer_sends_half_of_it() -> None:
    actions = play(PLAIN, Faults(hang="middle"))
    assert sent(actions).endswith(b'\r\n\r\n{"ok"')
    assert actions[-1] is End.HANG


def test_a_cut_between_events_ends_with_a_whole_chunk_and_no_last_one() -> None:
    actions = play(stream(), Faults(cut="between"))
    assert chunks(sent(actions)) == EVENTS[:2]
    assert actions[-1] is End.CLOSE


def test_a_cut_inside_an_event_leaves_a_whole_chunk_with_half_an_event() -> None:
    actions = play(stream(), Faults(cut="event"))
    assert chunks(sent(actions)) == [*EVENTS[:2], EVENTS[2][: len(EVENTS[2]) // 2]]
    assert actions[-1] is End.CLOSE


def test_a_cut_inside_a_chunk_promises_more_than_it_sends() -> None:
    actions = play(stream(), Faults(cut="chunk"))
    whole = b"%x\r\n%b\r\n" % (len(EVENTS[2]), EVENTS[2])
    tail = actions[-2]
    assert isinstance(tail, bytes)
    assert whole.startswith(tail)
    assert 3 <= len(tail) < len(whole) - 2
    assert actions[-1] is End.CLOSE


def test_a_cut_inside_the_head() -> None:
    for given in (PLAIN, stream()):
        actions = play(given, Faults(cut="head"))
        assert b"\r\n\r\n" not in sent(actions)
        assert sent(actions).startswith(b"HTTP/1.1 200")
        assert actions[-1] is End.CLOSE


def test_a_cut_before_is_a_close_without_a_byte() -> None:
    assert play(stream(), Faults(cut="before")) == [End.CLOSE]


def test_an_error_event_is_the_last_before_done() -> None:
    found = chunks(sent(play(stream(), Faults(error_event=0))))
    assert b'"error"' in found[0]
    assert found[1:] == [b"data: [DONE]\n\n", b""]
    later = chunks(sent(play(stream(), Faults(error_event=2))))
    assert later[:2] == EVENTS[:2]
    assert b'"error"' in later[2]


def test_an_oversize_event_has_exactly_the_size_asked_for() -> None:
    found = chunks(sent(play(stream(), Faults(oversize_event=70_000, after=1))))
    assert len(found[1]) == 70_000
    msgspec.json.decode(found[1].removeprefix(b"data: "))
    assert found[2] == EVENTS[1]


def test_no_done_ends_the_chunks_but_not_the_story() -> None:
    assert chunks(sent(play(stream(), Faults(no_done=True)))) == [*EVENTS, b""]
    closing = [*EVENTS, b'event: message_stop\ndata: {"type":"message_stop"}\n\n']
    other = Stream(iter(closing), b"", 0.0)
    assert chunks(sent(play(other, Faults(no_done=True)))) == [*EVENTS, b""]


def test_comments_stand_before_every_event() -> None:
    found = chunks(sent(play(stream(), Faults(comments=True))))
    assert found[0].startswith(b":")
    assert found[1] == EVENTS[0]


def test_a_garbage_head_is_not_http() -> None:
    actions = play(PLAIN, Faults(garbage_head=True))
    assert not sent(actions).startswith(b"HTTP")
    assert actions[-1] is End.CLOSE


def test_an_endless_head_does_not_end() -> None:
    first = list(islice(script(PLAIN, Faults(endless_head=True), HERE), 2000))
    assert len(sent(first)) > 1_900_000
    assert b"\r\n\r\n" not in sent(first)


def test_two_answers_come_in_one_write() -> None:
    assert play(PLAIN, Faults(two_answers=True)) == [2 * plain_bytes(PLAIN, HERE)]
    last = play(stream(), Faults(two_answers=True))[-1]
    assert isinstance(last, bytes)
    assert last.startswith(b"0\r\n\r\nHTTP/1.1 200 OK")


def test_early_answers_come_before_the_real_one() -> None:
    raw = sent(play(PLAIN, Faults(early="100+103")))
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n")
    assert b"\r\n\r\nHTTP/1.1 103 Early Hints\r\n" in raw
    assert raw.endswith(plain_bytes(PLAIN, HERE))


@pytest.mark.parametrize("answer", ["plain", "stream"])
def test_a_close_delimited_answer_has_no_length(answer: str) -> None:
    actions = play(PLAIN if answer == "plain" else stream(), Faults(close_delimited=True))
    raw = sent(actions).lower()
    assert b"content-length" not in raw
    assert b"chunked" not in raw
    assert b"connection: close" in raw
    assert actions[-1] is End.CLOSE


def test_a_silent_close_promises_to_stay() -> None:
    for given in (PLAIN, stream()):
        actions = play(given, Faults(silent_close=True))
        assert b"connection: close" not in sent(actions)
        assert actions[-1] is End.CLOSE


def test_pieces_join_to_the_same_bytes() -> None:
    whole = sent(play(stream(), NO_FAULTS))
    pieces = play(stream(), Faults(split_bytes=3))
    assert sent(pieces) == whole
    assert max(len(piece) for piece in pieces if isinstance(piece, bytes)) == 3


@pytest.mark.parametrize("shape", ["openai", "object", "detail", "html", "empty"])
def test_errors_come_in_the_shapes_that_engines_use(shape: str) -> None:
    answer = refusal(Faults(status=503, retry_after=2, error_shape=shape))
    assert answer.status == 503
    assert answer.headers == ((b"retry-after", b"2"),)
    match shape:
        case "html":
            assert answer.content_type == b"text/html"
        case "empty":
            assert answer.body == b""
        case "openai":
            assert msgspec.json.decode(answer.body)["error"]["type"] == "server_error"
        case _:
            assert "503" in str(msgspec.json.decode(answer.body))
