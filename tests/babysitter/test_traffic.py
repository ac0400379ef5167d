"""Who waits for an engine, told from its connections: a table, and the kernel asked for real."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from babysitter import traffic
from babysitter.traffic import Connection, busy
from tests.support.until import until


@pytest.mark.parametrize(
    ("connection", "is_busy"),
    [
        (Connection(sent_ms=9000, received_ms=9001), False),  # answered, then kept by a pool
        (Connection(sent_ms=60_000, received_ms=30_000), True),  # a request of 30 s ago
        (Connection(sent_ms=100, received_ms=5000), True),  # a stream that goes on
        (Connection(sent_ms=9000, received_ms=9001, queued=1), True),
        (Connection(sent_ms=2000, received_ms=2001), False),
        (Connection(sent_ms=1999, received_ms=2001), True),
        (Connection(sent_ms=9000, received_ms=9000), True),  # which was last cannot be told
        (Connection(sent_ms=10, received_ms=10, received=False), False),  # opened ahead
    ],
)
def test_who_is_waited_for(connection: Connection, is_busy: bool) -> None:
    assert busy([connection], 2.0) is is_busy
    assert busy([Connection(10_000, 10_005), connection], 2.0) is is_busy


def test_nobody_connected_is_nobody_to_wait_for() -> None:
    assert not busy([], 2.0)


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(client's end, engine's end) of one connection."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with (
        socket.create_server((request.param, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
        listener.accept()[0] as engine,
    ):
        yield client, engine


async def test_the_kernel_tells_a_request_from_a_pooled_connection(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    client, engine = pair
    port = engine.getsockname()[1]

    def waits(idle_s: float = 0.05) -> bool:
        return busy(traffic.connections(port), idle_s)

    assert not waits(), "opened ahead of a request"
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    [unread] = traffic.connections(port)
    assert unread.queued == 18
    engine.recv(100)
    await until(lambda: asyncio.to_thread(_later, port), what="the request is older than its limit")
    assert waits(), "a request without an answer is waited for, however long"
    engine.sendall(b"HTTP/1.1 204\r\n\r\n")
    client.recv(100)
    assert waits(idle_s=3600), "answered a moment ago: it may go on"
    await until(lambda: not waits(), what="an idle connection is no work")
    assert len(traffic.connections(port)) == 1
    client.close()
    await until(lambda: not traffic.connections(port), what="it is gone")


def _later(port: int) -> bool:
    [one] = traffic.connections(port)
    return one.received_ms > 100


def test_a_list_that_is_refused_is_an_error() -> None:
    refusal = bytes([20, 0, 0, 0, 2, 0]) + bytes(14)
    with pytest.raises(OSError, match="does not list"):
        traffic.parse(refusal)
