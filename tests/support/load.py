"""Clients under load: many requests at once, each outcome kept. Bounded in count and in time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from msgspec import Struct

from tests.support.fleet import chat

DONE = "data: [DONE]"


class Reply(Struct):
    """What one client got. `status` 0: no answer at all (`text` says why)."""

    status: int
    text: str
    service: str = ""

    @property
    def is_done(self) -> bool:
        return self.text.rstrip().endswith(DONE)

    @property
    def error_in_band(self) -> bool:
        events = [line for line in self.text.splitlines() if line.startswith("data: ")]
        return bool(events) and '"error"' in events[-1]


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60)
    )


async def one(
    http: aiohttp.ClientSession,
    url: str,
    body: dict[str, Any],
    headers: dict[str, str] | None = None,
    *,
    begun: Callable[[Reply], None] = lambda _: None,
) -> Reply:
    """POST a chat request; whatever happens becomes a Reply. `begun` is told of the first byte."""
    try:
        async with http.post(
            f"{url}/v1/chat/completions", json=body, headers=headers or {}
        ) as answer:
            service = answer.headers.get("x-creche-service", "")
            text = ""
            try:
                async for piece in answer.content.iter_any():
                    if not text:
                        begun(Reply(answer.status, piece.decode(), service))
                    text += piece.decode()
            except aiohttp.ClientError as why:
                return Reply(answer.status, f"{text}\ncut: {why!r}", service)
            return Reply(answer.status, text, service)
    except (aiohttp.ClientError, TimeoutError) as why:
        return Reply(0, repr(why))


async def many(
    url: str,
    count: int,
    *,
    model: str,
    at_once: int = 16,
    headers: dict[str, str] | None = None,
    during: Callable[[int], Awaitable[None]] | None = None,
    **body: Any,
) -> list[Reply]:
    """`count` requests by `at_once` clients. `during(n)` is awaited after the n-th has ended."""
    replies: list[Reply] = []
    left = iter(range(count))

    async def client(http: aiohttp.ClientSession) -> None:
        for number in left:
            replies.append(await one(http, url, chat(model, f"request {number}", **body), headers))
            if during is not None:
                await during(len(replies))

    async with session() as http:
        await asyncio.gather(*(client(http) for _ in range(at_once)))
    return replies


def acts(when: Mapping[int, Callable[[], object]]) -> Callable[[int], Awaitable[None]]:
    """For `during`: after so many requests this is done, in a thread. One after the other, however
    long one takes and however fast the requests end."""
    turn = asyncio.Lock()

    async def during(ended: int) -> None:
        if ended in when:
            async with turn:
                await asyncio.to_thread(when[ended])

    return during


def statuses(replies: list[Reply]) -> dict[int, int]:
    return dict(Counter(reply.status for reply in replies))
