"""What the client of a stream hears before its first event, where `comment_every_s` is set.

    asked ─ comment_every_s ─▶ 200, a stream ─▶ `: keep-alive` … ─▶ the first event, and on
                                                              └──▶ an event that tells why not

The head goes out before anybody has answered, so it names no service: what it could not say comes
as a comment, line by line, before what follows. Attempts go on behind it as they would. But an
upstream's error answer, and the router's own last word, can only be told as events.
"""

import asyncio

from common import clock
from router import errors, quoted
from router.answering import CHUNKED, QUOTED, SSE_LINES, UNTIL_CLOSE, header_text
from router.downstream import connection_line
from router.ending import Ending
from router.errors import Problem
from router.framing import LAST_CHUNK, chunk
from router.head import AnswerHead, status_line
from router.outcome import Failure, of_status
from router.uplink import Uplink

COMMENT = b": keep-alive\n\n"
#: Of an error answer, so much is read for what it says.
_QUOTED_BYTES_MAX = 65_536


class Commenting(Ending):
    _every_s = 0.0

    def _comment_every(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, until something was answered."""
        self._every_s = seconds
        self._commenting = loop.call_later(seconds, self._comment, loop)

    def _comment(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing came for so long."""
        self._commenting = None
        if self._first_byte:
            return
        self._commenting = loop.call_later(self._every_s, self._comment, loop)
        if not self._client.paused:
            out = b"" if self._opened else self._open()
            self._write(out + self._framed(COMMENT))

    def _open(self) -> bytes:
        """The head, as far as it is known. From here on nothing but events can be said."""
        client, head = self._client, self._head
        self._opened = True
        self._status = 200
        self._framing = UNTIL_CLOSE if head.http10 else CHUNKED
        client.closing = client.closing or head.http10 or head.wants_close or client.state.draining
        return (
            b"%bcontent-type: text/event-stream; charset=utf-8\r\n%b%bx-request-id: %b\r\n%b\r\n"
            % (
                status_line(200),
                SSE_LINES,
                b"" if head.http10 else b"transfer-encoding: chunked\r\n",
                self._id,
                connection_line(client.closing, head.http10),
            )
        )

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._framing is CHUNKED else data

    def _late_head(self, head: AnswerHead, now: float) -> bytes:
        ticket, attempt = self._ticket, self._attempt
        assert ticket is not None and attempt is not None
        self._first_byte = now
        self._status = head.status
        lines = b"x-creche-service: %b\r\nx-creche-attempts: %d\r\n" % (
            header_text(attempt.upstream.name),
            attempt.number,
        )
        model = ticket.answer_model or self._model
        if model is not None:
            lines += b"x-creche-model: %b\r\n" % header_text(model)
        if head.status >= 400:
            lines += b"x-creche-error: upstream\r\n"
        return self._framed(comment_of(lines + ticket.answer_head))

    def _tell(self, problem: Problem) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in errors.headers(problem))
        self._last_word(comment_of(lines.encode("latin-1", "replace")), problem)

    def _last_word(self, comment: bytes, problem: Problem) -> None:
        event = errors.event(problem, self._route.family, request_id=self._id.decode("latin-1"))
        end = LAST_CHUNK if self._framing is CHUNKED else b""
        self._write(self._framed(comment + event) + end)
        self._client.closing = True

    # --- an answer that is no stream --------------------------------------------------------------

    def _quote(self, link: Uplink, head: AnswerHead) -> None:
        if head.status < 400:
            # A stream was asked for, and another may give one: this cannot be passed on any more.
            self._failed(Failure.MALFORMED)
            return
        self._unhedge()
        self._phase = QUOTED
        self._relay_quoted(link)

    def _relay_quoted(self, link: Uplink) -> None:
        """An error answer comes in: when it is there, it is told."""
        if link.parts:
            self._held += b"".join(link.parts)
            link.parts.clear()
        if link.error is not None:
            self._failed(Failure.MALFORMED)
            return
        if not link.complete and len(self._held) <= _QUOTED_BYTES_MAX:
            return
        head, attempt = link.head, self._attempt
        assert head is not None and attempt is not None
        now = clock.monotonic()
        body = b"" if head.encoded else self._held
        self._link = None
        self._held = b""
        link.done(now)
        self._write(self._late_head(head, now))
        self._last_word(b"", quoted.problem(head.status, body, attempt.upstream.name))
        self._end(of_status(head.status, self._retry_after), None, now)


def comment_of(lines: bytes) -> bytes:
    """Whole header lines as one comment."""
    return b"".join(b": %b\n" % line for line in lines.split(b"\r\n") if line) + b"\n"
