"""What a body says to the model, as far as routing looks at it: how much, and how it begins. Pure.

Read in the order in which an engine sees it: tools, instructions or system, then messages, prompt
or input. What is of another shape than expected counts as nothing: the engine gives its own error.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, Encoder

#: A common estimate for English text; what it decides are thresholds of tens and thousands.
CHARACTERS_PER_TOKEN = 4
#: Objects and arrays in a prompt that is looked into. Above it, its length alone counts.
_PIECES_MAX = 100_000
#: Content within content: an Anthropic tool's result is one such.
_NESTED_MAX = 3

# What no UTF-8 text contains, so that two prompts are never taken for each other.
_TOOLS, _PART, _OPAQUE, _SAID, _TURN = b"\xfb", b"\xfc", b"\xfd", b"\xfe", b"\xff"


class Prompt(Struct, frozen=True):
    """`tokens` is an estimate. `turns` are messages of user and assistant; a plain text is one.
    `batch` is how many inputs came in one request."""

    characters: int = 0
    tokens: int = 0
    turns: int = 0
    batch: int = 1


NO_PROMPT = Prompt()

Piece = str | bytes
"""Text, or a digest of what is none: an image, a tool's call."""


class Said(Struct):
    """A body's prompt. `turns` are roles with what they said; a plain text has the role ""."""

    turns: list[tuple[str, list[Piece]]]
    tools: bytes = b""
    #: Of prompts that came as tokens.
    token_ids: int = 0
    batch: int = 1


_NONE = Raw()


class _Sections(Struct):
    tools: Raw = _NONE
    instructions: Any = None
    system: Any = None
    messages: Any = None
    prompt: Raw = _NONE
    input: Raw = _NONE


_decode_sections = Decoder(_Sections).decode
_decode = Decoder().decode
_encode = Encoder().encode


def read(body: bytes) -> Said:
    """Never raises: what cannot be read counts as if it were said as it stands."""
    if len(body) > _PIECES_MAX and body.count(b"{") + body.count(b"[") > _PIECES_MAX:
        return Said([("", [body.decode("utf-8", "replace")])])
    try:
        sections = _decode_sections(body)
        said = Said([], bytes(sections.tools))
        for content in (sections.instructions, sections.system):
            if content:
                said.turns.append(("system", _pieces(content)))
        if isinstance(sections.messages, list):
            _add_items(said, sections.messages)
        for raw in (sections.prompt, sections.input):
            if data := bytes(raw):
                _add_plain(said, data)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return Said([("", [body.decode("utf-8", "replace")])])
    return said


#: Of a message or an item, beside its content: what the engine reads too.
_OTHERS = ("tool_calls", "arguments", "output", "images")


def _add_items(said: Said, items: list[Any]) -> None:
    """Messages, or texts."""
    for item in items:
        if isinstance(item, dict):
            role = item.get("role")
            pieces = _pieces(item.get("content"))
            if len(item) > 2:
                pieces += [_digest(item[key]) for key in _OTHERS if item.get(key)]
            said.turns.append((role if isinstance(role, str) else "", pieces))
        elif isinstance(item, str):
            said.turns.append(("", [item]))


def _add_plain(said: Said, data: bytes) -> None:
    """`prompt` or `input`: a text, texts, tokens, lists of tokens, or messages."""
    if data[:1] == b'"':
        said.turns.append(("", [_decode(data)]))
    if data[:1] != b"[":
        return
    first = data[1:16].lstrip()[:1]
    if first.isdigit():
        _add_tokens(said, data)
    elif first == b"[":
        said.batch = max(said.batch, data.count(b"[") - 1)
        _add_tokens(said, data)
    else:
        items = _decode(data)
        if items and isinstance(items[0], str):
            said.batch = max(said.batch, len(items))
        _add_items(said, items)


def _add_tokens(said: Said, data: bytes) -> None:
    """Counted where they stand: as numbers they would take ten times the body's memory."""
    said.token_ids += data.count(b",") + 1
    said.turns.append(("", [data.translate(None, b" \t\r\n")]))


def _pieces(content: Any, depth: int = 0) -> list[Piece]:
    if isinstance(content, str):
        return [content]
    found: list[Piece] = []
    if isinstance(content, list) and depth < _NESTED_MAX:
        for part in content:
            if isinstance(part, str):
                found.append(part)
            elif isinstance(part, dict):
                found += _of_part(part, depth)
    return found


def _of_part(part: dict[str, Any], depth: int) -> list[Piece]:
    text = part.get("text")
    if isinstance(text, str):
        return [text]
    if "content" in part:
        return _pieces(part["content"], depth + 1)
    return [_digest(part)]


def _digest(value: Any) -> bytes:
    """Stands for what is no text: long ones, like images, must not fill the prefix."""
    return _OPAQUE + blake2b(_encode(value), digest_size=16).digest()


def count(said: Said) -> tuple[int, Prompt]:
    """UTF-8 bytes of its text, and its Prompt."""
    characters = encoded = turns = 0
    plain = False
    for role, pieces in said.turns:
        turns += role in ("user", "assistant")
        plain = plain or not role
        for piece in pieces:
            if isinstance(piece, str):
                characters += len(piece)
                encoded += len(piece) if piece.isascii() else len(_utf8(piece))
    tokens = said.token_ids - (-characters // CHARACTERS_PER_TOKEN)
    return encoded, Prompt(characters, tokens, turns or int(plain), said.batch)


def prefix(said: Said, limit_bytes: int) -> bytes:
    """How it begins, so that equal beginnings give equal bytes and others others."""
    found: list[bytes] = []
    left = limit_bytes
    for piece in _written(said, limit_bytes):
        found.append(piece)
        left -= len(piece)
        if left <= 0:
            break
    return b"".join(found)[:limit_bytes]


def _written(said: Said, limit: int) -> Iterator[bytes]:
    if said.tools:
        yield _TOOLS
        yield said.tools
    for role, pieces in said.turns:
        yield _TURN + _utf8(role) + _SAID
        for at, piece in enumerate(pieces):
            if at:
                yield _PART
            # Of `limit` bytes at most as many characters are needed.
            yield piece if isinstance(piece, bytes) else _utf8(piece[:limit])


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
