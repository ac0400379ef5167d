"""An answer that is there already goes out whole: no upstream is asked.

Its body is the same bytes as the first time, under framing of this client's own: an event stream
in one chunk, anything else under a length.
"""

from router.answering import SSE_LINES, header_text
from router.commenting import Commenting, comment_of
from router.downstream import connection_line
from router.framing import LAST_CHUNK, chunk
from router.head import status_line
from router.outcome import Outcome
from router.seam import Replay


class Replaying(Commenting):
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
            self._write(self._framed(comment_of(lines) + body))
            if not http10:
                self._write(LAST_CHUNK)
            self._end(Outcome.OK, None, now)
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
            body = chunk(body) + LAST_CHUNK
        self._write(out + body)
        self._end(Outcome.OK, None, now)
