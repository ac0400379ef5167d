"""Ending what a life left when its shim was killed or hangs: by its mark, and by what is known.

Every process of an engine has its folder's mark in its environment, or descends from one that has.
One that wrote over its environment after its parents had ended is found by the engine's control
group, where that has one.
"""

import asyncio
import os
from pathlib import Path

from babysitter import cgroup, processes, procfs
from babysitter.shim_life import State, acknowledge, folder_mark, read_state

#: Children of a child that forks while it is ended: a pass each.
SWEEPS_MAX = 20
#: One pass that finds nobody is not believed: who forks and ends while /proc is read shows neither
#: itself nor its child.
QUIET_PASSES = 2


async def sweep_orphans(folder: Path) -> int:
    """End all that any life of this folder left, its shim first; returns how many processes.

    For when a shim was killed or hangs. Processes of other folders are never touched.
    """
    state = read_state(folder, strict=False)
    shims: set[tuple[int, int]] = set()
    if state is not None and state.boot_id == procfs.boot_id():
        shims.add((state.shim_pid, state.shim_start_time))
    group = _group_of(state)
    ended = quiet = 0
    for _ in range(SWEEPS_MAX):
        found = await asyncio.to_thread(_of_folder, folder, state, group)
        quiet = 0 if found else quiet + 1
        if quiet == QUIET_PASSES:
            break
        keepers = [proc for proc in found if (proc.pid, proc.start_time) in shims]
        await processes.end_all(keepers, 0)  # first: it must not take our KILL for a crash
        ended += await processes.end_all([one for one in found if one not in keepers], 0)
        if group is not None:
            cgroup.kill(group)  # whoever forked meanwhile, and other users' processes
    if group is not None:
        cgroup.remove(group)
    acknowledge(folder)
    return ended


def _group_of(state: State | None) -> str | None:
    """Only ever one that bears the life's own name."""
    if state is None or state.cgroup is None or state.boot_id != procfs.boot_id():
        return None
    own = os.path.basename(state.cgroup) == cgroup.name_for(state.engine_id)
    return state.cgroup if own else None


def _of_folder(folder: Path, state: State | None, group: str | None) -> list[procfs.Proc]:
    """Marked processes, the recorded engine itself, its control group's, and all below them."""
    found = {proc.pid: proc for proc in procfs.marked(folder_mark(folder))}
    if state is not None and state.boot_id == procfs.boot_id():
        for proc in procfs.marked(state.engine_id):
            found[proc.pid] = proc
        # A process may have written over its environment; its pid and start time still tell.
        for pid, start_time in (
            (state.shim_pid, state.shim_start_time),
            (state.pid, state.start_time),
        ):
            proc_now = procfs.look(pid)
            if proc_now is not None and procfs.is_alive(pid, start_time):
                found[pid] = proc_now
    for pid in () if group is None else cgroup.members(group):
        member = procfs.look(pid)
        if member is not None:
            found[pid] = member
    below = procfs.under(found, procfs.table())
    every = [*found.values(), *below]
    return [proc for proc in every if proc.state not in "ZX" and proc.pid != os.getpid()]
