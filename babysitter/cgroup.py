"""What a control group can tell of an engine and do to it. Best effort: hosts differ.

    tell   how often the kernel killed for lack of memory: `oom_kill` in memory.events (v2),
           memory.oom_control (v1) or, for the whole host, /proc/vmstat
    do     `cgroup.kill`: one write ends every member, however it forked

Light on purpose: the shim imports it under `python -I -S`.
"""

import os

ROOT = "/sys/fs/cgroup"
#: systemd sets this attribute on the group of a unit with `Delegate=yes`.
_DELEGATED = "user.delegate"


def _own(membership: str) -> dict[str, str]:
    """`{controllers: path}` of /proc/self/cgroup; v2 has the empty name."""
    try:
        with open(membership, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return {}
    return {parts[1]: parts[2].lstrip("/") for parts in lines if len(parts) == 3}


def oom_file(membership: str = "/proc/self/cgroup", root: str = ROOT) -> str:
    """The narrowest file that counts our out-of-memory kills."""
    own = _own(membership)
    candidates = []
    if "" in own:
        candidates.append(os.path.join(root, own[""], "memory.events"))
    if "memory" in own:
        candidates.append(os.path.join(root, "memory", own["memory"], "memory.oom_control"))
        # Inside a container the path is the host's, the mount is our own group.
        candidates.append(os.path.join(root, "memory", "memory.oom_control"))
    for path in candidates:
        if os.access(path, os.R_OK):
            return path
    return "/proc/vmstat"


def oom_kills(path: str) -> int:
    """The count in such a file; 0 where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    except (OSError, ValueError):
        pass
    return 0


def delegated(membership: str = "/proc/self/cgroup", root: str = ROOT) -> str | None:
    """Our own v2 group, where its owner handed it to us."""
    own = _own(membership)
    if "" not in own:
        return None
    for mount in (root, os.path.join(root, "unified")):
        path = os.path.join(mount, own[""])
        try:
            if os.getxattr(path, _DELEGATED) == b"1" and os.access(path, os.W_OK):
                return path
        except OSError:
            continue
    return None


def name_for(engine_id: str) -> str:
    """What the group of one life is called."""
    return f"creche-{engine_id}"


def make(parent: str, name: str) -> str | None:
    """A group for one engine below `parent`; None where that cannot be."""
    path = os.path.join(parent, name)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except OSError:
        return None
    return path if os.access(os.path.join(path, "cgroup.procs"), os.W_OK) else None


def enter(path: str) -> None:
    """Move the calling process. Raises OSError."""
    _write(os.path.join(path, "cgroup.procs"), b"0")


def kill(path: str) -> bool:
    """KILL every member; False where this kernel or host cannot (v2 since Linux 5.14)."""
    try:
        _write(os.path.join(path, "cgroup.kill"), b"1")
    except OSError:
        return False
    return True


def members(path: str) -> list[int]:
    """Who is in it; nobody where it is gone."""
    try:
        with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file if line.strip() not in ("", "0")]
    except (OSError, ValueError):
        return []


def remove(path: str) -> None:
    """Give the group back; its members must be gone."""
    try:
        os.rmdir(path)
    except OSError:
        pass


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)
