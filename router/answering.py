"""How an answer reaches the client, once an upstream began one: the writing part of an Exchange.

    head ─▶ PLAIN: passed on as it comes, under framing of ours
         └▶ HELD: an event stream, until its first event with data ─▶ EVENTS: whole events only

What ends badly before anything was written goes to `_failed` (another attempt may follow), after it
to `_cut`; what ends well to `_finish`. Tokens and terminal markers are read from what passed last.
Where a stream may be resumed it is held a second time, for what another upstream says first.
"""

from urllib.parse import quote

from common import clock
from router import events
from router.downstream import Client, connection_line
from router.events import Splitter
from router.framing import LAST_CHUNK, Framing
from router.head import AnswerHead, Head, status_line
from router.inbound import NEVER
from router.outcome import Failure
from router.resume import Resume
from router.route import Route
from router.seam import Attempt, Collector, End, Ticket
from router.spliced import Spliced
from router.stream import Stream
from router.uplink import Uplink

#: A plain answer up to this is kept to be read for its tokens.
USAGE_BYTES_MAX = 256 * 1024
#: What is kept of a stream for its tokens and its terminal marker.
_TAIL_BYTES = 32 * 1024

# Plain numbers: an enum's member costs a look-up each time, and these are asked per event.
READ, WAIT, CONNECT, ASKED, HELD, QUOTED, EVENTS, PLAIN, TUNNEL, DONE = range(10)
NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = Framing


class Answering:
    """Defaults stand on the class: a request changes few of them, and each costs time."""

    _client: Client
    _head: Head
    _route: Route
    _id: bytes
    _event_bytes_max: int
    _chunk_s: float
    _phase = READ
    _ticket: Ticket | None = None
    _attempt: Attempt | None = None
    _link: Uplink | None = None
    _framing = NO_BODY
    #: Before an event stream is committed: its splitter, and whole events that wait.
    _splitter: Splitter | None = None
    _held = b""
    #: Once it is.
    _events: Stream | None = None
    #: What it said so far, where it may be resumed.
    _resume: Resume | None = None
    #: Bytes it had passed when its limit was last looked at, and how often it had not moved.
    _seen = 0
    _quiet = 0
    #: A small plain answer, for its usage. None: too long, or no JSON.
    _kept: list[bytes] | None = None
    #: Who wants the answer as well, as it passes.
    _collector: Collector | None = None
    #: The body says `stream: true`.
    _stream = False
    #: Comments, or a second upstream, may come before its answer.
    _impatient = False
    #: A head and comments went out before anybody had answered.
    _opened = False
    _model: str | None = None
    #: When the whole request must have ended.
    _until = NEVER
    _status = 0
    _first_byte = 0.0
    _bytes_out = 0

    # --- how it ends: the other half's ------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        raise NotImplementedError

    def _cut(self, failure: Failure) -> None:
        raise NotImplementedError

    def _finish(self, link: Uplink) -> None:
        raise NotImplementedError

    def _committed(self) -> None:
        """The request will not be sent again, unless to resume its answer."""
        raise NotImplementedError

    def _resumable(self) -> Resume | None:
        """To remember its answer by. None: that may not be resumed, for what is asked."""
        raise NotImplementedError

    # --- what may have come before its answer: `hedging`, `commenting` ----------------------------

    def _unhedge(self) -> None:
        """This answer it is: nobody else is asked any more."""
        raise NotImplementedError

    def _late_head(self, head: AnswerHead, now: float) -> bytes:
        """What a head would have said."""
        raise NotImplementedError

    # --- writing ----------------------------------------------------------------------------------

    def _answer_head(self, head: AnswerHead, now: float) -> bytes:
        """The head for the client. From here on the request is committed to this upstream."""
        if self._impatient:
            self._unhedge()
            if self._opened:
                return self._late_head(head, now)
        ticket, attempt, client = self._ticket, self._attempt, self._client
        assert ticket is not None and attempt is not None
        self._first_byte = now
        status = self._status = head.status
        framing = self._framing
        if (
            client.closing
            or self._head.wants_close
            or client.state.draining
            or framing is UNTIL_CLOSE
        ):
            client.closing = True
        if framing is CHUNKED:
            frame = b"transfer-encoding: chunked\r\n"
        elif framing is UNTIL_CLOSE or head.content_length is None or status == 204:
            frame = b""
        else:
            frame = b"content-length: %d\r\n" % head.content_length
        start = head.start
        if not start:
            start = head.start = b"%b%b%b" % (
                status_line(status),
                head.lines,
                SSE_LINES if self._phase == HELD else head.cache_lines,
            )
        link = self._link
        assert link is not None
        if attempt.number == 1:
            service = link.service_lines
        else:
            service = b"x-creche-service: %b\r\nx-creche-attempts: %d\r\n" % (
                attempt.upstream.name.encode("latin-1", "replace"),
                attempt.number,
            )
        model = ticket.answer_model or self._model
        lines = b"" if model is None else (_model_lines.get(model) or _model_line(model))
        if status >= 400:
            lines += b"x-creche-error: upstream\r\n"
        if client.closing or self._head.http10:
            lines += connection_line(client.closing, self._head.http10)
        return b"%b%bx-request-id: %b\r\n%b%b%b\r\n" % (
            start,
            frame,
            self._id,
            service,
            lines,
            ticket.answer_head,
        )

    def _relay_plain(self, link: Uplink, out: bytes) -> None:
        """Pass on what came; `out` is the head, the first time."""
        parts = link.parts
        if link.error is not None and out:
            self._first_byte = 0.0
            self._status = 0
            self._failed(Failure.MALFORMED)
            return
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._bytes_out += len(data)
            kept = self._kept
            if kept is not None:
                if self._bytes_out > USAGE_BYTES_MAX:
                    self._kept = None
                else:
                    kept.append(data)
            if self._collector is not None:
                self._collect(data)
            if self._framing is CHUNKED:
                out = b"%b%x\r\n%b\r\n" % (out, len(data), data)
            else:
                out = out + data if out else data
        if link.error is not None:
            self._write(out)
            self._cut(Failure.MALFORMED)
            return
        if link.complete:
            if self._framing is CHUNKED:
                out += LAST_CHUNK
            self._write(out)
            self._finish(link)
            return
        self._write(out)
        self._deadline(clock.monotonic() + self._chunk_s if self._stream else self._until)

    def _collect(self, data: bytes) -> None:
        assert self._collector is not None
        if not self._collector.add(data):
            self._collector = None

    def _write(self, data: bytes) -> None:
        if data and not self._client.transport.is_closing():
            self._client.transport.write(data)

    def _relay_held(self, link: Uplink) -> None:
        """Before the first event with data nothing is committed: it may be an error."""
        splitter, head = self._splitter, link.head
        assert splitter is not None and head is not None
        found = None
        if link.parts:
            data = b"".join(link.parts)
            link.parts.clear()
            try:
                whole = splitter.feed(data)
            except events.TooLongError:
                self._failed(Failure.MALFORMED)
                return
            if whole:
                self._held += whole
                found = events.first_data(whole)
        if found is None:
            if link.error is not None or len(self._held) > self._event_bytes_max:
                self._failed(Failure.MALFORMED)
                return
            if not link.complete:
                return
        elif events.is_error(*found):
            self._failed(Failure.FIRST_EVENT_ERROR)
            return
        held, self._held = self._held, b""
        attempt = self._attempt
        assert attempt is not None
        if attempt.resume:
            self._relay_resumable(link, splitter, held, spoke=found is not None)
            return
        out = self._answer_head(head, clock.monotonic())
        self._phase = EVENTS
        self._committed()
        stream = self._events = Stream(
            link.parts,
            splitter,
            self._client.transport.write,
            chunked=self._framing is CHUNKED,
        )
        if self._collector is None:
            link.stream = stream
        self._write(out + stream.begin(held))
        if self._collector is not None:
            # Every read of it comes here: the connection passes on none by itself.
            self._collect(held)
        self._relay_events(link)

    def _relay_resumable(self, link: Uplink, splitter: Splitter, held: bytes, spoke: bool) -> None:
        """What was held of a stream that may be resumed: of its first engine, or of another."""
        head, ticket, stream = link.head, self._ticket, self._events
        assert head is not None and ticket is not None
        if isinstance(stream, Spliced):
            if not spoke:
                self._failed(Failure.MALFORMED)
                return
            self._phase = EVENTS
            self._write(stream.go_on(link.parts, splitter, held))
            self._relay_events(link)
            return
        said = self._resumable()
        if said is not None:
            held = said.take(held)
        mode = None if said is None else said.mode
        ticket.answer_head += b"x-creche-resume: %b\r\n" % (mode or "none").encode()
        out = self._answer_head(head, clock.monotonic())
        self._phase = EVENTS
        write, chunked = self._client.transport.write, self._framing is CHUNKED
        if said is None:
            stream = Stream(link.parts, splitter, write, chunked=chunked)
            if self._collector is None:
                link.stream = stream
        else:
            # Every read of it comes here: the connection passes on none by itself.
            self._resume = said
            stream = Spliced(link.parts, splitter, write, said, chunked=chunked)
        self._events = stream
        self._committed()
        self._write(out + stream.begin(held))
        if self._collector is not None:
            self._collect(held)
        self._relay_events(link)

    def _relay_events(self, link: Uplink) -> None:
        """What came of a running stream, where `Stream.pass_on` would not take it."""
        stream = self._events
        assert stream is not None
        try:
            out = stream.whole()
        except events.TooLongError:
            self._cut(Failure.MALFORMED)
            return
        if self._collector is not None and out:
            self._collect(stream.last)
        said = self._resume
        if said is not None and (said.error or (link.complete and link.error is None)):
            assert isinstance(stream, Spliced)
            out += stream.last_words()
            if said.error or not said.ended:
                # An engine that is stopped may end its answer in good order, halfway.
                self._write(out)
                self._cut(Failure.ENDED_EARLY)
                return
        if link.error is not None:
            self._write(out)
            self._cut(Failure.MALFORMED)
        elif link.complete:
            self._write(out + stream.end())
            self._finish(link)
        else:
            self._write(out)
            self._moved()

    def _moved(self) -> None:
        """Looked at four times in its limit, so that an event need not touch the clock."""
        self._quiet = 0
        self._deadline(clock.monotonic() + self._chunk_s / 4)

    def _stalls(self) -> bool:
        """The deadline of a running stream has come: whether nothing came for the whole limit."""
        stream = self._events
        if stream is not None:
            stream.count()
            if stream.bytes_out != self._seen:
                self._seen = stream.bytes_out
                self._quiet = 0
        self._quiet += 1
        if self._quiet > 4:
            return True
        self._deadline(clock.monotonic() + self._chunk_s / 4)
        return False

    def _deadline(self, at: float) -> None:
        # While the client takes nothing, its own limit runs instead.
        if not self._client.paused:
            self._client.deadline = at

    def _read_usage(self, end: End) -> None:
        stream = self._events
        if stream is not None:
            stream.count()
            end.events = stream.events
            end.bytes_out = stream.bytes_out
            tail = (stream.before + stream.last)[-_TAIL_BYTES:]
            end.done_marker = events.has_marker(self._route.family, tail)
            first = stream.first[:_TAIL_BYTES]
            found = events.usage_of_events(first, tail)
        elif self._kept:
            kept = self._kept
            body = kept[0] if len(kept) == 1 else b"".join(kept)
            found = events.usage_of_answer(body)
        else:
            return
        end.tokens_in, end.tokens_out, end.tokens_cached = found


#: Written once; bounded, since names come from outside.
_model_lines: dict[str, bytes] = {}
_MODEL_LINES_MAX = 1_000


def _model_line(model: str) -> bytes:
    line = b"x-creche-model: %b\r\n" % header_text(model)
    if len(_model_lines) < _MODEL_LINES_MAX:
        _model_lines[model] = line
    return line


SSE_LINES = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


def header_text(text: str) -> bytes:
    """`text` as it may stand in a header: a model's name comes from outside."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return quote(text, safe=" /:@+,;=").encode()
