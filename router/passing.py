"""Clients' kept connections go to the router that takes this one's place, one by one, while idle.

A connection between two requests is all in the kernel: its descriptor is sent over a unix socket,
the successor reads on where this process stopped. So the client notices nothing, and no request
meets a connection that is just being closed. A request under way ends here first; its answer says
`Connection: close`, or the connection is idle afterwards and goes as well. Under TLS it stays.
"""

import array
import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from common import logs
from common.held import receive
from common.tasks import spawn

if TYPE_CHECKING:
    from router.downstream import Client

#: Descriptors in one message; the kernel takes 253.
_AT_ONCE = 64

_log = logs.get("passing")


class Heir:
    """The successor, seen from one that it replaces. `channels` tells of another one, which takes
    the place of a successor that was replaced itself, or has crashed."""

    def __init__(self, channels: Callable[[], socket.socket | None]) -> None:
        self._channels = channels
        self._channel: socket.socket | None = None
        self.passed = 0

    def take(self, clients: Iterable["Client"]) -> None:
        """Pass on those of `clients` that can go now. The others stay what they were."""
        newer = self._channels()
        if newer is not None:
            self.close()
            newer.setblocking(False)
            self._channel = newer
        ready = [one for one in clients if can_go(one)]
        for start in range(0, len(ready), _AT_ONCE):
            if self._channel is None or not self._send(
                self._channel, ready[start : start + _AT_ONCE]
            ):
                return

    def _send(self, channel: socket.socket, clients: list["Client"]) -> bool:
        fds = array.array("i", [_fd(one) for one in clients])
        try:
            channel.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except (BlockingIOError, InterruptedError):
            return False  # it has not taken the last ones yet
        except OSError as why:
            # Until there is another they are served here, with `Connection: close`.
            _log.warning("the successor takes no more connections", why=why.strerror)
            self.close()
            return False
        self.passed += len(clients)
        for one in clients:
            one.closed = True
            # Not `Client.abort`, which would reset what is the successor's now.
            one.transport.abort()
        return True

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def can_go(client: "Client") -> bool:
    """Whether nothing of this connection is in this process alone."""
    transport = client.transport
    return (
        client.idle
        and not client.closed
        and not client.closing
        and not client.eof
        and not client.paused
        and not transport.is_closing()
        and transport.get_write_buffer_size() == 0
        # What TLS has agreed on is in this process.
        and transport.get_extra_info("ssl_object") is None
    )


def _fd(client: "Client") -> int:
    found: socket.socket = client.transport.get_extra_info("socket")
    return found.fileno()


class Adopting:
    """Takes connections from a predecessor, until that one has gone. `serve` makes a protocol."""

    def __init__(self, channel: socket.socket, serve: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._serve = serve
        channel.setblocking(False)
        self._loop.add_reader(channel, self._readable)

    def _readable(self) -> None:
        try:
            data, found = receive(self._channel, _AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, found = b"", []
        if not data:
            self.close()
        for one in found:
            spawn(self._take(one), "relay.adopt")

    async def _take(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):  # its client has left meanwhile
            await self._loop.connect_accepted_socket(self._serve, one)

    @property
    def open(self) -> bool:
        """More may come."""
        return self._channel.fileno() >= 0

    def close(self) -> None:
        if self.open:
            self._loop.remove_reader(self._channel)
            self._channel.close()
