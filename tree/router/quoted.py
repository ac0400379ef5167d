"""What an upstream's error answer says, where it can only be told as an event. Pure.

Engines answer errors in many shapes: OpenAI's and Anthropic's `error` table, an `error` that is
text, vLLM's flat one, FastAPI's `detail`, plain text, HTML. What none of them says is left open.
"""

from typing import Any

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder

from router.errors import Problem

#: Of a text of its own, so much is passed on.
TEXT_MAX = 2_000


class _Said(Struct):
    error: Any = None
    message: Any = None
    detail: Any = None
    type: Any = None
    param: Any = None
    code: Any = None


_decode = Decoder(_Said).decode
_encode = Encoder().encode


def problem(status: int, body: bytes, service: str) -> Problem:
    """What `service` answered with this status, above 399, and this body. Never fails."""
    said = _read(body)
    if isinstance(said.error, dict):
        said = _table(said.error)
    message = _text(said.message) or _text(said.error) or _text(said.detail)
    kind = _word(said.type)
    return Problem(
        status,
        (message or f"'{service}' answered {status}")[:TEXT_MAX],
        code=_word(said.code) or str(status),
        type=_type(status) if kind is None or kind == "error" else kind,
        param=_word(said.param),
    )


def _read(body: bytes) -> _Said:
    try:
        return _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace").strip()
        return _Said(message=text if text and not text.startswith(("<", "{", "[")) else None)


def _table(error: dict[str, Any]) -> _Said:
    return _Said(**{key: error.get(key) for key in ("message", "type", "param", "code")})


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if value is None else _encode(value).decode()


def _word(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if type(value) is int else None


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_exceeded"
    return "invalid_request_error" if status < 500 else "server_error"
