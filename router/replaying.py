"""An answer that is there already goes out: no upstream is asked.

Its body is the same bytes as the first time, under framing of this client's own: an event stream
in one chunk, anything else under a length. All who are given it share those bytes: a client gets a
slice when it has taken the one before.
"""

from common import clock
from router.answering import PLAIN, SSE_LINES, header_text
from router.commenting import Commenting, comment_of
from router.downstream import connection_line
from router.framing import LAST_CHUNK
from router.head import status_line
from router.inbound import NEVER
from router.outcome import Outcome
from router.seam import Replay

#: What is written at once: more waits until a client that is slow has taken it.
SLICE_BYTES = 64 * 1024


class Replaying(Commenting):
    #: What is left of the body, and what follows it.
    _rest: memoryview | None = None
    _tail = b""

    def _replay(self, step: Replay, now: float) -> None:
        client, head, ticket = self._client, self._head, self._ticket
        assert ticket is not None
        body, http10 = step.body, head.http10
        lines = ticket.answer_head
        model = ticket.answer_model or self._model
        if model is not None:
            lines += b"x-creche-model: %b\r\n" % header_text(model)
        self._first_byte = now
        self._status = 200
        self._bytes_out = len(body)
        if self._opened:
            # Comments came first: it is a stream, and what its head would have said is one more.
            comment = self._framed(comment_of(lines))
            start = b"" if http10 else b"%x\r\n" % len(body)
            self._give(comment + start, body, b"" if http10 else b"\r\n" + LAST_CHUNK, now)
            return
        client.closing = client.closing or head.wants_close or client.state.draining
        if not step.events:
            frame = b"content-length: %d\r\n" % len(body)
        elif http10:
            client.closing = True
            frame = SSE_LINES
        else:
            frame = SSE_LINES + b"transfer-encoding: chunked\r\n"
        out = b"%bcontent-type: %b\r\n%bx-request-id: %b\r\n%b%b\r\n" % (
            status_line(200),
            step.type,
            frame,
            self._id,
            lines,
            connection_line(client.closing, http10),
        )
        if step.events and not http10:
            self._give(out + b"%x\r\n" % len(body), body, b"\r\n" + LAST_CHUNK, now)
        else:
            self._give(out, body, b"", now)

    def _give(self, head: bytes, body: bytes, tail: bytes, now: float) -> None:
        if len(body) <= SLICE_BYTES:
            self._write(head + body + tail)
            self._end(Outcome.OK, None, now)
            return
        self._phase = PLAIN
        self._client.deadline = NEVER
        self._rest, self._tail = memoryview(body), tail
        self._write(head)
        self._give_on(now)

    def _give_on(self, now: float) -> None:
        rest = self._rest
        assert rest is not None
        while rest and not self._client.paused:
            self._write(bytes(rest[:SLICE_BYTES]))
            rest = rest[SLICE_BYTES:]
        self._rest = rest
        if not rest:
            self._rest = None
            self._write(self._tail)
            self._end(Outcome.OK, None, now)

    def client_resumed(self) -> None:
        if self._rest is None:
            super().client_resumed()
        else:
            self._client.deadline = NEVER
            self._give_on(clock.monotonic())
