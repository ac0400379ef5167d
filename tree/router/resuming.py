"""A stream that breaks off goes on elsewhere: what is asked for it, kept of it, and said after it.

    asked with or without token ids ─▶ remembered ─▶ cut ─▶ the rest is asked for ─▶ spliced
                                                      └──▶ nobody has it: broken off, in-band

What may be resumed, and how, `router.resume` decides; who is asked for it, `router.plan`.
"""

from common import clock
from router import resume
from router.answering import CHUNKED, HELD
from router.edit import Edit
from router.ending import Ending
from router.events import Splitter
from router.framing import LAST_CHUNK
from router.head import AnswerHead
from router.outcome import Failure, Outcome
from router.resume import Resume
from router.seam import Attempt
from router.spliced import Spliced
from router.uplink import Uplink


class Resuming(Ending):
    def _try(self, attempt: Attempt, now: float) -> None:
        """Ask this upstream."""
        raise NotImplementedError

    def _ask_resumable(self, attempt: Attempt) -> None:
        """What is asked of an upstream beside the request itself, or in its place."""
        body, said, ticket = self._body, self._resume, self._ticket
        assert ticket is not None
        if said is not None:
            attempt.edit = Edit(0, body.size, said.body(ticket.answer_model))
        elif attempt.resume == "tokens" and not body.on_disk and resume.tells_ids(self._head.path):
            data, edit = body.whole(), attempt.edit
            if edit is not None:
                data = data[: edit.start] + edit.text + data[edit.stop :]
            asking = resume.asking_ids(data)
            if asking is not None:
                attempt.edit = Edit(0, body.size, asking)

    def _resumable(self) -> Resume | None:
        """To remember its answer by. None: that may not be resumed, for what is asked."""
        if self._body.on_disk:
            return None
        request = resume.read(self._head.path, self._body.whole())
        return None if request is None else Resume(request, self._gateway.limits.resume_bytes_max)

    def _committed(self) -> None:
        if self._resume is None:
            self._body.release()

    def _cut(self, failure: Failure) -> None:
        """The answer cannot be completed and the client has had a part of it: say so, in-band
        where the answer has a band, else by breaking off so that it cannot look whole."""
        link, self._link = self._link, None
        if link is not None:
            link.drop()
        stream = self._events
        if isinstance(stream, Spliced):
            told = stream.resume.error
            if self._goes_on(stream, clock.monotonic()):
                return
            self._break_off(failure, told)
            return
        if stream is not None and self._attempt is not None and self._attempt.resume:
            assert self._ticket is not None
            self._ticket.lost(clock.monotonic())
            self._unresumable = True
        self._break_off(failure)

    def _goes_on(self, stream: Spliced, now: float) -> bool:
        """A stream broke off that may be resumed: whether it is, or had nothing more to say."""
        ticket, said = self._ticket, stream.resume
        assert ticket is not None
        ticket.lost(now)
        rest = said.cut()
        if rest is None:
            self._unresumable = True
            return False
        self._write(stream.say(rest.out))
        if not rest.more:
            if self._framing is CHUNKED:
                self._write(LAST_CHUNK)
            self._end(Outcome.OK, None, now)
            return True
        step = ticket.resume(now)
        if not isinstance(step, Attempt):
            return False
        self._fresh = False
        self._try(step, now)
        return True

    def _continued(self, link: Uplink, head: AnswerHead, now: float) -> None:
        """Another upstream was asked for the rest of a stream, and answered."""
        if head.status != 200 or not head.event_stream or head.encoded:
            assert self._ticket is not None
            self._ticket.declined(head.status, now)
            self._leave()
            self._break_off(Failure.ENDED_EARLY)
            return
        if self._client.paused:
            link.transport.pause_reading()
        self._phase = HELD
        self._splitter = Splitter(self._gateway.limits.event_bytes_max)
        self._relay_held(link)
