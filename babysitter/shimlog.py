"""What an engine prints: a rotated log on disk, and the last of it in memory.

    chunk ──▶ ring (the last RING_BYTES, always)
         └──▶ engine.log ──full──▶ engine.log.1 ──▶ … ──▶ gone

Taking a chunk never fails and never waits for room: what the disk refuses is counted, and said in
the log once it takes bytes again. Light on purpose: the shim imports it under `python -I -S`.
"""

import os

#: Enough for the last stack traces of a crash with several workers; small beside the interpreter.
RING_BYTES = 256 * 1024
#: What `tail` gives at most.
LINES_MAX = 1000
#: An engine's last words, which go with the news of its end.
LAST_LINES = 20
#: A longer line is shown cut: nobody reads it, and a reader must not have to hold it.
LINE_BYTES_MAX = 16 * 1024
_CUT = " … (cut)"


def show(line: bytes) -> str:
    """One line as a person may read it: of a progress bar its last state, of a giant its start."""
    text = line.rstrip(b"\r")
    text = text[text.rfind(b"\r") + 1 :]
    shown = text[:LINE_BYTES_MAX].decode("utf-8", "replace")
    return shown + _CUT if len(text) > LINE_BYTES_MAX else shown


def last_lines(data: bytes, count: int, *, whole: bool) -> list[str]:
    """The last `count` lines of `data`. Its first is half a line unless `whole`, and left out
    where there are others."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not whole and len(lines) > 1:
        lines.pop(0)
    return [show(line) for line in lines[-count:]] if count > 0 else []


class Ring:
    """The last RING_BYTES of a stream."""

    def __init__(self, bytes_max: int = RING_BYTES) -> None:
        self._bytes_max = bytes_max
        self._data = bytearray()
        self._whole = True  # nothing was dropped yet

    def add(self, chunk: bytes) -> None:
        self._data += chunk
        excess = len(self._data) - self._bytes_max
        if excess > 0:
            del self._data[:excess]
            self._whole = False

    def lines(self, count: int) -> list[str]:
        """The last `count` lines, LINES_MAX at most; an unfinished one counts."""
        return last_lines(bytes(self._data), min(count, LINES_MAX), whole=self._whole)


class RotatedLog:
    """`path`, `path.1` (older), … : `files` of them at most, `bytes_max` each."""

    def __init__(self, path: str, bytes_max: int, files: int) -> None:
        self.path = path
        #: Bytes that the disk refused, over this life.
        self.lost_bytes = 0
        self._bytes_max = max(1, bytes_max)
        self._files = max(1, files)
        self._untold_bytes = 0
        self._fd = -1
        self._size = 0
        self._forget_older()

    def add(self, chunk: bytes) -> None:
        """Write `chunk`, rotating where it is due. What cannot be written is counted as lost."""
        rest = memoryview(chunk)
        try:
            if self._untold_bytes:
                self._tell_loss()
            while rest:
                if self._fd < 0:
                    self._open()
                size = self._fitting(rest)
                if size == 0:
                    self._rotate()
                else:
                    rest = rest[self._write(rest[:size]) :]
        except OSError:
            self.lost_bytes += len(rest)
            self._untold_bytes += len(rest)

    def close(self) -> None:
        try:
            if self._untold_bytes:
                self._tell_loss()
        except OSError:
            pass
        self._shut()

    def _fitting(self, rest: memoryview) -> int:
        """How much of `rest` goes into this file: whole lines where it can be; 0 means rotate."""
        room = self._bytes_max - self._size
        if len(rest) <= room:
            return len(rest)
        if room <= 0:
            return 0
        end = bytes(rest[:room]).rfind(b"\n") + 1
        # A line that no file could hold whole is broken here, not pushed on forever.
        return end if end or self._size else room

    def _write(self, data: bytes | memoryview) -> int:
        """Bytes written, at least one. Raises OSError: full, or gone."""
        written = os.write(self._fd, data)
        self._size += written
        return written

    def _open(self) -> None:
        # Ours alone: an engine may print what it was given in secret.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """Raises OSError where the file cannot be moved: rather lost bytes than a full disk."""
        self._shut()
        for number in range(self._files - 1, 0, -1):
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            try:
                os.replace(newer, f"{self.path}.{number}")
            except FileNotFoundError:
                pass
        if self._files == 1:
            os.unlink(self.path)

    def _forget_older(self) -> None:
        """Files of a life that was allowed more of them."""
        number = self._files
        try:
            while True:
                os.unlink(f"{self.path}.{number}")
                number += 1
        except OSError:
            pass

    def _tell_loss(self) -> None:
        told = f"\n--- creche: {self._untold_bytes} bytes of output lost here (disk full) ---\n"
        if self._fd < 0:
            self._open()
        if self._size and self._size + len(told) > self._bytes_max:
            self._rotate()
            self._open()
        self._write(told.encode())
        self._untold_bytes = 0

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
