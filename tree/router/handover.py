"""A control request goes to aiohttp, with its connection, for good; by public API alone.

aiohttp sees the request as if the connection were its own: a head written anew from the parsed
parts, under one Content-Length, then what the client sent ahead. Handing back would need aiohttp's
private state and would race: it answers with `Connection: close` instead.
"""

import asyncio
from collections.abc import Callable

from router.head import Headers

Control = Callable[[], asyncio.Protocol]
"""`aiohttp.web.AppRunner.server`: a new protocol for a connection."""

_OWN = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def request_bytes(method: str, target: bytes, http10: bool, headers: Headers, body: bytes) -> bytes:
    """The request as one piece. Its framing is ours, whatever it came under."""
    lines = [b"%b %b HTTP/1.%d" % (method.encode("latin-1"), target, 0 if http10 else 1)]
    had_body = False
    for name, value in headers:
        if name.lower() in _OWN:
            had_body = True
            continue
        lines.append(b"%b: %b" % (name, value))
    if body or had_body:
        lines.append(b"content-length: %d" % len(body))
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + body


def hand_over(transport: asyncio.Transport, control: Control, data: bytes) -> None:
    """From here on the transport is aiohttp's."""
    protocol = control()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.data_received(data)
