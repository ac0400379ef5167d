"""A peer whose answers break off where a test says so: a TCP relay in the test's own loop.

Events of a stream come faster than a test can kill the engine that sends them; here the connection
itself is cut, after as many events as were asked for.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from common import tasks

EVENT_END = b"\n\n"


class Cut:
    """Where the next answer breaks off: behind so many events. None: answers pass whole, as they do
    after it."""

    def __init__(self) -> None:
        self.after: int | None = None


class Cutter:
    """Leads to port `to` on loopback. Several may share a `cut`: it happens once."""

    def __init__(self, to: int, cut: Cut) -> None:
        self._cut = cut
        self._to = to
        self._server: asyncio.Server
        self._ways: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._server.close()
        await tasks.cancel(*self._ways)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except BaseException as why:
            writer.transport.abort()
            if isinstance(why, OSError):  # nobody is there: as if nobody were here
                return
            raise
        ways = [
            tasks.spawn(_pass(reader, back), name="cutter-there"),
            tasks.spawn(self._answer(there, writer), name="cutter-back"),
        ]
        self._ways.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.cancel(*ways)
            self._ways.difference_update(ways)
            writer.transport.abort()
            back.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                whole = self._up_to_cut(data)
                writer.write(whole)
                await writer.drain()
                if len(whole) < len(data):
                    return

    def _up_to_cut(self, data: bytes) -> bytes:
        """As much of what came as may pass: all of it, but where the cut is due."""
        cut, at = self._cut, 0
        while cut.after is not None and (end := data.find(EVENT_END, at)) >= 0:
            at = end + len(EVENT_END)
            cut.after -= 1
            if cut.after == 0:
                cut.after = None
                return data[:at]
        return data


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
