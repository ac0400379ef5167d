"""An answer and its faults, as the list of things to do on the connection. Pure.

    bytes   write them           Wait    do nothing for so long      Hang   do nothing for ever
    Reset   end with an RST      Close   end with a FIN              Exit   end the process

Hang, Reset, Close and Exit are last. A script that ends without them leaves the connection as it
said in its head.
"""

from collections.abc import Iterator
from enum import Enum
from http import HTTPStatus
from itertools import count

from msgspec import Struct
from msgspec.json import encode

from babysitter.mock import shapes
from babysitter.mock.answers import Answer, Plain, Stream
from babysitter.mock.faults import Faults, Where


class Wait(Struct, frozen=True):
    seconds: float


class End(Enum):
    HANG = "hang"
    RESET = "reset"
    CLOSE = "close"
    EXIT = "exit"


Action = bytes | Wait | End

#: Between the pieces of `split_bytes`, so that each arrives by itself.
SPLIT_PAUSE_S = 0.001
_ENDLESS_LINE = b"x-endless: " + b"a" * 1000 + b"\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Framing(Struct, frozen=True):
    """What the request lets the answer look like. `bodiless`: HEAD, or a 204 or 304."""

    name: bytes
    keep_alive: bool = True
    http10: bool = False
    bodiless: bool = False


def plain_bytes(answer: Plain, framing: Framing) -> bytes:
    """A whole plain answer without faults."""
    head = _head(answer, framing, b"content-length: %d\r\n" % len(answer.body))
    return head if framing.bodiless else head + answer.body


def script(answer: Answer, faults: Faults, framing: Framing) -> Iterator[Action]:
    actions = _played(answer, faults, framing)
    return _split(actions, faults.split_bytes) if faults.split_bytes else actions


def refusal(faults: Faults) -> Plain:
    """The answer that `status` asks for."""
    status = faults.status or 500
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if faults.retry_after is not None:
        headers = ((b"retry-after", b"%g" % faults.retry_after),)
    kind = b"text/html" if faults.error_shape == "html" else b"application/json"
    body = shapes.error(status, f"the mock engine was told to answer {status}", faults.error_shape)
    return Plain(status, body, kind, headers)


def _played(answer: Answer, faults: Faults, framing: Framing) -> Iterator[Action]:
    if faults.delay_ms:
        yield Wait(faults.delay_ms / 1000)
    if (end := _end_at("before", faults)) or faults.cut == "before":
        yield end or End.CLOSE
        return
    for status in filter(None, faults.early.split("+")):
        yield _status_line(int(status)) + b"x-early: 1\r\n\r\n"
    if faults.garbage_head:
        yield b"\x16\x03\x01 this is not HTTP\r\n\r\n"
        yield End.CLOSE
    elif faults.endless_head:
        yield b"HTTP/1.1 200 OK\r\n"
        for _ in count():
            yield _ENDLESS_LINE
    elif isinstance(answer, Plain):
        yield from _plain(answer, faults, framing)
    else:
        yield from _stream(answer, faults, framing)


def _plain(answer: Plain, faults: Faults, framing: Framing) -> Iterator[Action]:
    body = b"" if framing.bodiless else answer.body
    close = faults.close_delimited
    length = b"" if close else b"content-length: %d\r\n" % len(answer.body)
    head = _head(answer, framing, length, close=close)
    half = len(body) // 2
    if faults.cut == "head":
        yield head[: len(head) // 2]
        yield End.CLOSE
    elif end := _end_at("head", faults):
        yield head
        yield end
    elif (end := _end_at("middle", faults)) or faults.cut:
        yield head + body[:half]
        yield end or End.CLOSE
    else:
        yield (head + body) * (2 if faults.two_answers else 1)
        if close or faults.silent_close:
            yield End.CLOSE


def _stream(answer: Stream, faults: Faults, framing: Framing) -> Iterator[Action]:
    bare = faults.close_delimited or framing.http10  # HTTP/1.0 knows no chunks
    how = b"" if bare else b"transfer-encoding: chunked\r\n"
    shown = Plain(200, b"", b"text/event-stream; charset=utf-8", ((b"cache-control", b"no-cache"),))
    head = _head(shown, framing, how, close=bare)
    if faults.cut == "head":
        yield head[: len(head) // 2]
        yield End.CLOSE
        return
    yield head
    if framing.bodiless:
        return
    if end := _end_at("head", faults):
        yield end
        return

    def framed(data: bytes) -> bytes:
        return data if bare else b"%x\r\n%b\r\n" % (len(data), data)

    last = b""
    for action in _events(answer, faults):
        if isinstance(action, _Torn):
            half = action.event[: len(action.event) // 2]
            if faults.cut == "chunk" and not bare:
                yield framed(action.event)[: len(half)]
            else:
                yield framed(half)
            yield End.CLOSE
            return
        if isinstance(action, bytes):
            yield framed(action)
        else:
            yield action
            if isinstance(action, End):
                return
    last = b"" if bare else b"0\r\n\r\n"
    if faults.two_answers:
        last += plain_bytes(Plain(200, b'{"mock":"a second answer"}'), framing)
    if last:
        yield last
    if bare or faults.silent_close:
        yield End.CLOSE


class _Torn(Struct, frozen=True):
    """An event of which only half is sent."""

    event: bytes


def _events(answer: Stream, faults: Faults) -> Iterator[Action | _Torn]:
    pause = Wait(answer.pace_s)
    middle = _end_at("middle", faults)
    for index, event in enumerate(answer.events):
        if index and answer.pace_s:
            yield pause
        if index == faults.error_event:
            yield _error_event()
            break
        if index == faults.after:
            if middle:
                yield middle
                return
            if faults.cut in ("between", "middle"):
                yield End.CLOSE
                return
            if faults.cut in ("event", "chunk"):
                yield _Torn(event)
                return
            if faults.oversize_event:
                yield _oversize(faults.oversize_event)
        if faults.comments:
            yield b": the engine is alive\n\n"
        if faults.no_done and _is_closing(event):
            return
        yield event
    if answer.closing and not faults.no_done:
        yield answer.closing


def _is_closing(event: bytes) -> bool:
    return event.startswith((b"event: response.completed\n", b"event: message_stop\n"))


def _error_event() -> bytes:
    inner = {"message": "the mock engine failed", "type": "server_error", "code": 500}
    return b"data: " + encode({"error": inner}) + b"\n\n"


def _oversize(size: int) -> bytes:
    head, tail = b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}\n\n'
    return head + b"a" * max(0, size - len(head) - len(tail)) + tail


def _end_at(where: Where, faults: Faults) -> End | None:
    if faults.hang == where:
        return End.HANG
    if faults.reset == where:
        return End.RESET
    if faults.exit == where:
        return End.EXIT
    return None


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Unknown"))


def _head(answer: Plain, framing: Framing, length: bytes, close: bool = False) -> bytes:
    lines = [
        _status_line(answer.status),
        b"server: creche-mock\r\nx-mock-name: ",
        framing.name,
        b"\r\ncontent-type: ",
        answer.content_type,
        b"\r\n",
        length,
    ]
    lines += [b"%b: %b\r\n" % header for header in answer.headers]
    if close or not framing.keep_alive:
        lines.append(b"connection: close\r\n")
    elif framing.http10:
        lines.append(b"connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def _split(actions: Iterator[Action], size: int) -> Iterator[Action]:
    for action in actions:
        if isinstance(action, bytes):
            for start in range(0, len(action), size):
                yield action[start : start + size]
                yield Wait(SPLIT_PAUSE_S)
        else:
            yield action
