"""Connections to upstreams: one answer at a time, pooled while nothing speaks against it.

    Pool.take ─▶ Uplink ─ asked ─▶ head ─▶ parts … ─▶ complete ─▶ Pool.put (or close)
    Pool.connect ─▶ Uplink

The parser is fed first and only records; then the owner is told once per read and writes once.
Dropped, never pooled: a connection with a stray byte, an answer that did not end as its head said,
a departed client's, one whose request was not sent whole.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from router.framing import Framing, of_upstream
from router.head import AnswerHead, Known, MalformedError, read_answer
from router.seam import Upstream
from router.stream import (
    AT_LEAST,
    BELOW,
    COMPARED_MAX,
    END,
    LAST_FOUR,
    NOTED_MAX,
    Stream,
    are_chunks,
)

#: More interim answers than any server has a reason for.
_INTERIM_MAX = 8


class Owner(Protocol):
    """Who has the connection. Told after each read, when all of it is recorded."""

    def upstream_received(self) -> None: ...

    def upstream_lost(self) -> None: ...

    def upstream_paused(self) -> None: ...

    def upstream_resumed(self) -> None: ...


class Tunnel(Protocol):
    def from_upstream(self, data: bytes) -> None: ...

    def upstream_lost(self) -> None: ...

    def upstream_paused(self) -> None: ...

    def upstream_resumed(self) -> None: ...


_NO_BODY, _LENGTH = Framing.NO_BODY, Framing.LENGTH


class Uplink(asyncio.Protocol):
    """`parts` is what the owner has not taken yet. `error` is why the answer is none."""

    # Above 30 attributes CPython 3.11 keeps them in a dictionary: an event cost a twentieth more.
    __slots__ = (
        "_chunk_ended",
        "_even",
        "_feed",
        "_head_bytes",
        "_head_bytes_max",
        "_head_only",
        "_headers",
        "_interim",
        "_is_interim",
        "_known",
        "_left",
        "_method",
        "_parser",
        "_pool",
        "clean",
        "complete",
        "ended",
        "error",
        "framing",
        "got",
        "head",
        "idle_until",
        "keep",
        "node",
        "on_body",
        "owner",
        "parts",
        "rest",
        "reused",
        "service_lines",
        "stream",
        "transport",
        "tunnel",
    )

    def __init__(self, pool: "Pool", node: Upstream) -> None:
        self._pool = pool
        self.node = node
        self.transport: asyncio.Transport
        self.owner: Owner | None = None
        self.tunnel: Tunnel | None = None
        self.reused = False
        self.idle_until = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        #: The last head under a length that came in one read, and what was read of it.
        self._known: tuple[Known, AnswerHead] | None = None
        #: Body bytes that are still to come after a head that needed no parser.
        self._left = 0
        #: What answers from here say about it, at the first attempt.
        self.service_lines = b"x-creche-service: %b\r\nx-creche-attempts: 1\r\n" % (
            node.name.encode("latin-1", "replace")
        )
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes_max = pool.head_bytes_max
        #: What came of the body and was not taken yet. The parser appends to this very list.
        self.parts: list[bytes] = []
        self.on_body = self.parts.append
        #: The parser told of a chunk's end last; and no byte of the next one was read.
        self._chunk_ended = False
        #: Once an event stream runs: it takes most reads, the owner the rest.
        self.stream: Stream | None = None
        #: The same while nothing is half read, neither a chunk nor an event; else None.
        self._even: Stream | None = None
        self.ended = False
        self._method = "GET"
        #: Any byte of answer arrived.
        self.got = False
        self.head: AnswerHead | None = None
        self.framing = Framing.NO_BODY
        self.complete = False
        self.keep = False
        self.clean = True
        self.error: str | None = None
        #: What followed a 101.
        self.rest = b""
        self._head_bytes = 0
        self._interim = 0
        self._is_interim = False
        #: A head without a body, as the parser does not know: it is replaced.
        self._head_only = False

    def _reset(self) -> None:
        """For the next answer: what an ordinary one may have changed."""
        self.got = False
        self.head = None
        self.complete = False
        self.keep = False
        self._head_bytes = 0
        self._interim = 0
        self._head_only = False
        self._chunk_ended = False

    def ask(self, owner: Owner, method: str) -> None:
        """A request goes out now; the answer belongs to `owner`."""
        self.owner = owner
        self._method = method
        if self.got:
            self._reset()
        if self._parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
            self._feed = parser.feed_data

    # --- what the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._pool.open.add(self)

    def data_received(self, data: bytes) -> None:
        stream = self._even
        if stream is not None:
            # Of most reads there are many per answer, and they come here. The parser, which stands
            # between two chunks, is spared them. Written out: a call would cost as much again.
            size = len(data)
            if (
                size < COMPARED_MAX
                and AT_LEAST[size] <= data < BELOW[size]
                and data[LAST_FOUR] == END
            ) or are_chunks(data):
                passed = stream.passed
                passed.append(data)
                if len(passed) == NOTED_MAX:
                    stream.count()
                write = stream.write
                try:
                    write(data)
                except RuntimeError:
                    pass  # uvloop: closed since; whoever owns it hears of that next
                return
        if self.stream is not None:
            self._streamed(self.stream, data)
            return
        owner = self.owner
        if self.tunnel is not None:
            self.tunnel.from_upstream(data)
            return
        if owner is None:
            # Nobody asked: an answer to nothing would be taken for the next one's.
            self._pool.forget(self)
            self.transport.abort()
            return
        if self._left:
            self._counted(data)
            owner.upstream_received()
            return
        if not self.got and self._known is not None and self._again(self._known, data):
            owner.upstream_received()
            return
        first, self.got = not self.got, True
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as upgraded:
            self.rest = data[upgraded.args[0] :]
        except httptools.HttpParserError as error:
            # A 101 without its two headers stops the parser; the head says what it was.
            self.error = self.error or str(error)
        head = self.head
        if head is None:
            self._head_bytes += len(data)
            if self._head_bytes > self._head_bytes_max:
                self.error = self.error or "the head is too long"
        elif self.complete:
            if self._head_only and self.parts:
                self.error = "a body where none may be"
            if self.keep and not self._ended_exactly(data):
                self.keep = False
        if first and head is not None and self.framing is _LENGTH and not head.close:
            self._remember(head, data)
        owner.upstream_received()

    def _streamed(self, stream: Stream, data: bytes) -> None:
        """A read of a running stream that is not plainly one chunk of whole events."""
        self._even = None
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self.error = self.error or str(error)
        if self.complete or self.error is not None or not stream.pass_on():
            if self.keep and not self._ended_exactly(data):
                self.keep = False
            self.owner.upstream_received()  # type: ignore[union-attr]
            if self.stream is not stream:
                return
        # What follows a chunk's end is another's size, which ends in CRLF too, but was told.
        if self._chunk_ended and data[-2:] == b"\r\n" and stream.even:
            self._even = stream

    def _remember(self, head: AnswerHead, data: bytes) -> None:
        """A whole head in one read, under a length: it may come again."""
        end = data.find(b"\r\n\r\n") + 4
        if data.startswith(b"HTTP/") and end + (head.content_length or 0) >= len(data):
            self._known = Known(data[:end]), head

    def _again(self, known: tuple[Known, AnswerHead], data: bytes) -> bool:
        """Whether the last head came again. The parser stays where it is: between two answers."""
        if self._method == "HEAD":
            return False
        found = known[0].match(data)
        if found is None:
            return False
        count, end = found
        self.got = True
        self.framing = _LENGTH
        head = self.head = known[1]
        head.content_length = count
        self._left = count or 0
        if self._left:
            if end < len(data):
                self._counted(data[end:])
        else:
            self._counted(data[end:])
        return True

    def _counted(self, data: bytes) -> None:
        """Body bytes of an answer whose head needed no parser."""
        count = self._left
        if len(data) > count:
            # As the parser has it: stray line ends are skipped, anything else begins an answer.
            if data[count:].strip(b"\r\n"):
                self.error = "more than one answer"
            data = data[:count]
            self.keep = False
        elif len(data) == count:
            self.keep = True
        if data:
            self.parts.append(data)
        self._left = count - len(data)
        self.complete = not self._left

    def _ended_exactly(self, data: bytes) -> bool:
        """Whether the answer's last byte is the read's last: the parser skips stray CRLFs."""
        if self.framing is _LENGTH and self.parts:
            return data.endswith(self.parts[-1])
        return data[-6:] != b"\r\n\r\n\r\n"[-6:]

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.clean = False
        self._pool.forget(self)
        self._pool.open.discard(self)
        tunnel, owner = self.tunnel, self.owner
        self.owner = self.tunnel = self.stream = self._even = None
        if tunnel is not None:
            tunnel.upstream_lost()
        elif owner is not None:
            if self.framing is Framing.UNTIL_CLOSE and self.head is not None:
                self.complete = self.clean and self.error is None
            owner.upstream_lost()

    def pause_writing(self) -> None:
        if self.tunnel is not None:
            self.tunnel.upstream_paused()
        elif self.owner is not None:
            self.owner.upstream_paused()

    def resume_writing(self) -> None:
        if self.tunnel is not None:
            self.tunnel.upstream_resumed()
        elif self.owner is not None:
            self.owner.upstream_resumed()

    # --- what the parser calls ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self.error = "more than one answer"

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        headers, self._headers = self._headers, []
        if self.complete:
            return
        if status < 200 and status != 101:
            self._is_interim = True
            self._interim += 1
            if self._interim > _INTERIM_MAX:
                self.error = "too many interim answers"
            return
        try:
            head = read_answer(status, parser.get_http_version(), headers, cors=self._pool.cors)
        except MalformedError as error:
            self.error = f"malformed head: {error}"
            return
        if len(head.lines) > self._head_bytes_max:
            self.error = "the head is too long"
            return
        self.head = head
        self.framing = framing = of_upstream(self._method, head)
        if framing is _NO_BODY:
            # llhttp would wait for the body that a Content-Length announces here.
            self.complete = self._head_only = True
            self.keep = not head.close

    def on_chunk_header(self) -> None:
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        self._chunk_ended = True

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
            return
        if not self.complete:
            self.complete = True
            self.keep = self._parser.should_keep_alive()  # type: ignore[union-attr]

    # --- what the owner calls -------------------------------------------------------------------

    def done(self, now: float) -> None:
        """The answer was taken: back into the pool, or closed."""
        self.owner = self.stream = self._even = None
        if (
            self.complete
            and self.keep
            and self.error is None
            and not self.ended
            and not self.transport.is_closing()
        ):
            if self._head_only:
                self._parser = None
            self.parts.clear()
            self._pool.put(self, now)
        else:
            self.drop()

    def forget_head(self) -> None:
        """The next head is read by the parser, whether or not it is known."""
        self._known = None

    def drop(self) -> None:
        """Close at once; nothing more is heard of it."""
        self.owner = self.tunnel = self.stream = self._even = None
        self.parts.clear()
        if not self.transport.is_closing():
            self.transport.abort()


class Pool:
    """Kept connections by upstream, last in first out. `open` is every connection there is."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        idle_s: float,
        kept_max: int,
        head_bytes_max: int,
    ) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._kept_max = kept_max
        self.head_bytes_max = head_bytes_max
        #: Engines' Access-Control-… headers pass.
        self.cors = False
        self._kept: dict[Upstream, list[Uplink]] = {}
        self.open: set[Uplink] = set()

    def take(self, node: Upstream) -> Uplink | None:
        """The one that was used last, or None."""
        kept = self._kept.get(node)
        while kept:
            link = kept.pop()
            if not link.ended and not link.transport.is_closing():
                link.reused = True
                return link
        return None

    async def connect(self, node: Upstream) -> Uplink:
        """A fresh one. Raises OSError; the caller bounds the time it takes."""
        _, link = await self._loop.create_connection(
            lambda: Uplink(self, node), node.host, node.port, ssl=node.tls
        )
        return link

    def put(self, link: Uplink, now: float) -> None:
        kept = self._kept.get(link.node)
        if kept is None:
            kept = self._kept[link.node] = []
        if len(kept) >= self._kept_max:
            link.drop()
            return
        link.idle_until = now + self._idle_s
        kept.append(link)

    def let_cors(self, cors: bool) -> None:
        """From the next answer on: heads that are known were read under the old word."""
        if cors is not self.cors:
            self.cors = cors
            for link in self.open:
                link.forget_head()

    def forget(self, link: Uplink) -> None:
        """It closed, or is to be: never hand it out again."""
        kept = self._kept.get(link.node)
        if kept and link in kept:
            kept.remove(link)

    @property
    def kept(self) -> int:
        return sum(map(len, self._kept.values()))

    def sweep(self, now: float) -> None:
        """Close what was idle too long. The oldest stand first."""
        for node, kept in list(self._kept.items()):
            expired = 0
            for link in kept:
                if link.idle_until > now:
                    break
                expired += 1
            for link in kept[:expired]:
                link.drop()
            del kept[:expired]
            if not kept:
                del self._kept[node]

    def close(self) -> None:
        """Close every connection."""
        self._kept.clear()
        for link in list(self.open):
            link.transport.abort()


ConnectDone = Callable[[Uplink], None]
