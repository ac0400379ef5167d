"""Reads an engine's rotated log: its last lines, and what comes next.

    engine.log.2 ──▶ engine.log.1 ──▶ engine.log
    oldest                               newest

A reader follows a *file*, not a name: when its file has become `.1`, it reads that to its end and
goes on with the next lower number.

Nothing is held but an open file and the line that is not finished yet. A reader that is slower
than the writer rotates is told that it missed something.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from babysitter.shimlog import LINE_BYTES_MAX, LINES_MAX, last_lines, show

#: How much of the past `tail` looks through: LINES_MAX long lines, not a day of logs.
TAIL_BYTES_MAX = 4 * 1024 * 1024
READ_BYTES = 64 * 1024
#: How late a followed line may come. Nobody sees the difference; a look costs two system calls.
LOOK_S = 0.2
#: More files than anybody keeps: a bound on a loop over names.
FILES_MAX = 100
MISSED = "--- creche: lines are missing here: the log was rotated faster than it was read ---"


async def tail(log: Path, count: int) -> list[str]:
    """The last `count` lines (LINES_MAX at most) over all of the log's files; none if there is
    no log."""
    return await asyncio.to_thread(_tail, log, count)


@asynccontextmanager
async def follow(
    log: Path, count: int = 0, *, look_s: float = LOOK_S
) -> AsyncIterator[AsyncIterator[str]]:
    """The last `count` lines, then each new one as it is finished, without end.

    From the moment this is entered, no line is missed. A log that does not exist yet is waited for.
    """
    reader = _Reader(log)
    try:
        past = await asyncio.to_thread(reader.begin, count, finished=True)
        async with aclosing(_lines(reader, past, look_s)) as lines:
            yield lines
    finally:
        reader.close()


async def _lines(reader: "_Reader", past: list[str], look_s: float) -> AsyncGenerator[str, None]:
    for line in past:
        yield line
    while True:
        lines = await asyncio.to_thread(reader.more)
        for line in lines:
            yield line
        if not lines:
            await asyncio.sleep(look_s)


def _names(log: Path) -> list[Path]:
    """What its files may be called, the newest first."""
    return [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, FILES_MAX))]


def _tail(log: Path, count: int) -> list[str]:
    reader = _Reader(log)
    try:
        return reader.begin(count)
    finally:
        reader.close()


class _Reader:
    """An open file of the log and our place in it. Blocking: used through threads, which nobody can
    cancel: what one still does when it is closed is waited for, and later it does nothing."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._using = threading.Lock()
        self._closed = False
        self._fd = -1
        self._unfinished = b""
        self._cutting = False  # within a line of which the start was already given

    def begin(self, count: int, *, finished: bool = False) -> list[str]:
        """Open the newest file, at its end; the last lines before that place.

        A line that is not finished is among them, unless only `finished` ones are wanted.
        """
        with self._using:
            return [] if self._closed else self._begin(count, finished=finished)

    def more(self) -> list[str]:
        """Lines finished since; empty when there is nothing new. Goes on to newer files."""
        with self._using:
            return [] if self._closed else self._more()

    def close(self) -> None:
        with self._using:
            self._closed = True
            self._shut()

    def _begin(self, count: int, *, finished: bool) -> list[str]:
        count = max(0, min(count, LINES_MAX))
        if not self._open(self._log):
            return []
        size = os.fstat(self._fd).st_size
        start = max(0, size - TAIL_BYTES_MAX)
        data = os.pread(self._fd, size - start, start)
        os.lseek(self._fd, size, os.SEEK_SET)
        end = data.rfind(b"\n") + 1
        self._unfinished = data[end:][-LINE_BYTES_MAX:]
        if finished:
            data = data[:end]
        whole = start == 0
        for name in _names(self._log)[1:]:
            if not whole or data.count(b"\n") > count or len(data) >= TAIL_BYTES_MAX:
                break
            try:
                older = name.read_bytes() if name.stat().st_size <= TAIL_BYTES_MAX else b""
            except OSError:
                break
            whole = bool(older)
            data = older + data
        return last_lines(data, count, whole=whole)

    def _more(self) -> list[str]:
        if self._fd < 0 and not self._open(self._log):
            return []
        while True:
            place = self._place()
            # Read after the look: once our file has a newer one beside it, nothing is added to it.
            chunk = os.read(self._fd, READ_BYTES)
            if chunk:
                lines = self._split(chunk)
                if lines:
                    return lines
            elif place == 0:
                return []
            elif place is None:
                return [MISSED] if self._open(self._oldest()) else []
            elif not self._open(_names(self._log)[place - 1], after=place):
                return []

    def _split(self, chunk: bytes) -> list[str]:
        *finished, rest = (self._unfinished + chunk).split(b"\n")
        # Of a progress bar only the last state is kept; the `\r` of a `\r\n` is none.
        rest = rest[rest[:-1].rfind(b"\r") + 1 :]
        if self._cutting and finished:
            finished.pop(0)
            self._cutting = False
        lines = [show(line) for line in finished]
        if len(rest) > LINE_BYTES_MAX:
            if not self._cutting:
                lines.append(show(rest))
            self._cutting, rest = True, b""
        self._unfinished = rest
        return lines

    def _open(self, name: Path, *, after: int | None = None) -> bool:
        """Read `name` from its start from now on; not if our file is no longer at `after`."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        if after is not None and self._place() != after:
            os.close(fd)  # rotated between our look and our open: it may be one too new
            return False
        self._shut()
        self._fd = fd
        return True

    def _place(self) -> int | None:
        """The number that our file has now; None when it was rotated away."""
        own = os.fstat(self._fd)
        for number, name in enumerate(_names(self._log)):
            try:
                found = os.stat(name)
            except OSError:
                if number == 0:
                    continue  # between two files
                return None
            if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
                return number
        return None

    def _oldest(self) -> Path:
        there = [name for name in _names(self._log) if name.exists()]
        return there[-1] if there else self._log

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
