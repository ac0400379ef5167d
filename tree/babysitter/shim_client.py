"""The babysitter's end of a shim: start one, find one again, ask it, hear of its engine's end.

    launch ──▶ ShimHandle        a new life
    adopt  ──▶ ShimHandle        a life that an earlier babysitter began, still running
           ├─▶ EngineExit        it ended while nobody looked (told once)
           └─▶ None              nothing there

What `exited` resolves to is the engine's own end, the moment it happens; `stop`, `kill` and
`release` return when no process of the engine is left. A state folder holds `spec.json` (gone once
read: it has the engine's secrets), `state.json`, `engine.log*`, `lock` and `shim.err`.
"""

import asyncio
import signal
from pathlib import Path

from babysitter import procfs
from babysitter.shim_folder import SOCKET, write_atomically
from babysitter.shim_handle import ShimHandle, connect
from babysitter.shim_launch import launch
from babysitter.shim_life import (
    EngineExit,
    EngineSpec,
    LaunchError,
    ShimError,
    State,
    acknowledge,
    argv_hash,
    engine_id,
    folder_mark,
    read_state,
)
from babysitter.shim_link import Link, LinkLost
from babysitter.shim_sweep import sweep_orphans
from common import clock
from common.errors import RefusalError
from common.paths import socket_path

__all__ = [
    "EngineExit",
    "EngineSpec",
    "LaunchError",
    "ShimError",
    "ShimHandle",
    "adopt",
    "argv_hash",
    "engine_id",
    "folder_mark",
    "launch",
    "sweep_orphans",
]

#: A shim that lost its socket's folder makes it anew within a turn of its loop.
REBIND_TIMEOUT_S = 5.0


async def adopt(folder: Path, runtime: Path) -> ShimHandle | EngineExit | None:
    """The life that `folder` tells of; one of an earlier boot counts as nothing.

    An exit is returned once. One with `lost` may have left processes: call `sweep_orphans`.
    Raises ShimError: the shim runs but cannot be used.
    """
    state = read_state(folder)
    if state is None or state.boot_id != procfs.boot_id():
        return None
    if not procfs.is_alive(state.shim_pid, state.shim_start_time):
        state = read_state(folder) or state  # its last word, written while we looked
        if state.released:
            return None
        acknowledge(folder)
        return state.exit or EngineExit(at=clock.wall(), lost=True)
    link, now = await _reach(folder, runtime, state)
    if now.engine_id != state.engine_id:
        await link.close()
        raise ShimError(f"{state.socket} answers for another engine ({now.engine_id})")
    handle = ShimHandle(link, now, folder)
    if now.exit is None:
        return handle
    await handle.release()
    return now.exit


async def _reach(folder: Path, runtime: Path, state: State) -> tuple[Link, State]:
    """Connect to a running shim; where its socket's folder is gone, have it make a new one."""
    try:
        return await connect(state.socket)
    except (OSError, LinkLost):
        pass
    except TimeoutError:
        raise ShimError(f"the shim (pid {state.shim_pid}) does not answer") from None
    try:
        path = str(socket_path(runtime, f"{state.engine_id}.sock"))
    except RefusalError as why:
        raise ShimError(str(why)) from None
    write_atomically(str(folder / SOCKET), path.encode())
    found = procfs.look(state.shim_pid)
    if found is not None and found.start_time == state.shim_start_time:
        procfs.send(found, signal.SIGHUP)
    try:
        async with asyncio.timeout(REBIND_TIMEOUT_S):
            while True:
                try:
                    return await connect(path)
                except (OSError, LinkLost):
                    await asyncio.sleep(0.02)
    except TimeoutError:
        raise ShimError(f"the shim (pid {state.shim_pid}) does not answer at {path}") from None
