"""The babysitter's end of a shim: start one, find one again, ask it, hear of its engine's end.

    launch ──▶ ShimHandle        a new life
    adopt  ──▶ ShimHandle        a life that an earlier babysitter began, still running
           ├─▶ EngineExit        it ended while nobody looked
           └─▶ None              nothing there

What `exited` resolves to is the engine's own end, the moment it happens; `stop`, `kill` and
`release` return when no process of the engine is left. State folder: `spec.json` (gone once read),
`state.json`, `engine.log*`, `lock`, `shim.err`.
"""

import asyncio
from pathlib import Path

import msgspec


class LaunchError(Exception):
    """The engine could not be started. The text is a sentence for the operator."""


class ShimError(Exception):
    """A shim is there but cannot be used (does not answer, or is of a newer version)."""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `env` is the engine's whole environment (it may hold secrets)."""

    engine: str
    instance_id: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | None = None
    #: One log file's limit; `log_files` of them at most, the current one included.
    log_bytes_max: int = 10 * 1024 * 1024
    log_files: int = 5


class EngineExit(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's own process ended. `at` is wall time in seconds.

    `lost`: its shim died first, so neither code nor signal is known and processes may be left:
    call `sweep_orphans`.
    """

    code: int | None = None
    signal: str | None = None
    oom: bool = False
    at: float = 0.0
    lost: bool = False

    @property
    def cause(self) -> str:
        """`shim lost`, `oom`, `signal` or `code`."""
        if self.lost:
            return "shim lost"
        if self.oom:
            return "oom"
        return "signal" if self.signal else "code"


class ShimHandle:
    """A running engine, through its shim. `pid` and `started_at` (wall time) are the engine's."""

    pid: int
    instance_id: str
    argv_hash: str
    started_at: float
    exited: asyncio.Future[EngineExit]

    async def stop(self, grace_s: float) -> EngineExit:
        """TERM to the group, KILL after `grace_s`; returns when no process of it is left."""
        raise NotImplementedError

    async def kill(self) -> EngineExit:
        """KILL to everything of it; returns when no process of it is left."""
        raise NotImplementedError

    async def signal(self, name: str) -> None:
        """Send `SIGUSR1`, … to the engine's process group."""
        raise NotImplementedError

    async def tail(self, n: int) -> list[str]:
        """The last `n` lines that this life wrote (from memory, also when the disk is full)."""
        raise NotImplementedError

    async def release(self) -> None:
        """Acknowledge the exit: waits until nothing of the engine is left, then ends the shim."""
        raise NotImplementedError

    async def close(self) -> None:
        """Detach; engine and shim go on and can be adopted."""
        raise NotImplementedError


def argv_hash(argv: list[str]) -> str:
    """Hex; compare with `ShimHandle.argv_hash` to see whether a config changed meanwhile."""
    raise NotImplementedError


async def launch(spec: EngineSpec, *, folder: Path, runtime: Path) -> ShimHandle:
    """Start the engine under a new shim; returns once its control socket answers.

    `folder` is this engine's alone (state and logs), `runtime` a short path for unix sockets.
    Raises LaunchError.
    """
    raise NotImplementedError


async def adopt(folder: Path, runtime: Path) -> ShimHandle | EngineExit | None:
    """The life that `folder` tells of. An exit is returned once. Raises ShimError."""
    raise NotImplementedError


async def sweep_orphans(folder: Path) -> int:
    """End all that any life of this folder left (its shim too); returns how many processes."""
    raise NotImplementedError
