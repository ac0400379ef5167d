"""The shim's control socket: JSON lines over a unix socket, several clients, all of it bounded.

    → {"id": 1, "cmd": "stop", "grace_s": 10}
    ← {"id": 1, "ok": true, …}  or  {"id": 1, "error": "…"}
    ← {"event": "exited", …}                                   (to subscribers)

Only our own user, and root, are heard. A client that sends nonsense, or does not read, is closed:
it can only ever hurt itself. Light on purpose: the shim imports it under `python -I -S`.
"""

import json
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

#: A babysitter, its successor while both live, and a few curious operators.
CLIENTS_MAX = 16
#: The longest request names a signal or a number.
REQUEST_BYTES_MAX = 4096
#: What may wait for a client that does not read; above the largest `tail`.
UNREAD_BYTES_MAX = 4 * 1024 * 1024

Message = dict[str, Any]


class Client:
    """One connection. `subscribed`: wants events."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.subscribed = False
        self.unparsed = b""
        self.unsent = b""


class Control:
    """The listening socket and its clients, on the shim's epoll. `answer` gets each request."""

    def __init__(self, poll: select.epoll, answer: Callable[[Client, Message], None]) -> None:
        self._poll = poll
        self._answer = answer
        self._listening: socket.socket | None = None
        self._clients: dict[int, Client] = {}
        self.path = ""

    def bind(self, path: str) -> None:
        """Listen at `path`, here and nowhere else. Raises OSError."""
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if os.path.lexists(path):
                os.unlink(path)
            fresh.bind(path)  # the shim's umask makes it ours alone
            fresh.listen(CLIENTS_MAX)
        except OSError:
            fresh.close()
            raise
        self._stop_listening(unlink=path != self.path)
        self._listening, self.path = fresh, path
        self._poll.register(fresh, select.EPOLLIN)

    def owns(self, fd: int) -> bool:
        return fd in self._clients or self._is_listening(fd)

    def ready(self, fd: int, mask: int) -> None:
        """Do what epoll says can be done on one of our sockets."""
        if self._is_listening(fd):
            self._accept()
            return
        client = self._clients.get(fd)
        if client is not None and mask & select.EPOLLOUT:
            self._flush(client)
        if fd in self._clients and mask & ~select.EPOLLOUT:
            self._read(self._clients[fd])

    def send(self, client: Client, message: Message) -> None:
        """To one client, if it is still there."""
        if self._clients.get(client.sock.fileno()) is not client:
            return
        client.unsent += json.dumps(message).encode() + b"\n"
        if len(client.unsent) > UNREAD_BYTES_MAX:
            self._drop(client)
        else:
            self._flush(client)

    def push(self, event: Message) -> None:
        """To all subscribers."""
        for client in list(self._clients.values()):
            if client.subscribed:
                self.send(client, event)

    def close(self) -> None:
        self._stop_listening(unlink=True)
        for client in list(self._clients.values()):
            self._drop(client)

    def _is_listening(self, fd: int) -> bool:
        return self._listening is not None and fd == self._listening.fileno()

    def _stop_listening(self, *, unlink: bool) -> None:
        if self._listening is None:
            return
        self._poll.unregister(self._listening)
        self._listening.close()
        self._listening = None
        if unlink:
            try:
                os.unlink(self.path)
            except OSError:
                pass

    def _accept(self) -> None:
        if self._listening is None:
            return
        try:
            sock, _ = self._listening.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._clients) >= CLIENTS_MAX or not _may_talk(sock):
            sock.close()
            return
        self._clients[sock.fileno()] = Client(sock)
        self._poll.register(sock, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            data = client.sock.recv(REQUEST_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, client.unparsed = (client.unparsed + data).split(b"\n")
        if not data or len(client.unparsed) > REQUEST_BYTES_MAX:
            self._drop(client)
            return
        for line in lines:
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            if not isinstance(request, dict):
                self._drop(client)
                return
            self._answer(client, request)

    def _flush(self, client: Client) -> None:
        try:
            while client.unsent:
                client.unsent = client.unsent[client.sock.send(client.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        wanted = select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0)
        self._poll.modify(client.sock, wanted)

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.sock.fileno(), None) is None:
            return
        self._poll.unregister(client.sock)
        client.sock.close()


def _may_talk(sock: socket.socket) -> bool:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())
