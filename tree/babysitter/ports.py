"""Who listens where an engine should, and how many talk to it: from /proc (Linux)."""

from pathlib import Path

from common import procnet
from common.address import ip, is_any
from common.procnet import Owner

_ESTABLISHED = "01"


def owner(host: str, port: int) -> Owner | None:
    """Who holds `port` on `host` or on every interface; None where nobody does."""
    inodes: dict[int, int] = {}
    for one in procnet.listeners():
        if one.port == port and _meet(one.host, host):
            inodes[one.inode] = one.uid
    if not inodes:
        return None
    found = procnet.owner_of(port)
    for pid in procnet.holders(set(inodes)):
        name = procnet.process_name(pid)
        if name is not None and found is not None:
            return Owner(found.user, pid, name)
    return found


def connections(port: int) -> int:
    """Established connections to local `port`. 0 too where /proc tells nothing."""
    count = 0
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/self/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                count += 1
    return count


def _meet(one: str, other: str) -> bool:
    """Whether sockets on these two hosts would be in each other's way."""
    if is_any(one) or is_any(other):
        return True
    mine, theirs = ip(one), ip(other)
    return theirs is None or mine == theirs  # a name may mean any address
