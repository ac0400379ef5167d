"""Which model a body names: at once where that is quick, else off the loop."""

import asyncio
from collections.abc import Callable

from router import envelope
from router.body import Bodies, Body
from router.config import Limits
from router.envelope import EMPTY, Envelope
from router.errors import Problem, RequestError, invalid
from router.head import Head

#: Above this a body is parsed off the loop: msgspec reads about 1 GB/s, so this is a millisecond.
INLINE_BYTES_MAX = 1 << 20
_PIECE_BYTES = 1 << 20


def read_model(
    head: Head,
    body: Body,
    bodies: Bodies,
    limits: Limits,
    done: Callable[[Envelope | Problem], None],
) -> Envelope | None:
    """What a body, whole, says about where it should go. None: `done` will be told.

    Raises RequestError: 415 for a compressed body, 413 for JSON over json_bytes_max, 400 from the
    reading itself. Other large bodies than JSON and forms are routed unread.
    """
    kind = head.content_type
    boundary = None
    if kind[:10].lower() == "multipart/":
        boundary = envelope.multipart_boundary(kind)
    is_json = boundary is None and _may_be_json(kind)
    if not is_json and boundary is None:
        return EMPTY
    if head.encoded:
        raise RequestError(_ENCODED)
    if is_json and body.size > limits.json_bytes_max:
        if "json" in kind.lower():
            raise RequestError(_json_too_large(limits.json_bytes_max))
        return EMPTY
    if body.on_disk or body.size > INLINE_BYTES_MAX:
        _read_off_loop(body, bodies, boundary, done)
        return None
    if boundary is not None:
        return envelope.read_form(body.whole(), boundary)
    return envelope.read_json(body.whole())


def _read_off_loop(
    body: Body,
    bodies: Bodies,
    boundary: bytes | None,
    done: Callable[[Envelope | Problem], None],
) -> None:
    def read() -> Envelope:
        if boundary is None:
            return envelope.read_json(body.whole(), measure=True)
        reader = envelope.FormReader(boundary)
        if not body.on_disk:
            reader.feed(body.whole())
            return reader.finish()
        for offset in range(0, body.size, _PIECE_BYTES):
            reader.feed(body.read(offset, min(_PIECE_BYTES, body.size - offset)))
        return reader.finish()

    def was_read(found: "asyncio.Future[Envelope]") -> None:
        body.let_go()
        error = None if found.cancelled() else found.exception()
        if isinstance(error, RequestError):
            done(error.problem)
        elif error is not None or found.cancelled():
            done(Problem(500, "the request's body could not be read", "internal"))
        else:
            done(found.result())

    body.hold()
    bodies.run(read).add_done_callback(was_read)


_ENCODED = invalid("the body is compressed, so its model cannot be read", status=415)


def _json_too_large(limit: int) -> Problem:
    return invalid(f"the JSON body is larger than json_bytes_max ({limit} bytes)", status=413)


def _may_be_json(kind: str) -> bool:
    """JSON is often sent under curl's default type, or none. What says it is binary is believed."""
    lower = kind.lower()
    return not lower.startswith(("audio/", "image/", "video/", "application/octet-stream"))
