"""Listening sockets that were opened for us: by systemd, or by a holder that replaces us.

    LISTEN_PID=us  LISTEN_FDS=2  LISTEN_FDNAMES=a:b  ─▶  fd 3 is a, fd 4 is b     (sd_listen_fds(3))

The variables are taken away, so that what we start does not take itself to be meant.
"""

import os
import socket
import struct
from collections.abc import Iterable, MutableMapping
from typing import Any

from common.address import Address
from common.errors import RefusalError

FIRST_FD = 3
#: A daemon listens on two addresses, of two families each.
SOCKETS_MAX = 16
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_WILDCARDS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104

Where = tuple[int, tuple[Any, ...]]
"""A family, and an address as `getaddrinfo` gives it."""


class Given:
    """One listening socket and what its opener calls it."""

    def __init__(self, one: socket.socket, name: str) -> None:
        self.socket = one
        self.name = name

    def is_for(self, wanted: Iterable[Where]) -> bool:
        """Whether it serves one of these addresses. Port 0 is any port."""
        return any(_serves(self.socket, family, where) for family, where in wanted)

    def __str__(self) -> str:
        where = self.socket.getsockname()
        if not isinstance(where, tuple):
            return os.fsdecode(where) or "a socket without a name"
        return str(Address(*where[:2]))


def take(environ: MutableMapping[str, str] | None = None, pid: int | None = None) -> list[Given]:
    """What was opened for this process. Raises RefusalError where it cannot be listened on."""
    environ = os.environ if environ is None else environ
    told = [environ.pop(name, "") for name in _VARIABLES]
    meant, count, names = told[0], told[1], told[2].split(":")
    if meant != str(pid or os.getpid()) or not count.isdigit():
        return []
    if int(count) > SOCKETS_MAX:
        raise RefusalError(
            f"the service manager gave {count} sockets; {SOCKETS_MAX} are the most.\n"
            "  Name in its .socket unit only what this daemon listens on."
        )
    found = []
    for number in range(int(count)):
        name = names[number] if number < len(names) else "unknown"
        found.append(Given(_listening(FIRST_FD + number, name), name))
    return found


def _listening(fd: int, name: str) -> socket.socket:
    refusal = RefusalError(
        f'the service manager gave "{name}" as descriptor {fd}, which listens on nothing.\n'
        "  Its .socket unit wants ListenStream=… and Accept=no."
    )
    try:
        one = socket.socket(fileno=fd)
    except OSError:
        raise refusal from None
    if one.type != socket.SOCK_STREAM or not one.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        one.close()
        raise refusal
    one.set_inheritable(False)
    one.setblocking(False)
    return one


def _serves(one: socket.socket, family: int, where: tuple[Any, ...]) -> bool:
    bound = one.getsockname()
    if not isinstance(bound, tuple) or where[1] not in (0, bound[1]):
        return False
    host = bound[0].partition("%")[0]
    if one.family == family:
        return bool(host == where[0].partition("%")[0])
    # [::] takes IPv4 as well, unless it was told not to.
    return (
        host == "::"
        and where[0] == _WILDCARDS.get(socket.AddressFamily(family))
        and struct.unpack("i", one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 4)) == (0,)
    )
