"""One sequence of bytes, read twice: by the relay's own front door, and by h11.

    ours(data, cuts)   the requests that the relay would act on, and how it ended
    theirs(data)       the requests that h11 reads there
    compare(…)         what disagrees, as a sentence; None where nothing does

The relay may refuse more than h11: that is what it is for. It must never take what h11 refuses, nor
see another method, target, header or body, nor wait where h11 has a whole request.

Where the relay takes what h11 refuses, on purpose:
- empty lines before a request, also of a lone CR or LF (RFC 9112, 2.2): they belong to no message
  and nothing of them goes on;
- chunk sizes of more than 20 digits: the value counts, and 64 bits bound it.
"""

import random
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import h11
from msgspec import Struct

from router.brain import Brain
from router.downstream import Client
from router.head import Head
from router.inbound import Incoming
from router.server import Relay
from tests.router.relay_kit import config, splits
from tests.router.wire import Wire

Headers = tuple[tuple[bytes, bytes], ...]


class Request(Struct, frozen=True):
    method: bytes
    target: bytes
    headers: Headers
    body: bytes


class Ours(Struct, frozen=True):
    requests: tuple[Request, ...]
    #: The same, as an upstream would get them.
    onward: tuple[bytes, ...]
    #: The relay's own answers, but 100: that depends on what came when.
    said: tuple[bytes, ...]
    #: What it refused with.
    why: str
    #: The connection takes no more.
    closed: bool


class _Reader(Client):
    """A client's connection whose requests are noted, and at once answered."""

    def __init__(self, state: Relay) -> None:
        super().__init__(state)
        self.requests: list[Request] = []
        self.onward: list[bytes] = []

    def _start(self, incoming: Incoming) -> None:
        head, body = incoming.head, incoming.body.whole()
        incoming.body.release()
        headers = tuple((name.lower(), _value(name, value)) for name, value in incoming.headers)
        self.requests.append(Request(head.method.encode(), head.target, headers, body))
        self.onward.append(_onward(head, body))
        self.closing = head.wants_close
        self.answered(0.0)


def _onward(head: Head, body: bytes) -> bytes:
    """As `asking` writes it."""
    start = b"%b %b HTTP/1.1\r\nHost: up\r\n" % (head.method.encode("latin-1"), head.target)
    tail = b"X-Forwarded-Host: %b\r\ncontent-length: %d\r\n\r\n" % (head.host, len(body))
    return start + head.lines + tail + body


def _value(name: bytes, value: bytes) -> bytes:
    value = value.strip(b" \t")
    name = name.lower()
    if name == b"transfer-encoding":
        return value.lower()
    return value.lstrip(b"0") if name == b"content-length" else value


class Door:
    """A relay whose clients are made by hand. Inside a running loop."""

    def __init__(self) -> None:
        settings = config()
        self.relay = Relay(settings, Brain(settings, random.random), control=None, chance=0.5)

    def read(self, data: bytes, cuts: Sequence[int] = ()) -> Ours:
        wire = Wire()
        client = _Reader(self.relay)
        client.connection_made(wire)  # type: ignore[arg-type]
        for piece in splits(data, list(cuts)):
            if client.closed:
                break
            client.data_received(piece)
        why = "" if client._refusal is None else client._refusal.message
        client.connection_lost(None)
        bodies = self.relay.bodies
        assert (bodies.memory, bodies.disk) == (0, 0), "a body was not given back"
        assert not self.relay.clients, "a connection was not forgotten"
        said = tuple(re.findall(rb"^HTTP/1\.1 (?!100)\d+", wire.out, re.MULTILINE))
        return Ours(tuple(client.requests), tuple(client.onward), said, why, wire.closed)


class Theirs:
    """h11's view, one request at a time."""

    def __init__(self, data: bytes) -> None:
        self._rest = data
        #: Why there is no further one.
        self.why = ""

    def next(self) -> Request | None:
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
        conn.receive_data(self._rest.lstrip(b"\r\n"))
        start: h11.Request | None = None
        body = b""
        try:
            while True:
                event = conn.next_event()
                if isinstance(event, h11.Request):
                    start = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    self.why = "incomplete"
                    return None
        except h11.RemoteProtocolError as error:
            self.why = str(error)
            return None
        assert start is not None
        if start.http_version not in (b"1.0", b"1.1"):
            self.why = "another version"
            return None
        self._rest = conn.trailing_data[0]
        headers = tuple((name, _value(name, value)) for name, value in start.headers)
        return Request(start.method, start.target, headers, body)


_LONG_SIZE = re.compile(rb"\r\n0{5,}[0-9a-fA-F]+[\r;]")


def compare(data: bytes, ours: Ours, theirs: Theirs) -> str | None:
    for number, mine in enumerate(ours.requests):
        other = theirs.next()
        if other is None:
            if _LONG_SIZE.search(data) is not None:
                return None
            return f"request {number} is taken here, but not by h11: {theirs.why}"
        if mine.method != other.method:
            return f"the method of request {number}: {mine.method!r}, not {other.method!r}"
        if mine.target != _origin(other.target):
            return f"the target of request {number}: {mine.target!r}, not {other.target!r}"
        if mine.headers != other.headers:
            return f"the headers of request {number}: {mine.headers!r}, not {other.headers!r}"
        if mine.body != other.body:
            return f"the body of request {number}: {mine.body!r}, not {other.body!r}"
    if not ours.closed and (more := theirs.next()) is not None:
        return f"waits where h11 has a whole request: {more.method!r} {more.target!r}"
    for mine, sent in zip(ours.requests, ours.onward, strict=True):
        again = Theirs(sent)
        told = again.next()
        if told is None or again._rest:
            return f"would send on what h11 does not take for one request: {sent!r}"
        if (told.method, told.target, told.body) != (mine.method, mine.target, mine.body):
            return f"would send on another request than it read: {sent!r}"
    return None


def _origin(target: bytes) -> bytes:
    if target.startswith(b"/") or target == b"*":
        return target
    parts = urlsplit(target)
    return (parts.path or b"/") + (b"?" + parts.query if b"?" in target else b"")
