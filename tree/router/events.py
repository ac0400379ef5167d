"""Server-sent events: where one ends, whether it is an error, what the last ones tell. Pure.

Only whole events pass on. A blank line ends one; lines end in LF, CRLF or CR, also mixed. What
follows the last blank line waits for the next read.
"""

import re
from typing import Any

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from router.route import Family

#: A blank line: two line ends in a row. CR LF is one of them, so CR LF alone is none.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_OVERLAP = 3


class TooLongError(Exception):
    """One event is longer than the limit."""


class Splitter:
    """Cuts what arrives into whole events and a rest. `bytes_max` bounds one event."""

    __slots__ = ("_bytes_max", "_pieces", "_tail", "size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        #: Bytes that wait for their blank line.
        self.size = 0
        #: The last bytes of what waits: a blank line may begin there.
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """All whole events that are there now; empty while there is none. Raises TooLongError."""
        if not self.size and data[-2:] == b"\n\n":
            return data
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        tail = self._tail
        window = tail + data if tail else data
        end = last_end(window)
        if not end:
            self._pieces.append(data)
            self.size += len(data)
            self._tail = window[-_OVERLAP:]
            if self.size > self._bytes_max:
                raise TooLongError
            return b""
        cut = end - len(tail)
        if cut <= 0:
            # A lone CR at the end of the last read turned out to end a blank line by itself.
            whole = b"".join(self._pieces)
            rest = whole[len(whole) + cut :] + data
            whole = whole[: len(whole) + cut]
        elif self._pieces:
            self._pieces.append(data[:cut])
            whole = b"".join(self._pieces)
            rest = data[cut:]
        else:
            whole, rest = data[:cut], data[cut:]
        self._pieces = [rest] if rest else []
        self.size = len(rest)
        self._tail = rest[-_OVERLAP:]
        if self.size > self._bytes_max:
            raise TooLongError
        return whole

    def rest(self) -> bytes:
        """What waits and will never be whole: the stream has ended."""
        rest = b"".join(self._pieces)
        self._pieces, self.size, self._tail = [], 0, b""
        return rest


def last_end(data: bytes) -> int:
    """Where the last blank line of `data` ends; 0 if there is none.

    A CR at the very end may be half of a CRLF: it is left for the next read to settle.
    """
    end = data.rfind(b"\n\n") + 2
    if b"\r" not in data:
        return end if end > 1 else 0
    end = max(end, data.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0)
    if end <= 1:
        end = 0
    # The rare rest: bare CRs and mixtures, searched after the last plain one only.
    for found in _BLANK.finditer(data, max(end - 1, 0)):
        if found.end() < len(data) or not found.group().endswith(b"\r"):
            end = max(end, found.end())
    return end


def each(whole: bytes) -> list[bytes]:
    """Whole events one by one, each with its blank line. Joined they are `whole`."""
    if b"\r" not in whole:
        return [piece + b"\n\n" for piece in whole.split(b"\n\n")[:-1]]
    found, at = [], 0
    for end in _BLANK.finditer(whole):
        found.append(whole[at : end.end()])
        at = end.end()
    return found


def count(events: bytes) -> int:
    """How many blank lines, at the usual line ends. For statistics."""
    found = events.count(b"\n\n")
    return found if found else events.count(b"\r\n\r\n") or events.count(b"\r\r")


_LINE = re.compile(rb"\r\n|\n|\r")


def first_data(events: bytes) -> tuple[bytes, bytes] | None:
    """Name and data of the first event that has data; None if all are comments or empty."""
    name, data = b"", None
    for line in _LINE.split(events):
        if not line:
            if data is not None:
                return name, data
            name = b""
        elif line.startswith(b"data"):
            if line[4:5] == b":":
                value = line[5:].removeprefix(b" ")
            elif len(line) == 4:
                value = b""
            else:
                continue
            data = value if data is None else data + b"\n" + value
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return None


class _Error(Struct):
    error: Any = None
    object: Any = None
    type: Any = None


_decode_error = Decoder(_Error).decode


def is_error(name: bytes, data: bytes) -> bool:
    """Whether an event says that nothing will come: by its name, or in one of the known shapes."""
    if name == b"error":
        return True
    # Only an object that has one of these words can be one; the scan is cheaper than to decode.
    if b'"error"' not in data:
        return False
    try:
        found = _decode_error(data)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(found.error) or found.object == "error" or found.type == "error"


_MARKERS: dict[Family, tuple[bytes, ...]] = {
    Family.CHAT: (b"data: [DONE]", b"data:[DONE]"),
    Family.RESPONSES: (b'"response.completed"', b'"response.incomplete"', b'"response.failed"'),
    Family.MESSAGES: (b'"message_stop"',),
}


def has_marker(family: Family, events: bytes) -> bool:
    """Whether the route's terminal marker stands in the last events."""
    return any(marker in events for marker in _MARKERS[family])


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None


class _Response(Struct):
    usage: _Usage | None = None


class _Counted(Struct):
    """Where the four dialects (chat, responses, messages, Ollama) tell their tokens."""

    usage: _Usage | None = None
    response: _Response | None = None
    message: _Response | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None


_decode_usage = Decoder(_Counted).decode

#: Tokens in, out, and of those in what the engine had in its cache.
Tokens = tuple[int | None, int | None, int | None]
UNKNOWN: Tokens = (None, None, None)


def usage_of_answer(body: bytes) -> Tokens:
    """Tokens of a plain JSON answer."""
    if b'"usage"' not in body and b'eval_count"' not in body:
        return UNKNOWN
    try:
        found = _decode_usage(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return UNKNOWN
    usage = found.usage
    if usage is None:
        nested = found.response or found.message
        usage = nested.usage if nested is not None else None
        if usage is None:
            return found.prompt_eval_count, found.eval_count, None
    tokens_in, tokens_out = usage.prompt_tokens, usage.completion_tokens
    return (
        usage.input_tokens if tokens_in is None else tokens_in,
        usage.output_tokens if tokens_out is None else tokens_out,
        _cached(usage),
    )


def _cached(usage: _Usage) -> int | None:
    details = usage.prompt_tokens_details or usage.input_tokens_details
    return usage.cache_read_input_tokens if details is None else details.cached_tokens


def usage_of_events(first: bytes, tail: bytes) -> Tokens:
    """Tokens as last told. Anthropic tells what came in first, so `first` counts too.

    `tail` may begin within an event. Both are bounded by the caller.
    """
    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None
    for piece in (tail, first):
        if b'"usage"' not in piece and b'eval_count"' not in piece:
            continue
        for line in reversed(_LINE.split(piece)):
            if line.startswith(b"data:") and b'"usage"' in line:
                found_in, found_out, found_cached = usage_of_answer(line[5:])
                cached = found_cached if cached is None else cached
                tokens_in = found_in if tokens_in is None else tokens_in
                tokens_out = found_out if tokens_out is None else tokens_out
                if tokens_in is not None and tokens_out is not None:
                    return tokens_in, tokens_out, cached
    return tokens_in, tokens_out, cached
