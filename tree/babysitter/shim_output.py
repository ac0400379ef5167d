"""What the engine prints, taken from its pipe as it comes, whatever the disk says.

    pipe ──drain──▶ ring (for `tail`, in memory) and rotated log

Light on purpose: the shim imports it under `python -I -S`.
"""

import os
import select

from babysitter.shimlog import RING_BYTES, Ring, RotatedLog

#: More than one pipe's worth before others get their turn: after the last writer's end, all of it.
READ_BYTES, READS_MAX = 64 * 1024, 32


class Output:
    """`fd` is -1 before `open` and after the end."""

    def __init__(self, poll: select.epoll, log: RotatedLog) -> None:
        self.fd = -1
        self._poll = poll
        self._ring = Ring(RING_BYTES)
        self._log = log

    @property
    def lost_bytes(self) -> int:
        """What the disk refused."""
        return self._log.lost_bytes

    def open(self, fd: int) -> None:
        self.fd = fd
        self._poll.register(fd, select.EPOLLIN)

    def drain(self) -> None:
        """Take what the engine printed: never more than its turn, never waiting for the disk."""
        for _ in range(READS_MAX):
            if self.fd < 0:
                return
            try:
                chunk = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._end()
                return
            self._ring.add(chunk)
            self._log.add(chunk)

    def lines(self, count: int) -> list[str]:
        """The last `count` lines of this life."""
        return self._ring.lines(count)

    def close(self) -> None:
        """Take the last of it; no writer is left."""
        self.drain()
        self._end()
        self._log.close()

    def _end(self) -> None:
        if self.fd >= 0:
            self._poll.unregister(self.fd)
            os.close(self.fd)
            self.fd = -1
