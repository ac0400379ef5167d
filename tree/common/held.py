"""A daemon whose sockets a holder has (`common.holder`): what it is told, and what it says.

    first:      owned ──▶ serving ──"leave"──▶ replaced: hand on, release, end
    successor:  not owned ──▶ ready ──"meet"──▶ takes connections over ──"own"──▶ owned

Files that there is one of are written by their owner alone: `owned` is set then.
"""

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable, MutableMapping

from common.holder import MESSAGE_BYTES_MAX, VARIABLE

Word = Callable[[str, "socket.socket | None"], None]


class Held:
    """The channel to the holder. All of it in the loop's thread."""

    def __init__(self, channel: socket.socket, words: Iterable[str]) -> None:
        self._channel = channel
        channel.setblocking(False)
        channel.set_inheritable(False)
        said = set(words)
        #: The sockets outlive the holder: systemd has them, too.
        self.kept = "kept" in said
        #: Another serves now, whose place this one is to take.
        self.is_heir = "heir" in said
        self.owned = asyncio.Event()
        if "owns" in said:
            self.owned.set()
        #: Told to stop by the holder; one that is leaving has less time then.
        self.stopped = asyncio.Event()
        #: A successor serves.
        self.replaced = False
        self._heir: socket.socket | None = None
        #: Takes what the predecessor hands on, through its end of the channel.
        self.meet: Callable[[socket.socket], None] | None = None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Held | None":
        pid, _, rest = environ.pop(VARIABLE, "").partition(":")
        fd, _, words = rest.partition(":")
        if pid != str(os.getpid()):
            return None
        return cls(socket.socket(fileno=int(fd)), words.split())

    def listen(self, on_word: Word) -> None:
        """Have `on_word` called with each word and the socket that came with it; with an empty
        word when the holder has gone."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._readable, loop, on_word)

    def send(self, text: str, sockets: Iterable[socket.socket] = ()) -> None:
        """Best effort, as to systemd: where nobody listens, the end is near anyway."""
        fds = array.array("i", [one.fileno() for one in sockets])
        with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        with contextlib.suppress(OSError):
            self._channel.sendmsg([text.encode()], with_it)

    def leave(self, heir: socket.socket | None) -> None:
        """Told of its successor, or of a later one."""
        self.replaced = True
        if self._heir is not None:
            self._heir.close()
        self._heir = heir

    def take_heir(self) -> socket.socket | None:
        """What was told last, once."""
        heir, self._heir = self._heir, None
        return heir

    def listens_on(self, sockets: Iterable[socket.socket]) -> None:
        """What there is to hold from now on, if this one becomes ready."""
        self.send("SOCKETS=1", sockets)

    def released(self) -> None:
        """No file is written any more."""
        self.send("RELEASED=1")

    def close(self) -> None:
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()

    def _readable(self, loop: asyncio.AbstractEventLoop, on_word: Word) -> None:
        try:
            data, found = receive(self._channel, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, found = b"", []
        if not data:
            loop.remove_reader(self._channel)
        on_word(data.decode(), found[0] if found else None)


def receive(channel: socket.socket, most: int) -> tuple[bytes, list[socket.socket]]:
    """A message and the sockets that came with it, `most` at most. Empty: the other end has gone.

    Raises OSError.
    """
    fds = array.array("i")
    space = socket.CMSG_SPACE(most * fds.itemsize)
    data, ancillary, _, _ = channel.recvmsg(MESSAGE_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    found = [socket.socket(fileno=fd) for fd in fds]
    for one in found:
        one.setblocking(False)
    return data, found
