"""The HTTP of every control port, and every client of one: aiohttp with the limits it lacks.

app = application(middlewares)            errors become JSON, unknown ones a mute 500
server = await serve(app, sockets)        head time, idle time and connections bounded
body = await read_json(request, Beat)     body bytes and body time bounded
async with client(token=token) as http    timeouts set, no proxy, no cookies
"""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common import auth
from common.address import http_url
from common.headlimit import HeadLimit, Limits, watching

_log = structlog.get_logger("http")
_encoder = msgspec.json.Encoder()

BODY_BYTES_MAX = 1024 * 1024  # a registration with hundreds of models is a tenth of this
BODY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 2.0
TOTAL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0  # how long `Server.close` waits for answers in progress

T = TypeVar("T")
ErrorShape = Callable[[int, str, str], Any]


class HttpError(Exception):
    """An answer that a handler gives by raising it. `code` is for programs, `text` for people."""

    def __init__(
        self,
        status: int,
        text: str,
        code: str = "invalid",
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.code = code
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`value` (a Struct, or whatever msgspec encodes) as JSON."""
    return web.Response(
        body=_encoder.encode(value),
        status=status,
        content_type="application/json",
        headers=dict(headers) if headers else None,
    )


async def read_body(
    request: web.BaseRequest,
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
    timeout_s: float = BODY_TIMEOUT_S,
) -> bytes:
    """The whole body. Raises HttpError 413 above the limit, 408 when it takes too long, 415 where
    it is compressed: nothing is decompressed for anyone."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise HttpError(415, "a compressed body is not read here", "unsupported_encoding")
    too_large = HttpError(413, f"a body may have {body_bytes_max} bytes", "too_large")
    if (request.content_length or 0) > body_bytes_max:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_any():
                size += len(part)
                if size > body_bytes_max:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise HttpError(408, f"the body took longer than {timeout_s:g} s", "timeout") from None
    return b"".join(parts)


async def read_json(
    request: web.BaseRequest,
    type: type[T],
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
    timeout_s: float = BODY_TIMEOUT_S,
    empty: bytes | None = None,
) -> T:
    """The body as a `type`; `empty` stands in for no body. Raises HttpError 400, 408 or 413."""
    body = await read_body(request, body_bytes_max=body_bytes_max, timeout_s=timeout_s)
    if not body.strip() and empty is not None:
        body = empty
    return parse_json(body, type)


def parse_json(body: bytes, type: type[T]) -> T:
    """`body` as a `type`. Raises HttpError 400 that says what is wrong where."""
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as why:
        raise HttpError(400, f"invalid body: {why}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as why:
        raise HttpError(400, f"the body is not JSON: {why}") from None
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply") from None


def plain_error(status: int, text: str, code: str) -> dict[str, Any]:
    """The registry's and the babysitter's shape: `{"error", "code"}`."""
    return {"error": text, "code": code}


def errors(shape: ErrorShape = plain_error) -> Middleware:
    """Turns what handlers raise into JSON; an unknown error into a log line and a mute 500."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except HttpError as error:
            body = shape(error.status, error.text, error.code)
            if error.extra and isinstance(body, dict):
                body = {**body, **error.extra}
            return json_response(body, error.status, error.headers)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _of_aiohttp(error, request, shape)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            _log.error("handler failed", method=request.method, path=request.path, exc_info=error)
            return json_response(shape(500, "internal error", "internal"), 500)

    return answer


@web.middleware
async def own_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what a web page of another origin would have done: a browser asks nobody before it
    sends a simple POST, and on loopback there is no token that it lacks."""
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and request.method not in ("GET", "HEAD")
        and origin.lower().partition("://")[2] != request.host.lower()
    ):
        raise HttpError(403, f"{origin[:100]} is another origin", "cross_origin")
    return await handler(request)


def _of_aiohttp(error: web.HTTPException, request: web.Request, shape: ErrorShape) -> web.Response:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    if error.status == 404:
        return json_response(shape(404, f"no such path: {request.path}", "not_found"), 404)
    if error.status == 405:
        text = f"{request.method} is not answered here"
        return json_response(shape(405, text, "method_not_allowed"), 405, headers)
    return json_response(shape(error.status, error.reason, "invalid"), error.status, headers)


def application(
    *,
    token: str | None = None,
    open_paths: Iterable[str] = auth.OPEN_PATHS,
    shape: ErrorShape = plain_error,
    middlewares: Sequence[Middleware] = (),
) -> web.Application:
    """An application whose errors are JSON and whose paths, but `open_paths`, want `token`."""
    return web.Application(
        middlewares=[
            errors(shape),
            own_pages,
            auth.middleware(token, frozenset(open_paths)),
            *middlewares,
        ],
        client_max_size=BODY_BYTES_MAX,
    )


class Server:
    """A running control port. `protocol()` makes one more connection's protocol (hand-over)."""

    def __init__(
        self, runner: web.AppRunner, limits: Limits, tls: ssl.SSLContext | None = None
    ) -> None:
        self._runner = runner
        self._tls = tls
        self._limits = limits
        self._servers: list[asyncio.Server] = []
        self._open: set[HeadLimit] = set()
        self.addresses: list[tuple[str, int]] = []

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    @property
    def url(self) -> str:
        host, port = self.addresses[0]
        return http_url(host, port, "http" if self._tls is None else "https")

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        """A protocol for one connection, with the limits of this port."""
        inner = self._runner.server
        assert inner is not None
        return HeadLimit(inner(), self._limits, self._open)

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for one in sockets:
            self._servers.append(
                await loop.create_server(
                    self.protocol,
                    sock=one,
                    ssl=self._tls,
                    ssl_handshake_timeout=None
                    if self._tls is None
                    else self._limits.head_timeout_s,
                )
            )
            self.addresses.append(one.getsockname()[:2])

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Accept no more, let answers in progress end for `timeout_s`, then cut the rest."""
        self.stop_accepting()
        await asyncio.sleep(0)  # a head that has just been read gets its handler first
        inner = self._runner.server
        if inner is not None:
            inner.pre_shutdown()  # from now on each connection closes after its answer
        for one in list(self._open):
            if not one.busy:
                one.abort()
        busy = [one.closed for one in self._open if one.busy]
        if busy:
            await asyncio.wait(busy, timeout=timeout_s)
        for one in list(self._open):
            one.abort()
        await self._runner.cleanup()


async def serve(
    app: web.Application,
    sockets: Iterable[socket.socket] = (),
    *,
    head_timeout_s: float = 10.0,
    idle_timeout_s: float = 75.0,
    connections_max: int = 1000,
    cancel_handlers: bool = True,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Serve `app` on listening `sockets` (none: only connections handed over: `Server.protocol`).
    With `tls` they speak TLS.

    A head that takes longer than `head_timeout_s` gets 408 and a close; a connection without a
    request closes after `idle_timeout_s`; connections beyond `connections_max` get 503. With
    `cancel_handlers` a handler is cancelled when its client leaves.
    """
    app.middlewares.insert(0, watching())
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=cancel_handlers,
        keepalive_timeout=idle_timeout_s,
        shutdown_timeout=0.5,
        max_line_size=8190,
        max_field_size=8190,
    )
    await runner.setup()
    server = Server(runner, Limits(head_timeout_s, idle_timeout_s, connections_max), tls)
    await server.listen(sockets)
    return server


def client(
    *,
    token: str | None = None,
    total_s: float | None = TOTAL_TIMEOUT_S,
    connect_s: float = CONNECT_TIMEOUT_S,
    connections_max: int = 100,
    tls: ssl.SSLContext | None = None,
) -> aiohttp.ClientSession:
    """A session for control ports: JSON out, no cookies, no proxy from the environment.

    `tls` is for https URLs. None: the system's authorities are believed."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s),
        connector=aiohttp.TCPConnector(limit=connections_max, ssl=tls or True),
        headers=auth.bearer(token),
        cookie_jar=aiohttp.DummyCookieJar(),
        json_serialize=lambda value: _encoder.encode(value).decode(),
        trust_env=False,
    )


_ERRNO = re.compile(r"\[Errno (\d+)\]")


def why_failed(error: BaseException) -> str:
    """Why a call of a `client` failed: "connection refused", in words without inner detail."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name is unknown"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return f"its certificate is not believed: {why}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        why = getattr(error.os_error, "reason", None) or "no TLS is spoken there"
        return f"TLS failed: {why.replace('_', ' ').lower()}"
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        found = _ERRNO.search(str(inner))  # a name of several addresses: one errno in the text
        number = inner.errno or (int(found[1]) if found else 0)
        return os.strerror(number).lower() if number else "cannot connect"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error)[:120] or type(error).__name__
