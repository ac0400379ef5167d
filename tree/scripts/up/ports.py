"""Ports that must be free before anything is started, and who has them otherwise."""

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from common import procnet
from up.plan import HOST
from up.processes import MARK, name_of

#: What else uses a port by default: the likeliest reason why it is taken.
KNOWN = {8000: "vLLM", 8080: "llama.cpp", 11434: "Ollama", 30000: "SGLang"}
#: PORT=8010, 8020, … are tried when a free one is to be named.
STEP = 10
TRIES = 50


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def owner(port: int) -> str:
    """`taken by vllm (pid 4121, user ml)`, as far as it can be seen."""
    if port < 1024 and os.geteuid() != 0 and procnet.owner_of(port) is None:
        return "not for this user: ports below 1024 need a privilege"
    found = procnet.owner_of(port)
    if found is None:
        return "taken by a process that cannot be seen from here"
    if found.pid is None:
        return f"taken by {found}"
    name = name_of(found.pid, found.name or "")
    return f"taken by {name} (pid {found.pid}, user {found.user}){_other_run(found.pid)}"


def _other_run(pid: int) -> str:
    """Says so when the owner belongs to a `make up` in another folder."""
    try:
        words = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    for word in words:
        key, _, value = word.partition(b"=")
        if key == MARK.encode():
            return f", of make up in {Path(value.decode()).parent}"
    return ""


def free_port(offsets: Iterable[int], start: int, step: int = STEP) -> int | None:
    """The first PORT after `start` with which every port would be free."""
    wanted = list(offsets)
    for port in range(start + step, start + step * (TRIES + 1), step):
        if all(port + offset <= 65535 and is_free(port + offset) for offset in wanted):
            return port
    return None
