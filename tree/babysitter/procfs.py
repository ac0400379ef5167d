"""Processes as /proc shows them, told apart from later ones of the same pid, and signalled safely.

Light on purpose: the shim imports it under `python -I -S`. A pid alone names nobody for long; here
a process is its pid *and* its start time, and every signal goes through a pidfd after a second
look at that start time.
"""

import os
import signal
from collections.abc import Iterable, Mapping
from typing import NamedTuple

#: Names an engine's every process, in its environment: `<hash of folder>-<hash of instance_id>`.
MARK = "CRECHE_ENGINE_ID"
#: More than any environment that a kernel with default limits takes.
ENVIRON_BYTES_MAX = 8 * 1024 * 1024


class Proc(NamedTuple):
    """One process. `start_time` is in clock ticks since boot; `state` as in ps (Z: zombie)."""

    pid: int
    start_time: int
    ppid: int
    group: int
    session: int
    state: str


def parse_stat(pid: int, text: bytes) -> Proc | None:
    """A line of /proc/PID/stat. The name in it may hold spaces and brackets."""
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    state, ppid, group, session = fields[:4]
    if state == b"Z" and int(fields[17]) > 1:
        state = b"S"  # only its first thread has ended: the process lives
    return Proc(pid, int(fields[19]), int(ppid), int(group), int(session), state.decode())


def look(pid: int) -> Proc | None:
    """The process that has `pid` now; None where there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_stat(pid, os.read(fd, 4096))
    except OSError:
        return None
    finally:
        os.close(fd)


def is_alive(pid: int, start_time: int) -> bool:
    """Whether that very process runs. A zombie does not."""
    found = look(pid)
    return found is not None and found.start_time == start_time and found.state not in "ZX"


def table() -> dict[int, Proc]:
    """Every process that can be seen."""
    found = (look(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {proc.pid: proc for proc in found if proc is not None}


def under(roots: Iterable[int], procs: Mapping[int, Proc]) -> list[Proc]:
    """All of `procs` below `roots`, parents first, the roots themselves left out. Pure."""
    children: dict[int, list[Proc]] = {}
    for proc in procs.values():
        children.setdefault(proc.ppid, []).append(proc)
    found: list[Proc] = []
    known = set(roots)
    rest = list(known)
    while rest:
        for proc in children.get(rest.pop(), ()):
            if proc.pid not in known:
                known.add(proc.pid)
                found.append(proc)
                rest.append(proc.pid)
    return found


def send(proc: Proc, number: int) -> bool:
    """Signal that very process; False when it is gone. Raises PermissionError."""
    try:
        fd = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return False
    try:
        # The pidfd pins whoever has the pid now; only then does the start time prove who it is.
        found = look(proc.pid)
        if found is None or found.start_time != proc.start_time:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def environ(pid: int) -> dict[bytes, bytes]:
    """The environment that `pid` was started with; empty where it may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read(ENVIRON_BYTES_MAX)
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in text.split(b"\0"))
    return {name: value for name, _, value in pairs if name}


def has_mark(found: bytes, mark: str) -> bool:
    """Whether the value `found` is `mark`, or a life of it where `mark` names a folder. Pure."""
    wanted = mark.encode()
    return found == wanted or found.startswith(wanted + b"-")


def marked(mark: str) -> list[Proc]:
    """Processes whose MARK is `mark`: one life, or with its first half all lives of a folder."""
    found = []
    for proc in table().values():
        value = environ(proc.pid).get(MARK.encode())
        if value is not None and has_mark(value, mark):
            found.append(proc)
    return found


def boot_id() -> str:
    """Differs after every boot: what pids and start times mean ends with it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
