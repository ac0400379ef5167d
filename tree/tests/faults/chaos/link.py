"""A peer that can be slow, silent or gone: a TCP relay in the test's own loop.

PASS     bytes go through
STALL    connections are taken, nothing goes through: half-open, as behind a dead switch
DRIP     a few bytes at a time
REFUSE   those that are open are reset, new ones are refused
"""

import asyncio
import contextlib
import socket
import struct
from enum import Enum

from common import tasks

PIECE_BYTES = 65_536
DRIP_BYTES = 48
DRIP_S = 0.03


class Mode(Enum):
    PASS = "pass"
    STALL = "stall"
    DRIP = "drip"
    REFUSE = "refuse"


class Link:
    """Listens on `port`, leads to `to`. Both on loopback."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self.to = to
        self.mode = Mode.PASS
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._taken, "127.0.0.1", self.port)

    async def become(self, mode: Mode) -> None:
        self.mode = mode
        if mode is Mode.STALL:
            self._flows.clear()
        else:
            self._flows.set()
        if mode is Mode.REFUSE:
            await self.close()
        else:
            await self.listen()

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._open):
            _reset(writer)

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, back}
        ways = [
            tasks.spawn(self._way(reader, back), name="link-there"),
            tasks.spawn(self._way(there, writer), name="link-back"),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # One side has gone: HTTP's peers take that for the end of both.
            await tasks.cancel(*ways)
            for one in (writer, back):
                self._open.discard(one)
                one.close()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                for piece in self._pieces(data):
                    await self._flows.wait()
                    writer.write(piece)
                    await writer.drain()
                    if self.mode is Mode.DRIP:
                        await asyncio.sleep(DRIP_S)

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.mode is not Mode.DRIP:
            return [data]
        return [data[at : at + DRIP_BYTES] for at in range(0, len(data), DRIP_BYTES)]


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends it by RST."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
