"""One connection to a shim's control socket: requests answered by number, events, and its end."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

#: Above the largest answer, a `tail`.
UNPARSED_BYTES_MAX = 8 * 1024 * 1024

#: A life has two: its engine ended, and all of it is gone.
EVENTS_UNHEARD_MAX = 8

Message = dict[str, Any]


class LinkLost(Exception):
    """The shim closed the connection, or ended."""


class Link(asyncio.Protocol):
    """Events are kept for who listens: one may come with the very answer that tells of the link."""

    def __init__(self) -> None:
        self.lost = False
        self._on_event: Callable[[Message], None] | None = None
        self._on_lost: Callable[[], None] = lambda: None
        self._unheard: list[Message] = []
        self._transport: asyncio.Transport | None = None
        self._unparsed = b""
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._last_id = 0
        self._ended = asyncio.Event()

    @classmethod
    async def open(cls, path: str) -> "Link":
        """Raises OSError."""
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, path)
        return link

    def listen(self, on_event: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        """`on_event` gets each event, those before too; `on_lost` is called once, when the other
        side is gone."""
        self._on_event, self._on_lost = on_event, on_lost
        for event in self._unheard:
            on_event(event)
        self._unheard.clear()
        if self.lost:
            on_lost()

    async def ask(self, request: Message, within_s: float) -> Message:
        """The answer. Raises LinkLost, TimeoutError, and ValueError with the shim's refusal."""
        if self.lost or self._transport is None:
            raise LinkLost
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._transport.write(msgspec.json.encode({**request, "id": number}) + b"\n")
            async with asyncio.timeout(within_s):
                found = await answer
        finally:
            self._asked.pop(number, None)
        if "error" in found:
            raise ValueError(found["error"])
        return found

    async def ended(self) -> None:
        """Wait until the shim has closed the connection."""
        await self._ended.wait()

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            await self._ended.wait()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        *lines, self._unparsed = (self._unparsed + data).split(b"\n")
        if len(self._unparsed) > UNPARSED_BYTES_MAX and self._transport is not None:
            self._transport.abort()
        for line in lines:
            message = msgspec.json.decode(line)
            answer = self._asked.get(message.get("id", 0))
            if "event" in message:
                self._heard(message)
            elif answer is not None and not answer.done():
                answer.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._ended.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        self._on_lost()

    def _heard(self, event: Message) -> None:
        if self._on_event is not None:
            self._on_event(event)
        elif len(self._unheard) < EVENTS_UNHEARD_MAX:
            self._unheard.append(event)
