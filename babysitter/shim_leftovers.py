"""What an engine leaves behind, ended to the last process: workers hold the GPU.

The shim is a subreaper, so whatever its engine started, and no longer has a parent, is below it.

Light on purpose: the shim imports it under `python -I -S`.
"""

import os
import signal

from babysitter import cgroup, procfs


class Leftovers:
    """All below this process. `cgroup`: the engine's control group, where it has one."""

    def __init__(self) -> None:
        self.cgroup: str | None = None
        self._beyond_us: set[tuple[int, int]] = set()  # processes of users we may not signal

    def end(self, *, spared: int | None) -> bool:
        """KILL to them all, unless one is in group `spared`. False: nothing is left to end."""
        left = [
            proc
            for proc in procfs.under([os.getpid()], procfs.table())
            if proc.state not in "ZX" and (proc.pid, proc.start_time) not in self._beyond_us
        ]
        if not left:
            return self._is_a_parent()
        if spared is not None and any(proc.group == spared for proc in left):
            return True
        if self.cgroup is not None:
            cgroup.kill(self.cgroup)
        for proc in left:
            try:
                procfs.send(proc, signal.SIGKILL)
            except PermissionError:
                self._beyond_us.add((proc.pid, proc.start_time))
        return True

    def _is_a_parent(self) -> bool:
        """Whether the kernel knows a child of ours, which a table may miss: one that forks and ends
        while the table is read shows neither itself nor its child."""
        if self._beyond_us:
            return False  # they are children, too, and stay
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True
