"""A connection goes to the successor while nothing of it is under way; its client cannot tell."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import trustme

from router.downstream import Client as Inbound
from router.passing import Heir
from tests.router.relay_kit import CHAT, OK, SSE, STREAM, Client, Rig, Talk, always, serving
from tests.support.until import until

PATH = "/v1/chat/completions"
HEAD = b"POST %b HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(CHAT))


class Pair:
    """A router and its successor. `channels` go to the old one, one after the other."""

    def __init__(self, old: Rig, new: Rig) -> None:
        self.old = old
        self.new = new
        self.channels: list[socket.socket] = []
        self.ends: list[asyncio.Event] = [asyncio.Event()]
        self.task: asyncio.Task[None] | None = None

    def introduce(self) -> socket.socket:
        """A channel between the two; the new one's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channels.append(ours)
        self.new.relay.adopt(theirs)
        return theirs

    def begin(self, limit_s: float = 60.0) -> None:
        heir = Heir(lambda: self.channels.pop(0) if self.channels else None)
        handing_on = self.old.relay.hand_on(heir, limit_s, *self.ends)
        self.task = asyncio.get_running_loop().create_task(handing_on)

    async def done(self) -> None:
        assert self.task is not None
        await asyncio.wait_for(self.task, 30)
        assert not self.old.relay.clients


@contextlib.asynccontextmanager
async def two(script: object = None) -> AsyncIterator[Pair]:
    old_script = always(OK) if script is None else script
    async with serving(old_script) as old, serving(always(OK)) as new:  # type: ignore[arg-type]
        pair = Pair(old, new)
        yield pair
        pair.ends[0].set()
        if pair.task is not None:
            await pair.task
        await until(lambda: not new.relay.clients, what="the new one has none either")


def numbers(*rigs: Rig) -> Iterator[int]:
    """How many requests each one's engine has seen."""
    return (len(one.upstreams[0].requests) for one in rigs)


async def test_an_idle_connection_goes_over() -> None:
    async with two() as pair:
        client = await pair.old.client()
        client.send(PATH, CHAT)
        await client.answer()
        pair.introduce()
        pair.begin()
        await pair.done()
        client.send(PATH, CHAT)
        answer = await client.answer()
        assert (answer.status, answer.headers.get("connection")) == (200, None)
        assert [*numbers(pair.old, pair.new)] == [1, 1]
        await client.close()


async def test_a_connection_that_never_asked_goes_over_with_what_it_sends_at_that_moment() -> None:
    async with two() as pair:
        clients = [await pair.old.client() for _ in range(100)]
        await until(lambda: len(pair.old.relay.clients) == 100)
        pair.introduce()
        for one in clients:
            one.send(PATH, CHAT)
        pair.begin()
        answers = [await one.answer() for one in clients]
        assert {one.status for one in answers} == {200}
        assert sum(numbers(pair.old, pair.new)) == 100
        for one in clients:
            await one.close()
        await pair.done()


async def test_a_request_that_has_begun_is_answered_here_and_told_of_the_close() -> None:
    async with two() as pair:
        client = await pair.old.client()
        client.writer.write(HEAD[:20])
        await until(lambda: not all(one.idle for one in pair.old.relay.clients))
        pair.introduce()
        pair.begin()
        client.writer.write(HEAD[20:] + CHAT)
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""
        assert [*numbers(pair.old, pair.new)] == [1, 0]
        await client.close()
        await pair.done()


async def test_a_stream_that_began_before_ends_here_and_its_connection_goes_over() -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE + b'f\r\ndata: {"a":1}\n\n\r\n')
        await go.wait()
        await talk.say(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await talk.left()

    async with two(script) as pair:
        client = await pair.old.client()
        client.send(PATH, STREAM)
        assert b"connection: close" not in (await client.head()).lower()
        assert b'{"a":1}' in await client.chunk()
        pair.introduce()
        pair.begin()
        await until(lambda: pair.old.relay.heir is not None)
        go.set()
        assert (await client.rest_of_chunks()).endswith(b"[DONE]\n\n")
        await pair.done()
        client.send(PATH, CHAT)
        assert (await client.answer()).status == 200
        assert [*numbers(pair.old, pair.new)] == [1, 1]
        await client.close()


async def test_a_second_request_that_was_sent_ahead_is_answered_here() -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await go.wait()
            await talk.say(OK)

    async with two(script) as pair:
        client = await pair.old.client()
        client.send(PATH, CHAT)
        client.send(PATH, CHAT)
        await until(lambda: pair.old.upstreams[0].requests)
        pair.introduce()
        pair.begin()
        await until(lambda: pair.old.relay.heir is not None)
        go.set()
        answers = [await client.answer()]
        if "connection" not in answers[0].headers:
            answers.append(await client.answer())
        assert answers[-1].headers["connection"] == "close"
        assert await client.rest() == b""
        assert [*numbers(pair.old, pair.new)] == [len(answers), 0]
        await client.close()
        await pair.done()


async def test_without_its_successor_it_serves_on_until_there_is_another() -> None:
    async with two() as pair:
        clients = [await pair.old.client() for _ in range(2)]
        await until(lambda: len(pair.old.relay.clients) == 2)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        pair.channels.append(ours)
        pair.begin()
        await until(lambda: not pair.channels)
        clients[0].send(PATH, CHAT)
        assert (await clients[0].answer()).headers["connection"] == "close"
        await clients[0].close()
        pair.introduce()
        await pair.done()
        clients[1].send(PATH, CHAT)
        assert (await clients[1].answer()).status == 200
        assert [*numbers(pair.old, pair.new)] == [1, 1]
        await clients[1].close()


async def test_what_comes_from_a_predecessor_is_handed_on_as_well() -> None:
    async with two() as pair:
        first, adopted = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pair.old.relay.adopt(adopted)
        pair.introduce()
        pair.begin()
        client = await pair.new.client()
        there, here = socket.socketpair()
        there.setblocking(False)
        socket.send_fds(first, [b"+"], [here.fileno()])
        here.close()
        first.close()
        await pair.done()
        reader, writer = await asyncio.open_connection(sock=there)
        writer.write(HEAD + CHAT)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert [*numbers(pair.old, pair.new)] == [0, 1]
        writer.close()
        await client.close()


async def test_its_time_is_limited() -> None:
    async with two() as pair:
        client = await pair.old.client()
        client.writer.write(HEAD[:20])
        await until(lambda: not all(one.idle for one in pair.old.relay.clients))
        pair.introduce()
        pair.begin(limit_s=0.05)
        assert pair.task is not None
        await asyncio.wait_for(pair.task, 30)
        assert len(pair.old.relay.clients) == 1
        await client.close()


async def test_a_connection_under_tls_stays_and_hears_of_the_close_with_its_next_answer() -> None:
    """What its two ends have agreed on is in this process alone."""
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    async with two() as pair:
        relay = pair.old.relay
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Inbound(relay), "127.0.0.1", 0, ssl=ours)
        port = server.sockets[0].getsockname()[1]
        client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=theirs))
        await until(lambda: relay.clients)
        server.close()
        pair.introduce()
        pair.begin()
        await until(lambda: relay.heir is not None and not pair.channels)
        client.send(PATH, CHAT)
        assert (await client.answer()).headers["connection"] == "close"
        assert [*numbers(pair.old, pair.new)] == [1, 0]
        await client.close()
        await pair.done()


async def test_a_successor_that_speaks_tls_takes_over_no_plain_connection() -> None:
    async with serving(always(OK)) as new:
        new.relay.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            new.relay.adopt(theirs)
            assert ours.recv(1) == b"", "the channel is closed: they end where they are"
