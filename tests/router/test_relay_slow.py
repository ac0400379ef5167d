"""Clients that take their time, and more of them than there is room for."""

import asyncio
import socket

import pytest
from aiohttp import web

from tests.router.relay_kit import CHAT, OK, SSE, Client, Rig, Talk, always, serving
from tests.support.until import until

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"


async def from_address(rig: Rig, address: str) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, local_addr=(address, 0))
    return Client(reader, writer)


async def trickle(client: Client, data: bytes = b"x") -> bytes:
    """Send a little again and again, until the relay has closed; what it said."""
    saying = asyncio.ensure_future(client.rest())  # noqa: TID251  (awaited right here)
    while not saying.done():
        client.writer.write(data)
        await asyncio.sleep(0.02)
    said = await saying
    await client.close()
    return said


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 1000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1;"],
)
async def test_a_body_that_never_stops_coming_has_its_time(framing: bytes) -> None:
    limits = {"client_bytes_per_s_min": 1_000}
    async with serving(always(OK), timeouts={"body_s": 0.3}, limits=limits) as rig:
        client = await rig.client()
        client.writer.write(POST + framing)
        said = await trickle(client)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert rig.relay.crowd.slow == {"head": 0, "body": 1, "answer": 0}
        assert rig.upstreams[0].requests == []


async def test_a_body_that_keeps_its_pace_has_all_the_time_it_takes() -> None:
    limits = {"client_bytes_per_s_min": 100}
    timeouts = {"body_s": 60, "body_idle_s": 10_000}
    async with serving(always(OK), timeouts=timeouts, limits=limits) as rig:
        client = await rig.client()
        client.writer.write(POST + b"Content-Length: 40000\r\n\r\n")
        for count in range(1, 20):
            client.writer.write(b"x" * 2_000)
            await until(lambda count=count: rig.relay.bodies.memory == 2_000 * count)  # type: ignore[misc]
            rig.skip(20 * count + 50)
            assert not rig.relay.crowd.slow["body"]
        client.writer.write(b"x" * 2_000)
        assert (await client.answer()).status == 200
        await client.close()


async def test_a_head_that_never_ends_has_its_time() -> None:
    async with serving(always(OK), timeouts={"head_s": 0.3}) as rig:
        client = await rig.client()
        client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        assert (await trickle(client)).startswith(b"HTTP/1.1 408 ")
        assert rig.relay.crowd.slow == {"head": 1, "body": 0, "answer": 0}


async def test_a_client_that_takes_too_little_of_its_answer_frees_the_upstream() -> None:
    async def endless(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE)
        while True:
            await talk.say(b"8000\r\ndata: %b\n\n\r\n" % (b"x" * 32_760))

    async with serving(endless, timeouts={"write_idle_s": 0.5}) as rig:
        taker = socket.socket()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        taker.setblocking(False)
        await asyncio.get_running_loop().sock_connect(taker, ("127.0.0.1", rig.port))
        body = b'{"model":"m","stream":true,"messages":[]}'
        taker.send(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await until(lambda: any(client.paused for client in rig.relay.clients))
        (client,) = rig.relay.clients
        assert client.transport.get_write_buffer_size() < 1 << 20
        while not client.closed:
            try:
                taker.recv(10)
            except OSError:
                break
            await asyncio.sleep(0.05)
        await rig.quiet()
        await until(lambda: rig.upstreams[0].closed == 1)
        assert rig.relay.crowd.slow["answer"] == 1
        taker.close()


# --- too many -------------------------------------------------------------------------------------


async def test_connections_have_a_limit_and_who_is_above_it_is_told() -> None:
    async with serving(always(OK), limits={"connections_max": 1}) as rig:
        first = await rig.client()
        first.send("/v1/chat/completions", CHAT)
        await first.answer()
        # It is not read: what it had sent by then would reset it, and its answer with it.
        said = await rig.ask(b"")
        assert said.startswith(b"HTTP/1.1 503 ") and b"connection: close" in said
        assert rig.relay.crowd.refused == {"all": 1, "address": 0}
        await first.close()
        await until(lambda: not rig.relay.clients)
        assert (await rig.post("/v1/chat/completions", CHAT)).status == 200


async def test_one_address_cannot_take_the_room_of_all() -> None:
    async with serving(always(OK), limits={"connections_per_address_max": 2}) as rig:
        greedy = [await from_address(rig, "127.0.0.2") for _ in range(2)]
        await until(lambda: len(rig.relay.clients) == 2)
        third = await from_address(rig, "127.0.0.2")
        assert (await third.rest()).startswith(b"HTTP/1.1 503 ")
        await third.close()
        other = await from_address(rig, "127.0.0.3")
        other.send("/v1/chat/completions", CHAT)
        assert (await other.answer()).status == 200
        assert rig.relay.crowd.refused == {"all": 0, "address": 1}
        for one in (*greedy, other):
            await one.close()
        await until(lambda: not rig.relay.clients)
        assert rig.relay.crowd.addresses == 0


async def test_a_trusted_proxy_is_not_one_client() -> None:
    limits = {"connections_per_address_max": 1}
    async with serving(always(OK), limits=limits, trusted_proxies=("127.0.0.2",)) as rig:
        many = [await from_address(rig, "127.0.0.2") for _ in range(3)]
        for one in many:
            one.send("/v1/chat/completions", CHAT)
            assert (await one.answer()).status == 200
        assert rig.relay.crowd.addresses == 0
        for one in many:
            await one.close()


async def test_who_is_handed_over_to_the_control_port_is_counted_no_more() -> None:
    async def health(_: web.Request) -> web.Response:
        answer = web.Response()
        answer.force_close()
        return answer

    control = web.Application()
    control.router.add_get("/health", health)
    async with serving(always(OK), control=control) as rig:
        assert b" 200 OK" in await rig.ask(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert rig.relay.crowd.addresses == 0


async def test_without_a_limit_nobody_is_counted() -> None:
    async with serving(always(OK), limits={"connections_per_address_max": 0}) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        await client.answer()
        assert rig.relay.crowd.addresses == 0
        await client.close()
