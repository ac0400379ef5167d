"""The load: a fixed number of requests over kept connections, every answer checked.

A lean protocol, since it shares its core with the engines. Each connection asks again as soon as
its answer is whole (a closed loop); streams start evenly spread over one pace.
"""

import asyncio
import json
import time
from typing import Any, cast

from msgspec import Struct

#: A round that takes longer has met a server that lost an answer.
ROUND_S_MAX = 120.0


class LoadError(Exception):
    """An answer was not what it had to be: then its cost means nothing."""


class Result(Struct, frozen=True, kw_only=True):
    """`done` requests or events in `wall_s`; `latencies_ms` of requests, or of first events."""

    done: int
    wall_s: float
    latencies_ms: list[float]


def request(
    model: str, *, stream: bool, headers: dict[str, str] | None = None, key: str = "unused"
) -> bytes:
    """A chat request of ordinary size, as an SDK would send it."""
    text = "Summarise in two sentences what a reverse proxy does for a fleet of model servers."
    body = json.dumps(
        {
            "model": model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": text},
            ],
            "temperature": 0.7,
            "stream": stream,
        }
    ).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: bench",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 3.52.0",
        f"Authorization: Bearer {key}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Client(asyncio.Protocol):
    """One connection. `finished` ends with the connection's work, or with LoadError."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self.latencies_ms: list[float] = []
        self.done = 0
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        self._asked_at = time.perf_counter()
        self.transport.write(self.payload)

    def answered(self) -> None:
        self.latencies_ms.append((time.perf_counter() - self._asked_at) * 1000)

    def fail(self, text: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadError(text))
        self.transport.close()

    def end(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadError(f"the server closed: {error or 'FIN'}"))


class _JsonClient(_Client):
    def __init__(self, payload: bytes, budget: "list[int]") -> None:
        super().__init__(payload)
        self._budget = budget
        self._buffer = b""
        self._whole = 0

    def next(self) -> None:
        if self._budget[0]:
            self._budget[0] -= 1
            self.ask()
        else:
            self.end()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if not self._whole:
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 200"):
                return self.fail(f"answered {buffer[:300]!r}")
            head = buffer[:head_end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                return self.fail("an answer without Content-Length")
            self._whole = head_end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(buffer) < self._whole:
            return
        if len(buffer) > self._whole or not buffer.endswith(b"}"):
            return self.fail(f"more than one answer: {buffer[-200:]!r}")
        self._buffer, self._whole = b"", 0
        self.answered()
        self.done += 1
        self.next()


class _StreamClient(_Client):
    """`done` counts events; the last, [DONE], included."""

    def __init__(self, payload: bytes, events: int) -> None:
        super().__init__(payload)
        self._events = events
        self._head = b""
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        if not self._tail:
            self._head += data
            _, end, data = self._head.partition(b"\r\n\r\n")
            if end and not self._head.startswith(b"HTTP/1.1 200"):
                return self.fail(f"answered {self._head[:300]!r}")
            if not data:
                return
            self.answered()
        # "data: " may be torn between two reads
        self.done += (self._tail[-5:] + data).count(b"data: ")
        self._tail = data if len(data) >= 32 else (self._tail + data)[-64:]
        if self._tail.endswith(b"0\r\n\r\n"):
            if self.done != self._events:
                return self.fail(f"{self.done} events instead of {self._events}")
            self.end()


async def run_json(port: int, payload: bytes, requests: int, connections: int) -> Result:
    """`requests` answered 200 with a whole body. Raises LoadError."""
    budget = [requests]
    clients = await _connect(port, lambda: _JsonClient(payload, budget), connections)
    began = time.perf_counter()
    for client in clients:
        client.next()
    return await _finish(clients, began)


async def run_streams(
    port: int, payload: bytes, streams: int, events: int, spread_s: float
) -> Result:
    """`streams` at once, of `events` each ([DONE] included). Raises LoadError."""
    clients = await _connect(port, lambda: _StreamClient(payload, events), streams)
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    for number, client in enumerate(clients):
        loop.call_later(spread_s * number / streams, client.ask)
    return await _finish(clients, began)


async def _connect(port: int, make: Any, count: int) -> list[Any]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(make, "127.0.0.1", port) for _ in range(count)]
    return [protocol for _, protocol in made]


async def _finish(clients: list[Any], began: float) -> Result:
    try:
        async with asyncio.timeout(ROUND_S_MAX):
            await asyncio.gather(*(client.finished for client in clients))
    except TimeoutError:
        raise LoadError(f"a round was not over after {ROUND_S_MAX:g} s") from None
    finally:
        for client in clients:
            client.transport.abort()
    wall_s = time.perf_counter() - began
    latencies = [one for client in clients for one in client.latencies_ms]
    return Result(
        done=sum(client.done for client in clients), wall_s=wall_s, latencies_ms=latencies
    )
