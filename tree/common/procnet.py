"""Which process owns a TCP port, read from /proc (Linux). What cannot be seen is None, never wrong.

/proc/net/tcp{,6} gives a listening socket's inode and its user; /proc/<pid>/fd, readable for our
own processes (all of them as root), gives the inode's holder.
"""

import os
import pwd
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")
_LISTEN = "0A"


class Listener(Struct, frozen=True):
    """A listening TCP socket. `uid` owns it."""

    host: str
    port: int
    inode: int
    uid: int


class Owner(Struct, frozen=True):
    """Who holds a port, as far as it can be seen."""

    user: str
    pid: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of user {self.user}"
        return f"{self.name} (pid {self.pid}, user {self.user})"


def listeners(proc: Path = PROC, *, pid: int | str = "self") -> list[Listener]:
    """Every listening TCP socket in the network namespace of `pid`."""
    found: list[Listener] = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / str(pid) / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                host, _, port = fields[1].partition(":")
                found.append(Listener(_host(host), int(port, 16), int(fields[9]), int(fields[7])))
    return found


def _host(text: str) -> str:
    """Kernel addresses: 32-bit words, each in the machine's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def port_inodes(port: int, proc: Path = PROC, *, pid: int | str = "self") -> set[int]:
    """Inodes of the sockets that listen on `port`, on whatever address."""
    return {one.inode for one in listeners(proc, pid=pid) if one.port == port}


def socket_inodes(pid: int, proc: Path = PROC) -> set[int]:
    """Inodes of the sockets that process `pid` holds open; empty where it may not be seen."""
    found: set[int] = set()
    try:
        entries = os.listdir(proc / str(pid) / "fd")
    except OSError:
        return found
    for entry in entries:
        try:
            target = os.readlink(proc / str(pid) / "fd" / entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def pids(proc: Path = PROC) -> list[int]:
    """Every process that can be seen."""
    return [int(entry) for entry in os.listdir(proc) if entry.isdigit()]


def holders(inodes: set[int], among: Iterable[int] | None = None, proc: Path = PROC) -> list[int]:
    """The processes (of `among`, default all) that hold one of `inodes`."""
    if not inodes:
        return []
    candidates = pids(proc) if among is None else among
    return [pid for pid in candidates if socket_inodes(pid, proc) & inodes]


def process_name(pid: int, proc: Path = PROC) -> str | None:
    """The process's short name (`comm`), None when it is gone."""
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return None


def owner_of(port: int, proc: Path = PROC) -> Owner | None:
    """Who listens on `port` in our network namespace; None where nobody can be seen."""
    found = [one for one in listeners(proc) if one.port == port]
    if not found:
        return None
    user = _user(found[0].uid)
    for pid in holders({one.inode for one in found}, proc=proc):
        name = process_name(pid, proc)
        if name is not None:
            return Owner(user, pid, name)
    return Owner(user)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
