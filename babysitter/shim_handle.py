"""A running engine, through its shim: ask it, hear of its end, end it.

`exited` resolves to the engine's own end, the moment it happens; `stop`, `kill` and `release`
return when no process of the engine is left, also where the shim fails to do it.
"""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from babysitter import processes, procfs
from babysitter.shim_life import EngineExit, ShimError, State, acknowledge
from babysitter.shim_link import Link, LinkLost
from babysitter.shim_sweep import sweep_orphans
from common import clock

#: For answers that need no engine. A shim that is stopped or swapped out does not answer.
ANSWER_TIMEOUT_S = 5.0
#: After a grace, how long the end of everything may take before we do it without the shim.
END_TIMEOUT_S = 30.0


class ShimHandle:
    """A running engine, through its shim. `pid` and `started_at` (wall time) are the engine's.

    `shim_pid` is the root of all its processes: what `processes.listens` wants.
    """

    def __init__(self, link: Link, state: State, folder: Path) -> None:
        self.pid = state.pid
        self.shim_pid = state.shim_pid
        self.engine_id = state.engine_id
        self.instance_id = state.instance_id
        self.argv_hash = state.argv_hash
        self.started_at = state.started_at
        #: Resolves once, never to an exception. Cancelled by `close`.
        self.exited: asyncio.Future[EngineExit] = asyncio.get_running_loop().create_future()
        #: What the engine printed last, once `exited` is; None where its shim does not say.
        self.last_words: list[str] | None = state.last_words
        #: The shim ended before `release`: whatever `exited` says, call `sweep_orphans`.
        self.lost = False
        self._link = link
        self._folder = folder
        self._shim = procfs.look(state.shim_pid)
        self._released = False
        if state.exit is not None:
            self._exited(state.exit)
        link.listen(self._heard, self._link_lost)

    async def stop(self, grace_s: float) -> EngineExit:
        """TERM to the group, KILL after `grace_s`; returns when no process of it is left.

        Should the shim fail to do it, it is done without the shim.
        """
        return await self._end({"cmd": "stop", "grace_s": grace_s}, grace_s + END_TIMEOUT_S)

    async def kill(self) -> EngineExit:
        """KILL to everything of it; returns when no process of it is left."""
        return await self._end({"cmd": "kill"}, END_TIMEOUT_S)

    async def signal(self, name: str) -> None:
        """Send `SIGUSR1`, … to the engine's process group. Raises ShimError."""
        await self._ask({"cmd": "signal", "name": name}, ANSWER_TIMEOUT_S)

    async def tail(self, n: int) -> list[str]:
        """The last `n` lines that this life wrote, at most `shimlog.LINES_MAX`. Raises ShimError.

        They come from the shim's memory: also when the disk is full.
        """
        answer = await self._ask({"cmd": "tail", "lines": n}, ANSWER_TIMEOUT_S)
        return [str(line) for line in answer["lines"]]

    async def lost_bytes(self) -> int:
        """Output that the disk refused, so far. Raises ShimError."""
        return int((await self._ask({"cmd": "status"}, ANSWER_TIMEOUT_S))["lost_bytes"])

    async def release(self) -> None:
        """Acknowledge the exit: waits until nothing of the engine is left, then ends the shim.

        Raises ShimError while the engine runs. Fine to call when the shim is gone.
        """
        if not self.exited.done():
            raise ShimError("the engine still runs")
        self._released = True
        try:
            await self._link.ask({"cmd": "release"}, END_TIMEOUT_S)
        except LinkLost:
            pass
        except (TimeoutError, ValueError):
            await sweep_orphans(self._folder)
        await self._link.ended()
        if self._shim is not None:
            await processes.until_gone(self._shim, ANSWER_TIMEOUT_S)
        acknowledge(self._folder)

    async def close(self) -> None:
        """Detach; engine and shim go on and can be adopted. Cancels `exited`."""
        self._released = True
        await self._link.close()
        self.exited.cancel()

    async def _end(self, request: dict[str, Any], within_s: float) -> EngineExit:
        try:
            answer = await self._link.ask(request, within_s)
            self._exited(msgspec.convert(answer["exit"], EngineExit))
        except LinkLost:
            pass
        except TimeoutError:
            await sweep_orphans(self._folder)
        return await asyncio.shield(self.exited)

    async def _ask(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        try:
            return await self._link.ask(request, within_s)
        except LinkLost:
            raise ShimError("the shim is gone") from None
        except TimeoutError:
            raise ShimError(f"the shim (pid {self.shim_pid}) does not answer") from None
        except ValueError as why:
            raise ShimError(str(why)) from None

    def _heard(self, event: dict[str, Any]) -> None:
        if event.get("event") == "exited":
            self.last_words = event.get("last_words")
            self._exited(msgspec.convert(event["exit"], EngineExit))

    def _exited(self, how: EngineExit) -> None:
        if not self.exited.done():
            self.exited.set_result(how)

    def _link_lost(self) -> None:
        if not self._released:
            self.lost = True
            self._exited(EngineExit(at=clock.wall(), lost=True))


async def connect(path: str) -> tuple[Link, State]:
    """Raises OSError, LinkLost, TimeoutError: nobody there, or no answer."""
    link = await Link.open(path)
    try:
        return link, msgspec.convert(await link.ask({"cmd": "subscribe"}, ANSWER_TIMEOUT_S), State)
    except BaseException:
        await link.close()
        raise
