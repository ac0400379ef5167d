"""How an answer's end is told: what came from upstream, what goes to this client. Pure.

    upstream says          HTTP/1.1 client        HTTP/1.0 client
    HEAD, 1xx, 204, 304    no body                no body
    Content-Length         Content-Length         Content-Length
    chunked                chunked, our own       until close
    nothing: until close   chunked, our own       until close
    event stream, any      chunked, our own       until close

Event streams are never sent under a length, so that an error event can always follow.
"""

from enum import IntEnum

from router.head import AnswerHead


class Framing(IntEnum):
    NO_BODY = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3


LAST_CHUNK = b"0\r\n\r\n"
CRLF = b"\r\n"


def has_body(method: str, status: int) -> bool:
    return method != "HEAD" and status != 204 and status != 304 and status >= 200


def of_upstream(method: str, head: AnswerHead) -> Framing:
    """How the upstream tells its end."""
    if not has_body(method, head.status):
        return Framing.NO_BODY
    if head.chunked:
        return Framing.CHUNKED
    if head.content_length is not None:
        return Framing.LENGTH
    return Framing.UNTIL_CLOSE


def of_client(upstream: Framing, *, http10: bool, events: bool) -> Framing:
    """How this client is told."""
    if upstream is Framing.NO_BODY:
        return upstream
    if upstream is Framing.LENGTH and not events:
        return upstream
    return Framing.UNTIL_CLOSE if http10 else Framing.CHUNKED


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
