"""One line per request, on stdout: JSON, or a short form on a terminal.

What ended is only appended on the request's path; lines are encoded and written together, every
50 ms. Where writing falls behind, lines are dropped and counted, never requests.
"""

import asyncio
import contextlib
import os
import queue
import select
import threading
from collections.abc import Callable

from msgspec import Struct
from msgspec.json import Encoder

from common import clock
from router.outcome import WORDS, Failure, Outcome
from router.plan import Plan
from router.seam import End

EVERY_S = 0.05
#: Ends that wait for the next writing; at 10,000 requests a second a batch holds 500.
WAITING_MAX = 20_000

Write = Callable[[bytes | bytearray], None]
Job = tuple[bytes, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Line(Struct, omit_defaults=True):
    """Flat, stable order, units last, nulls omitted."""

    ts: str
    event: str
    outcome: str
    id: str
    model: str | None = None
    service: str | None = None
    attempts: int | None = None
    status: int | None = None
    key: str | None = None
    queue_ms: int | None = None
    first_byte_ms: int | None = None
    total_ms: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    resumed: int | None = None
    hedged: str | None = None
    cache: str | None = None
    error: str | None = None


_encode_into = Encoder().encode_into

_WHY = {
    Failure.ENDED_EARLY: "ended early",
    Failure.STALLED: "stalled",
    Failure.MALFORMED: "malformed",
    Failure.CONNECT: "connect failed",
    Failure.CLOSED: "closed before an answer",
    Failure.REUSED_CLOSED: "closed before an answer",
    Failure.NO_ANSWER: "no answer in time",
    Failure.FIRST_EVENT_ERROR: "first event is an error",
    Failure.CLIENT_LEFT: None,
}


def error_of(plan: Plan, end: End) -> str | None:
    """Why it was not well, in a word or a few; None where it was."""
    if end.failure is not None:
        return _WHY[end.failure]
    if plan.problem is None or end.upstream_spoke:
        return None
    return plan.problem.code


def line(plan: Plan, end: End, ts: str) -> Line:
    started = plan.started
    return Line(
        ts,
        "request",
        WORDS[end.outcome],
        plan.id,
        plan.model,
        plan.service,
        plan.attempts,
        end.status,
        plan.caller.name or None,
        int(plan.queued_s * 1000 + 0.5),
        int((end.first_byte - started) * 1000 + 0.5) if end.first_byte else None,
        int((end.ended - started) * 1000 + 0.5),
        end.tokens_in,
        end.tokens_out,
        plan.resumes or None,
        plan.hedged,
        plan.cache,
        None if end.outcome is _OK else error_of(plan, end),
    )


_OK = Outcome.OK
_SHORT = {
    Outcome.OK: "ok",
    Outcome.CUT: "CUT",
    Outcome.CLIENT: "4xx",
    Outcome.CANCELLED: "left",
    Outcome.REFUSED: "no",
}


def console(plan: Plan, end: End, time: str) -> str:
    """`09:14:03  ok   code → qwen3-coder@gpu-03   3.42 s  240 tok  2 attempts  01JD8Z7Q`."""
    word = _SHORT.get(end.outcome, "FAIL")
    if plan.service is None:
        who = plan.model or "-"
    elif plan.model is None or plan.service.startswith(plan.model + "@"):
        who = plan.service
    else:
        who = f"{plan.model} → {plan.service}"
    if not who.isprintable():  # a client chose these characters, and a terminal would obey them
        who = "".join(char if char.isprintable() else "?" for char in who)
    parts = [f"{time}  {word:<4} {who:<36}", _duration(end.ended - plan.started)]
    if end.outcome is not Outcome.OK:
        parts.append(str(end.status))
    if end.tokens_out is not None:
        parts.append(f"{end.tokens_out} tok")
    if plan.attempts > 1:
        parts.append(f"{plan.attempts} attempts")
    if plan.cache == "hit":
        parts.append("from the cache")
    if plan.resumes:
        parts.append(f"resumed {plan.resumes}")
    if plan.hedged is not None:
        parts.append(f"hedge {plan.hedged}")
    why = None if end.outcome is _OK else error_of(plan, end)
    if why:
        if end.stalled_s:
            why += f" {end.stalled_s:g} s"
        parts.append(f"{why} after {end.events} events" if end.events else why)
    return "  ".join([*parts, plan.id])


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


class AccessLog:
    """`append` is the Brain's log: it must cost next to nothing."""

    def __init__(self, write: Write, *, short: bool = False) -> None:
        self.dropped = 0
        self._write = write
        self._short = short
        self._waiting: list[tuple[Plan, End]] = []
        self._millisecond = -1
        self._stamp = ""

    def append(self, plan: Plan, end: End) -> None:
        waiting = self._waiting
        if len(waiting) < WAITING_MAX:
            waiting.append((plan, end))
        else:
            self.dropped += 1

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # Wall time of a monotonic moment: taken anew for each batch, so a set clock is followed.
        offset = clock.wall() - clock.monotonic()
        if self._short:
            lines = [console(p, e, self._at(e.ended + offset)[11:19]) for p, e in waiting]
            self._write(("\n".join(lines) + "\n").encode())
            return
        out = bytearray()
        for plan, end in waiting:
            _encode_into(line(plan, end, self._at(end.ended + offset)), out, -1)
            out += b"\n"
        self._write(out)

    async def run(self) -> None:
        """Until cancelled; then the rest is written."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                self.flush()
        finally:
            self.flush()

    def _at(self, unix_s: float) -> str:
        """`2026-11-21T09:14:03.221Z`; requests that end in one millisecond share it."""
        millisecond = int(unix_s * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            self._stamp = clock.wire_time(millisecond / 1000)[:23] + "Z"
        return self._stamp


class Pipe:
    """Writes to a file descriptor without ever blocking the loop for long.

    A pipe whose reader stands still must not stop requests: writing happens in a thread, one at a
    time, and what comes meanwhile waits up to a limit.
    """

    BYTES_MAX = 16 << 20

    def __init__(self, fd: int, *, shared: bool = False) -> None:
        """`shared`: another process writes lines there, too. None may end up inside another."""
        self._fd = fd
        self._write_all = _write_lines if shared else _write_all
        self._waiting = bytearray()
        self._busy: asyncio.Future[None] | None = None
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.dropped_bytes = 0

    def write(self, data: bytes | bytearray) -> None:
        if len(self._waiting) + len(data) > self.BYTES_MAX:
            self.dropped_bytes += len(data)
            return
        self._waiting += data
        if self._busy is None:
            self._start()

    async def drain(self, timeout_s: float = 1.0) -> None:
        """Wait until everything is written, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._busy is not None:
                    # What came meanwhile is written next, and waited for as well.
                    await asyncio.wait([self._busy])

    def _start(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        loop = asyncio.get_running_loop()
        self._busy = busy = loop.create_future()
        busy.add_done_callback(self._wrote)
        if self._thread is None:
            # A thread of its own: an executor's would be waited for at the end, for ever if the
            # pipe's reader stands still.
            self._thread = threading.Thread(target=self._work, name="accesslog", daemon=True)
            self._thread.start()
        self._jobs.put((data, loop, busy))

    def _work(self) -> None:
        while True:
            data, loop, busy = self._jobs.get()
            # Where the reader has gone there is nobody to tell.
            with contextlib.suppress(OSError):
                self._write_all(self._fd, data)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_settle, busy)

    def _wrote(self, _: "asyncio.Future[None]") -> None:
        self._busy = None
        if self._waiting:
            self._start()


def _settle(busy: "asyncio.Future[None]") -> None:
    if not busy.done():
        busy.set_result(None)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_lines(fd: int, data: bytes) -> None:
    """In pieces that a pipe takes whole or not yet, each of whole lines."""
    while data:
        end = len(data)
        if end > select.PIPE_BUF:
            end = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or data.find(b"\n") + 1 or end
        _write_all(fd, data[:end])
        data = data[end:]
