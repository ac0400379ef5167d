"""Request bodies, whole before an upstream is chosen: in memory while small, else on disk.

    add ─▶ memory ── grows past body_memory_bytes ─▶ unlinked temporary file, written off the loop
    finish ─▶ `done()` when every byte is where it stays
    release ─▶ memory, disk and file come back (on every path; tests count `Bodies.memory`, `.disk`)

`Bodies` counts all bodies of this process; an `add` over a cap raises FullError (503), over
body_bytes_max TooLargeError (413).
"""

import asyncio
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from router.edit import Edit

T = TypeVar("T")

#: One write to disk gathers at least this, if more is to come: a system call per read is too many.
_WRITE_BYTES = 256 * 1024
#: Reading from the client pauses above this backlog towards the disk, and goes on below half.
BACKLOG_BYTES_MAX = 4 * 1024 * 1024
#: One read from disk on the way to an upstream.
READ_BYTES = 256 * 1024
#: Disks serve few at once; more threads only queue in the kernel.
_THREADS = 4


class TooLargeError(Exception):
    """More than body_bytes_max."""


class FullError(Exception):
    """The caps over all bodies are reached."""


class Bodies:
    """The caps, and who writes. Sizes in bytes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        body_bytes_max: int,
        body_memory_bytes: int,
        memory_bytes_max: int,
        disk_bytes_max: int,
        folder: str | None = None,
    ) -> None:
        self.loop = loop
        self.body_bytes_max = body_bytes_max
        self.body_memory_bytes = body_memory_bytes
        self.memory_bytes_max = memory_bytes_max
        self.disk_bytes_max = disk_bytes_max
        #: None: the system's folder for temporary files.
        self.folder = folder
        self.memory = 0
        self.disk = 0
        self._executor: ThreadPoolExecutor | None = None

    def run(self, act: Callable[[], T]) -> "asyncio.Future[T]":
        """`act` off the loop."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="body")
        return self.loop.run_in_executor(self._executor, act)

    def fits(self, count: int) -> bool:
        """Whether a body of this size would find room now."""
        if count <= self.body_memory_bytes:
            return self.memory + count <= self.memory_bytes_max
        return self.disk + count <= self.disk_bytes_max

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


class Body:
    """One request's body. `size` counts what was added, wherever it is.

    Defaults stand on the class: most bodies are small, and change few of them.
    """

    size = 0
    on_disk = False
    #: What this body has taken of the two caps.
    _memory = 0
    _disk = 0
    _fd = -1
    _offset = 0
    _writing = False
    _finished = False
    _released = False
    _pending: list[bytes] = []  # noqa: RUF012 (never changed in place before it is replaced)
    _done: Callable[[], None] | None = None
    #: The disk said no.
    failed: OSError | None = None
    #: Called with True when the backlog is too long, with False when it is short again.
    on_backlog: Callable[[bool], None] | None = None
    #: Reads off the loop that still use the file.
    users = 0

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Raises TooLargeError, FullError. The caller releases the body in either case."""
        bodies = self._bodies
        count = len(data)
        size = self.size + count
        if size > bodies.body_bytes_max:
            raise TooLargeError
        if bodies.memory + count > bodies.memory_bytes_max:
            raise FullError
        self.size = size
        bodies.memory += count
        self._memory += count
        if size <= bodies.body_memory_bytes and self._fd < 0:
            self.parts.append(data)
        else:
            self._spill(data)

    def _spill(self, data: bytes) -> None:
        bodies = self._bodies
        if self._fd < 0:
            # Opening an unlinked file touches no disk worth waiting for.
            self._fd = _open_unlinked(bodies.folder)
            self.on_disk = True
            self._pending, self.parts = self.parts, []
        self._pending.append(data)
        grown = self.size - self._disk
        if bodies.disk + grown > bodies.disk_bytes_max:
            raise FullError
        bodies.disk += grown
        self._disk += grown
        if not self._writing and self._memory >= _WRITE_BYTES:
            self._write()
        if self._memory > BACKLOG_BYTES_MAX and self.on_backlog is not None:
            self.on_backlog(True)

    def _write(self) -> None:
        pieces, self._pending = self._pending, []
        offset = self._offset
        count = sum(map(len, pieces))
        self._offset += count
        self._writing = True
        fd = self._fd
        future = self._bodies.run(lambda: _write_all(fd, pieces, offset))

        def written(done: "asyncio.Future[None]") -> None:
            self._writing = False
            self._give_memory(count)
            if not done.cancelled() and (error := done.exception()) is not None:
                self.failed = error if isinstance(error, OSError) else OSError(str(error))
                self._pending = []
            self._after_write()

        future.add_done_callback(written)

    def _after_write(self) -> None:
        if self._released:
            self._close()
            return
        if self._pending and (self._finished or self._memory >= _WRITE_BYTES):
            self._write()
        elif self._finished and self._done is not None:
            done, self._done = self._done, None
            done()
        if self._memory < BACKLOG_BYTES_MAX // 2 and self.on_backlog is not None:
            self.on_backlog(False)

    def finish(self, done: Callable[[], None]) -> None:
        """No more comes. Calls `done` once nothing waits to be written; look at `failed` then."""
        self._finished = True
        if self._fd < 0:
            done()
            return
        self._done = done
        if not self._writing:
            self._after_write()

    def whole(self) -> bytes:
        """All of it. For a body on disk this blocks: call it off the loop, after `finish`."""
        if self._fd < 0:
            if len(self.parts) > 1:
                self.parts = [b"".join(self.parts)]
            return self.parts[0] if self.parts else b""
        return self.read(0, self.size)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes of a body on disk. Blocks: call it off the loop, within `hold` and `let_go`."""
        pieces: list[bytes] = []
        while count:
            piece = os.pread(self._fd, min(count, 1 << 24), offset)
            if not piece:
                raise OSError("the body's file is shorter than it was written")
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hold(self) -> None:
        """A read off the loop begins: the file stays open until `let_go`."""
        self.users += 1

    def let_go(self) -> None:
        self.users -= 1
        if self._released:
            self._close()

    def release(self) -> None:
        """Give everything back. May be called twice; the file goes once no thread uses it."""
        if self._released:
            return
        self._released = True
        if self._fd < 0:
            self._bodies.memory -= self._memory
            self._memory = 0
            self.parts = []
            return
        self._done = None
        self.on_backlog = None
        self._close()

    def _close(self) -> None:
        if self._writing or self.users:
            return
        self.parts = []
        self._pending = []
        self._give_memory(self._memory)
        self._bodies.disk -= self._disk
        self._disk = 0
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _give_memory(self, count: int) -> None:
        self._bodies.memory -= count
        self._memory -= count


def _open_unlinked(folder: str | None) -> int:
    folder = folder or tempfile.gettempdir()
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # a file system without O_TMPFILE
        fd, path = tempfile.mkstemp(prefix="creche-body-", dir=folder)
        os.unlink(path)
        return fd


def _write_all(fd: int, pieces: list[bytes], offset: int) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            count = os.pwrite(fd, view, offset)
            view = view[count:]
            offset += count


Segment = bytes | tuple[int, int]
"""Bytes as they are, or offset and count in the body's file."""


def segments(body: Body, edit: Edit | None) -> list[Segment]:
    """What goes upstream, in order, after `finish`."""
    if not body.on_disk:
        data = body.whole()
        if edit is not None:
            data = data[: edit.start] + edit.text + data[edit.stop :]
        return [data] if data else []
    if edit is None:
        return [(0, body.size)]
    found: list[Segment] = [(0, edit.start), edit.text, (edit.stop, body.size - edit.stop)]
    return [s for s in found if (s if isinstance(s, bytes) else s[1])]


def length(parts: list[Segment]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part[1] for part in parts)


class Pump:
    """Moves a body on disk into a connection, a piece at a time, at the connection's pace.

    `write` gets the pieces, `done` is called after the last, `broke` if the disk fails.
    """

    __slots__ = (
        "_body",
        "_broke",
        "_cancelled",
        "_done",
        "_parts",
        "_paused",
        "_reading",
        "_write",
    )

    def __init__(
        self,
        body: Body,
        parts: list[Segment],
        write: Callable[[bytes], None],
        done: Callable[[], None],
        broke: Callable[[], None],
    ) -> None:
        self._body = body
        self._parts = list(reversed(parts))
        self._write = write
        self._done = done
        self._broke = broke
        self._reading = False
        self._paused = False
        self._cancelled = False

    def start(self, bodies: Bodies) -> None:
        self._next(bodies)

    def pause(self) -> None:
        self._paused = True

    def resume(self, bodies: Bodies) -> None:
        if self._paused:
            self._paused = False
            self._next(bodies)

    def cancel(self) -> None:
        self._cancelled = True

    def _next(self, bodies: Bodies) -> None:
        while not (self._reading or self._paused or self._cancelled):
            if not self._parts:
                self._cancelled = True
                self._done()
                return
            part = self._parts.pop()
            if isinstance(part, bytes):
                self._write(part)
                continue
            self._read(bodies, *part)

    def _read(self, bodies: Bodies, offset: int, count: int) -> None:
        now = min(count, READ_BYTES)
        if count > now:
            self._parts.append((offset + now, count - now))
        body = self._body
        self._reading = True
        body.hold()
        future = bodies.run(lambda: body.read(offset, now))

        def read(done: "asyncio.Future[bytes]") -> None:
            self._reading = False
            body.let_go()
            if self._cancelled:
                done.cancelled() or done.exception()  # retrieved, so that nobody warns
                return
            if done.cancelled() or done.exception() is not None:
                self._cancelled = True
                self._broke()
                return
            self._write(done.result())
            self._next(bodies)

        future.add_done_callback(read)
