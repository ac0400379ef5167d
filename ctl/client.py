"""HTTP towards routers, registries and babysitters: typed answers, errors one can act on."""

import json
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from common.http import why_failed
from ctl.errors import CtlError, RefusedError, UnreachableError

T = TypeVar("T")

#: A control answer is small and at hand: what takes longer than this is as good as away.
TOTAL_S = 10.0
CONNECT_S = 3.0
OTHER_PORT = "The router's address is wanted:  creche --url http://HOST:8000 …"
#: The largest control answer read: 10,000 services with long metadata fit many times.
ANSWER_BYTES_MAX = 64 << 20


class Client:
    """One session, one token. The token goes only to control paths, never to relayed ones."""

    def __init__(self, token: str | None, tls: ssl.SSLContext | None = None) -> None:
        self._token = token
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TOTAL_S, connect=CONNECT_S),
            headers={"user-agent": "creche-ctl"},
            connector=aiohttp.TCPConnector(ssl=tls or True),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, url: str, shape: type[T]) -> T:
        """The answer to a GET as `shape`, whatever its status if it has that shape.

        Raises UnreachableError, RefusedError (4xx, 5xx) or CtlError (another shape).
        """
        return await self._call("GET", url, shape, any_status=url.endswith("/health"))

    async def post(
        self, url: str, shape: type[T], timeout_s: float = TOTAL_S, *, body: Any = None
    ) -> T:
        """The answer to a POST of `body` as JSON (None: empty) as `shape`. Raises as `get` does."""
        return await self._call("POST", url, shape, timeout_s=timeout_s, json=body)

    async def delete(self, url: str, shape: type[T]) -> T:
        """The answer to a DELETE as `shape`. Raises as `get` does."""
        return await self._call("DELETE", url, shape)

    async def ask(
        self,
        url: str,
        shape: type[T],
        *,
        query: Mapping[str, str],
        headers: Iterable[tuple[str, str]],
        body: bytes | None,
    ) -> T:
        """The answer to a request made by hand: a GET, or a POST of `body` as it is."""
        method = "GET" if body is None else "POST"
        return await self._call(method, url, shape, params=query, more=headers, data=body)

    async def _call(
        self,
        method: str,
        url: str,
        shape: type[T],
        *,
        any_status: bool = False,
        timeout_s: float = TOTAL_S,
        more: Iterable[tuple[str, str]] = (),
        **sent: Any,
    ) -> T:
        headers = [*more, *self._bearer().items()]
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_S)
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=timeout, allow_redirects=False, **sent
            ) as answer:
                body = await answer.content.read(ANSWER_BYTES_MAX)
                while not answer.content.at_eof() and len(body) < ANSWER_BYTES_MAX:
                    body += await answer.content.read(ANSWER_BYTES_MAX - len(body))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreachableError(origin(url), why_failed(error)) from error
        if answer.status >= 400 and not any_status:
            raise self._refusal(url, answer.status, body)
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if answer.status >= 400:
                raise self._refusal(url, answer.status, body) from error
            raise CtlError(f"{url} answers something else", _mistaken(body), OTHER_PORT) from error

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, body: Any = None, control: bool, first_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer to be read as it comes, without a limit on how long it takes.

        `control` sends the token. `first_s` bounds the silence before and between bytes.
        Raises UnreachableError or RefusedError before anything is yielded.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=first_s)
        headers = self._bearer() if control else {}
        try:
            answer = await self._session.request(
                method, url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreachableError(origin(url), why_failed(error)) from error
        try:
            if answer.status >= 400:
                raise self._refusal(url, answer.status, await answer.read())
            yield answer
        finally:
            answer.close()

    def _refusal(self, url: str, status: int, body: bytes) -> CtlError:
        if status == 403:
            return RefusedError(error_text(body) or f"{url} refuses", "", "", status, body)
        if status == 401 and b"invalid_api_key" in body:
            return RefusedError(
                error_text(body),
                f"401 from {url}",
                "Set CRECHE_KEY=sk-…, or key_file in creche.toml   (creche key create NAME)",
                status,
                body,
            )
        if status == 401:
            return RefusedError(
                f"{url} wants the cluster token",
                "another one was given" if self._token else "none was given",
                "Name it:  creche --token-file FILE …   (or CRECHE_TOKEN_FILE=FILE)",
                status,
                body,
            )
        what = error_text(body) or f"HTTP {status}"
        return RefusedError(what, f"{status} from {url}", "", status, body)

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}


def _mistaken(body: bytes) -> str:
    """Who it may be that answered: our other daemons' health is told from a router's."""
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        return "that is no JSON of ours"
    keys = table.keys() if isinstance(table, dict) else ()
    if "engines" in keys:
        return "it looks like a babysitter"
    if "registered_services" in keys:
        return "it looks like a registry"
    return "it is not of the shape that a router of this version has"


def origin(url: str) -> str:
    """`http://host:port` of a URL: what an operator checks when nothing answers there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def error_text(body: bytes) -> str:
    """The sentence in an error body: ours, OpenAI's, or the first line of anything else."""
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        lines = body.decode("utf-8", "replace").strip().splitlines()
        return lines[0][:300] if lines else ""
    if isinstance(table, dict):
        error = table.get("error", table.get("detail", table.get("message")))
        if isinstance(error, dict):
            error = error.get("message")
        if error is not None:
            return str(error)
    return str(table)[:300]
