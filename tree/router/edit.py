"""Where a request names its model, and another name in its place. Pure: every other byte stays.

In JSON that is the value of the top-level key `model`, with its quotes. Most bodies spell
`"model"` once, and then that is the place; the others, where a nested object or a text spells it
too or an escape may, are read key by key.
"""

import json
import re
from collections.abc import Callable
from urllib.parse import quote, unquote_plus

from msgspec import Struct
from msgspec.json import Encoder

MODEL_KEY = b'"model"'
#: m, o, d, e and l are all 0x6_: no other escape can spell a key that reads `model`.
ESCAPED_LETTER = b"\\u006"
#: No request has so many top-level keys, and reading each costs a microsecond.
KEYS_MAX = 10_000

_encode = Encoder().encode


class Edit:
    """Put `text` in the place of bytes `start` to `stop` of the body; for an upgrade, which has
    none, of the target's query."""

    __slots__ = ("start", "stop", "text")

    def __init__(self, start: int, stop: int, text: bytes) -> None:
        self.start = start
        self.stop = stop
        self.text = text


class Place(Struct, frozen=True):
    """Bytes `start` to `stop` are a model's name, written by `write`."""

    start: int
    stop: int
    write: Callable[[str], bytes]

    def edit(self, name: str) -> Edit:
        return Edit(self.start, self.stop, self.write(name))


def as_json(name: str) -> bytes:
    return _encode(name)


def as_form(name: str) -> bytes:
    return name.encode("utf-8", "replace")


def as_query(name: str) -> bytes:
    return quote(name, safe="/:@", errors="replace").encode()


_NAMED = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")')


def in_json(body: bytes, *, named: bool) -> Place | None:
    """`named`: the body is known to name one model, a text, at its top level."""
    if named and body.count(MODEL_KEY) == 1 and body.find(ESCAPED_LETTER) < 0:
        # Spelt once, so this is the key. Quotes inside of texts are escaped: none can look so.
        found = _NAMED.match(body, body.find(MODEL_KEY))
        if found is not None:
            return Place(found.start(1), found.end(1), as_json)
    try:
        span = _by_key(body.decode("latin-1"))
    except (ValueError, IndexError, RecursionError):
        return None
    return None if span is None else Place(*span, as_json)


# Numbers stay texts: Python refuses to read those of many digits.
_value = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_skip = re.compile(r"[ \t\r\n]*").match


def _by_key(text: str) -> tuple[int, int] | None:
    """`text` has a character for each byte: what is not ASCII stands in strings only.

    Raises ValueError, IndexError or RecursionError for what is no JSON object.
    """
    at = _past(text, 0)
    if text[at] != "{":
        return None
    for _ in range(KEYS_MAX):
        at = _past(text, at + 1)
        if text[at] != '"':
            return None
        key, at = _value(text, at)
        at = _past(text, at)
        if text[at] != ":":
            return None
        start = _past(text, at + 1)
        _, at = _value(text, start)
        if key == "model":
            return start, at
        at = _past(text, at)
        if text[at] != ",":
            return None
    return None


def _past(text: str, at: int) -> int:
    """Where the blanks at `at` end."""
    found = _skip(text, at)
    return at if found is None else found.end()


def in_query(query: str) -> Place | None:
    """Of a target's query, without its `?`."""
    at = 0
    for pair in query.split("&"):
        key, is_pair, value = pair.partition("=")
        if is_pair and value and unquote_plus(key) == "model":
            start = at + len(key) + 1
            return Place(start, start + len(value), as_query)
        at += len(pair) + 1
    return None
