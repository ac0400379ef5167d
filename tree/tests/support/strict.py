"""Clients that forgive nothing: no retry, no reconnect that was not announced.

A kept connection is used until an answer says `Connection: close`. Anything else that ends it, or
keeps a new one from being made, is a failure of whoever serves; it is counted with its reason.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct


class Got(Struct):
    """An answer, whole. `closes`: it is the connection's last."""

    status: int
    body: bytes
    closes: bool
    service: str

    @property
    def is_done(self) -> bool:
        return self.body.rstrip().endswith(b"data: [DONE]")


class Kept:
    """One connection. Every method raises OSError or EOFError where it breaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def local_port(self) -> int:
        return int(self._writer.get_extra_info("sockname")[1])

    async def ask(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Got:
        """POST a chat request and read its answer to the end."""
        await self.send(body, headers)
        return await self.read()

    async def send(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: test", f"content-length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await self._writer.drain()

    async def read(self) -> Got:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in head)
        }
        if "chunked" in fields.get("transfer-encoding", ""):
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(fields["content-length"]))
        return Got(
            int(head[0].split()[1]),
            body,
            fields.get("connection", "") == "close",
            fields.get("x-creche-service", ""),
        )

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass


class Load:
    """Clients that go on until they are told to stop. `failed` counts by reason, `well` answers."""

    def __init__(self, port: int, body: Mapping[str, Any]) -> None:
        self.well: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._port = port
        self._body = body
        self._over = asyncio.Event()
        self._clients: list[asyncio.Task[None]] = []

    def start(self, *, short: int, kept: int) -> None:
        """`short` clients make a connection per request; `kept` keep theirs, and pause between
        requests for different times, so that connections are idle and busy in turn."""
        loop = asyncio.get_running_loop()
        self._clients += [loop.create_task(self._short()) for _ in range(short)]
        self._clients += [loop.create_task(self._keep(number)) for number in range(kept)]

    async def stop(self) -> None:
        self._over.set()
        await asyncio.gather(*self._clients)

    async def _short(self) -> None:
        while not self._over.is_set():
            await self._once("short", {"connection": "close"}, None)
            await self._pause(0.01)

    async def _keep(self, number: int) -> None:
        """0.7 ms, 1.4 ms, … between requests; the first none at all."""
        connection: Kept | None = None
        while not self._over.is_set():
            connection = await self._once("kept", {}, connection)
            await self._pause(0.0007 * number * number)
        if connection is not None:
            await connection.close()

    async def _once(
        self, kind: str, headers: Mapping[str, str], connection: Kept | None
    ) -> Kept | None:
        """One request; the connection, where it lives on."""
        phase = "reused"
        try:
            if connection is None:
                phase = "refused"
                connection = await Kept.open(self._port)
                phase = "fresh"
            async with asyncio.timeout(30):
                got = await connection.ask(self._body, headers)
        except (OSError, EOFError, TimeoutError) as why:
            self.failed[f"{kind}, {phase}: {why!r}"] += 1
            if connection is not None:
                await connection.close()
            return None
        if got.status == 200:
            self.well[kind] += 1
        else:
            self.failed[f"{kind}: {got.status} {got.body[:200]!r}"] += 1
        if got.closes:
            await connection.close()
            return None
        return connection

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            pass
