"""Which processes belong to an engine, which sockets are theirs, and how to end them all."""

import asyncio
import contextlib
import ipaddress
import os
import signal
from collections.abc import Iterable

from babysitter import procfs
from babysitter.procfs import Proc
from common import procnet

__all__ = ["Proc", "descendants", "end_all", "find_marked", "listens", "until_gone"]

#: After KILL a process goes as soon as the kernel lets go; longer than this is a stuck driver.
KILL_TIMEOUT_S = 5.0
_ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104  (recognised, not bound)


def listens(root_pid: int, port: int, host: str) -> bool:
    """Whether a socket that serves `host`:`port` belongs to `root_pid` or a descendant of it.

    Give the shim as root: a server whose parent ended has moved up to it. Blocks for milliseconds.
    """
    inodes = {
        one.inode for one in procnet.listeners() if one.port == port and serves(one.host, host)
    }
    if not inodes:
        return False
    family = [root_pid, *(proc.pid for proc in descendants(root_pid))]
    return any(procnet.socket_inodes(pid) & inodes for pid in family)


def serves(listening: str, wanted: str) -> bool:
    """Whether a socket bound to address `listening` answers at `wanted`. Pure.

    A `wanted` that is a name, or any address, says nothing about the family: all are taken.
    """
    found = _address(listening)
    asked = _address(wanted.strip("[]"))
    if asked is None or str(asked) in _ANY or str(found) == "::":
        return True
    if found is not None and str(found) in _ANY:
        return found.version == asked.version
    return found == asked


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def find_marked(engine_id: str) -> list[Proc]:
    """Processes that carry CRECHE_ENGINE_ID=`engine_id` (the shim's too). Blocks for milliseconds.

    The first half of an engine id, which names its folder, finds all lives of that folder.
    """
    return procfs.marked(engine_id)


def descendants(pid: int) -> list[Proc]:
    """Everything under `pid`, `pid` itself left out."""
    return procfs.under([pid], procfs.table())


async def end_all(procs: Iterable[Proc], grace_s: float) -> int:
    """TERM each, KILL what is left after `grace_s`; returns how many of them had to end.

    Those of other users are left alone. A process that KILL does not end within KILL_TIMEOUT_S
    is given up.
    """
    with contextlib.ExitStack() as stack:
        alive: dict[int, Proc] = {}
        for proc in procs:
            fd = _pin(proc)
            if fd is not None:
                stack.callback(os.close, fd)
                alive[fd] = proc
        found = len(alive)
        if grace_s > 0:
            _send(alive, signal.SIGTERM)
            await _ended(alive, grace_s)
        _send(alive, signal.SIGKILL)
        await _ended(alive, KILL_TIMEOUT_S)
        return found


async def until_gone(proc: Proc, within_s: float) -> bool:
    """Wait for the end of one process; False when it lives longer than `within_s`."""
    fd = _pin(proc)
    if fd is None:
        return True
    alive = {fd: proc}
    try:
        await _ended(alive, within_s)
    finally:
        os.close(fd)
    return not alive


def _pin(proc: Proc) -> int | None:
    """A pidfd of that very process; None when it is gone."""
    try:
        fd = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return None
    if procfs.is_alive(proc.pid, proc.start_time):
        return fd
    os.close(fd)
    return None


def _send(alive: dict[int, Proc], number: int) -> None:
    for fd in list(alive):
        try:
            signal.pidfd_send_signal(fd, number)
        except (ProcessLookupError, PermissionError):
            del alive[fd]


async def _ended(alive: dict[int, Proc], within_s: float) -> None:
    """Wait for the end of all; those that ended leave `alive`. A pidfd is readable from then on."""
    loop = asyncio.get_running_loop()
    all_ended = loop.create_future()

    def ended(fd: int) -> None:
        loop.remove_reader(fd)
        del alive[fd]
        if not alive and not all_ended.done():
            all_ended.set_result(None)

    watched = list(alive)
    for fd in watched:
        loop.add_reader(fd, ended, fd)
    try:
        if watched:
            async with asyncio.timeout(within_s):
                await all_ended
    except TimeoutError:
        pass
    finally:
        for fd in watched:
            loop.remove_reader(fd)
