"""How a request goes out to one upstream: its head, then its body from memory or disk.

What stays the same while a client says the same (request line, passing headers, X-Forwarded-*) is
written once per Head. A body goes under one Content-Length, whatever it came under.
"""

from common import clock
from router.answering import ASKED, Answering
from router.body import Bodies, Body, Pump, length, segments
from router.config import Timeouts
from router.downstream import Client
from router.edit import Edit
from router.errors import Problem
from router.seam import Attempt
from router.uplink import Uplink

#: A body up to this goes out in one piece with its head.
_JOINED_BYTES_MAX = 65_536


class Asking(Answering):
    _body: Body
    _bodies: Bodies
    _timeouts: Timeouts
    _pump: Pump | None = None
    #: Bytes of the request of this attempt went out.
    _sent = False
    #: The next connection must be a fresh one: a reused one has just failed.
    _fresh = False

    def upstream_received(self) -> None:
        raise NotImplementedError

    def upstream_lost(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        """Give the connection back, or up."""
        raise NotImplementedError

    def _problem(self, problem: Problem) -> None:
        """The last word is the router's own."""
        raise NotImplementedError

    def _send(self, link: Uplink, now: float) -> None:
        """The request goes out. Everything written here can be written again to another."""
        attempt, head, body = self._attempt, self._head, self._body
        assert attempt is not None
        upstream = attempt.upstream
        self._link = link
        self._fresh = False
        self._phase = ASKED
        self._sent = True
        link.ask(self, head.method)
        start = head.start
        if not start:
            start = self._write_start()
        if upstream.paths is not None:
            start = _request_line(head.method, upstream.paths.under(head.target))
        if attempt.edit is None and not body.on_disk:
            data = body.whole()
            if data and len(data) <= _JOINED_BYTES_MAX:
                # Joining small ones costs less than a second system call.
                link.transport.write(
                    b"%b%b%b%b\r\ncontent-length: %d\r\n\r\n%b"
                    % (start, upstream.head, head.tail, self._id, len(data), data)
                )
                self._await_answer(attempt, now)
                return
        self._send_other(link, attempt, start, now)

    def _send_other(self, link: Uplink, attempt: Attempt, start: bytes, now: float) -> None:
        """No body, a large or an edited one, or one on disk."""
        head, body = self._head, self._body
        edit = attempt.edit
        if edit is not None and head.websocket:
            # It has no body: its model stands in its query.
            target = _edited(head.target, edit)
            paths = attempt.upstream.paths
            start = _request_line(head.method, target if paths is None else paths.under(target))
            edit = None
        parts = segments(body, edit)
        count = length(parts)
        if count or head.content_length is not None or head.chunked:
            ending = b"content-length: %d\r\n\r\n" % count
        elif head.websocket:
            ending = b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        else:
            ending = b"\r\n"
        out = b"%b%b%b%b\r\n%b" % (start, attempt.upstream.head, head.tail, self._id, ending)
        if body.on_disk:
            link.transport.write(out)
            self._client.deadline = now + self._timeouts.body_idle_s
            pump = self._pump = Pump(body, parts, self._pump_write, self._pumped, self._pump_broke)
            pump.start(self._bodies)
            return
        link.transport.writelines((out, *(part for part in parts if isinstance(part, bytes))))
        self._await_answer(attempt, now)

    def request_for(self, attempt: Attempt) -> bytes:
        """The whole of it, from memory, as it goes to this upstream."""
        head, upstream = self._head, attempt.upstream
        start = head.start or self._write_start()
        if upstream.paths is not None:
            start = _request_line(head.method, upstream.paths.under(head.target))
        parts = segments(self._body, attempt.edit)
        ending = b"content-length: %d\r\n\r\n" % length(parts)
        whole = (part for part in parts if isinstance(part, bytes))
        return b"".join((start, upstream.head, head.tail, self._id, b"\r\n", ending, *whole))

    def _write_start(self) -> bytes:
        """Request line and last header lines, for this and all requests that say the same."""
        head, client = self._head, self._client
        if head.forwarded is not None and client.trusted:
            forwarded = _trusted_lines(head.forwarded, client, head.host)
        else:
            forwarded = b"%bX-Forwarded-Host: %b\r\n" % (client.forwarded, head.host)
        head.tail = b"%b%bx-request-id: " % (head.lines, forwarded)
        head.start = start = _request_line(head.method, head.target)
        return start

    def _await_answer(self, attempt: Attempt, now: float) -> None:
        timeouts = self._timeouts
        if self._stream:
            limit = attempt.first_event_s
            deadline = now + (timeouts.first_event_s if limit is None else limit)
        else:
            limit = attempt.total_s
            deadline = self._until = now + (timeouts.total_s if limit is None else limit)
        if not self._client.paused:
            self._client.deadline = deadline

    def _pump_write(self, data: bytes) -> None:
        link = self._link
        if link is not None and not link.transport.is_closing():
            self._client.deadline = clock.monotonic() + self._timeouts.body_idle_s
            link.transport.write(data)

    def _pumped(self) -> None:
        self._pump = None
        if self._phase == ASKED:
            assert self._attempt is not None
            self._await_answer(self._attempt, clock.monotonic())

    def _pump_broke(self) -> None:
        self._pump = None
        self._leave()
        self._problem(Problem(500, "the request's body could not be read", "internal"))

    def upstream_paused(self) -> None:
        if self._pump is not None:
            self._pump.pause()

    def upstream_resumed(self) -> None:
        if self._pump is not None:
            self._pump.resume(self._bodies)


def _request_line(method: str, target: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\n" % (method.encode("latin-1"), target)


def _edited(target: bytes, edit: Edit) -> bytes:
    path, mark, query = target.partition(b"?")
    return path + mark + query[: edit.start] + edit.text + query[edit.stop :]


def _trusted_lines(kept: dict[bytes, bytes], client: Client, host: bytes) -> bytes:
    """X-Forwarded-* behind a trusted proxy: its word, and its own address appended."""
    peer = client.peer.encode("latin-1")
    came = kept.get(b"x-forwarded-for")
    proto = kept.get(b"x-forwarded-proto", client.state.scheme.encode())
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (
        b"%b, %b" % (came, peer) if came else peer,
        proto,
        kept.get(b"x-forwarded-host", host),
    )
