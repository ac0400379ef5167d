"""Does what the plan says, and mends it after its time. The one place that breaks things."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from common import tasks
from tests.faults.chaos.arena import FAR, LEASE, PAUSE_S, STALL_S, Arena, service
from tests.faults.chaos.link import Link, Mode
from tests.faults.chaos.plan import Fault, Kind
from tests.faults.chaos.watcher import Watcher
from tests.support.fleet import Part
from tests.support.processes import DiedError, answers
from tests.support.redis import RedisServer
from tests.support.until import until

#: How long a daemon may take to come back on a busy machine.
BACK_S = 60.0
#: A registry refuses to start on a full disk: its service manager tries again.
AGAIN_S = 0.5
#: A babysitter that was away is unseen for as long as its last beat holds.
UNSEEN_AFTER_S = LEASE["lease_s"] - LEASE["beat_s"] - PAUSE_S
#: After it is back: by then a lapse that is due has been told.
SEEN_AFTER_S = LEASE["lease_s"] - UNSEEN_AFTER_S


class Driver:
    def __init__(self, arena: Arena, watcher: Watcher) -> None:
        self.done: Counter[str] = Counter()
        #: Faults that found nothing to break (an engine that was not there at the moment).
        self.missed: Counter[str] = Counter()
        self._arena = arena
        self._watcher = watcher
        self._mending: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, plan: Sequence[Fault]) -> None:
        """Until the last fault is mended. Errors in one are raised after all have ended."""
        began = time.monotonic()
        running: list[asyncio.Task[None]] = []
        for fault in plan:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            running.append(tasks.spawn(self._one(fault), name=f"fault-{fault.kind}"))
        results = await asyncio.gather(*running, return_exceptions=True)
        for fault, result in zip(plan, results, strict=True):
            if isinstance(result, BaseException):
                raise AssertionError(f"this could not be done or mended: {fault}") from result

    async def _one(self, fault: Fault) -> None:
        try:
            # A daemon may take longer to come back than the plan thought.
            async with self._mending[fault.target]:
                await self._do(fault.kind, fault.target, fault.lasts_s)
            self.done[fault.kind] += 1
        except _NothingThere:
            self.missed[fault.kind] += 1

    async def _do(self, kind: Kind, target: str, lasts_s: float) -> None:
        match kind:
            case Kind.KILL_ENGINE | Kind.EXIT_0 | Kind.KILL_SHIM:
                await self._end_engine(kind, target)
            case Kind.CRASH_AT_START | Kind.CRASH_LOOP:
                await self._crash(kind, target, lasts_s)
            case Kind.STEAL_PORT:
                await self._steal_port(target, lasts_s)
            case Kind.STOP_ENGINE | Kind.STOP_SHIM:
                await self._stop_engine(kind, target, lasts_s)
            case Kind.DEAD_ENGINE | Kind.ERROR_ENGINE:
                await self._sick_engine(kind, target, lasts_s)
            case Kind.KILL_BABYSITTER | Kind.STOP_BABYSITTER:
                await self._babysitter(kind, target, lasts_s)
            case Kind.KILL_ROUTER:
                await self._kill_router(target, lasts_s)
            case Kind.KILL_REGISTRY | Kind.FORGET_REGISTRY:
                await self._kill_registry(kind, target, lasts_s)
            case Kind.STOP_ROUTER:
                await _pause(self._arena.routers[target].process.pid, lasts_s)
            case Kind.STOP_REGISTRY:
                await _pause(self._arena.registries[target].process.pid, lasts_s)
            case Kind.FULL_DISK:
                await self._fill_disk(lasts_s)
            case Kind.STALL_REGISTRY | Kind.CUT_REGISTRY:
                await self._cut_off(kind, target, lasts_s)
            case Kind.STALL_REDIS | Kind.CUT_REDIS:
                await _disturb(self._arena.keeping.links[target], kind, lasts_s)
            case Kind.KILL_REDIS | Kind.FORGET_REDIS | Kind.STOP_REDIS:
                await self._redis(kind, lasts_s)
            case Kind.STALL_PEER | Kind.DRIP_PEER | Kind.CUT_PEER:
                async with self._unwell(FAR):
                    await _disturb(self._arena.peer, kind, lasts_s)

    # --- engines ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _unwell(self, upstream: str, gone: int | None = None) -> AsyncIterator[None]:
        self._watcher.breaks(upstream, gone=gone)
        try:
            yield
        finally:
            self._watcher.mended(upstream)

    def _pid(self, engine: str, *, shim: bool = False) -> int:
        pid = self._arena.pid(engine, shim=shim)
        if pid is None:
            raise _NothingThere
        return pid

    async def _end_engine(self, kind: Kind, engine: str) -> None:
        pid = self._pid(engine)
        victim = self._pid(engine, shim=True) if kind is Kind.KILL_SHIM else pid
        async with self._unwell(service(engine), pid):
            _send(victim, signal.SIGTERM if kind is Kind.EXIT_0 else signal.SIGKILL)

    async def _crash(self, kind: Kind, engine: str, lasts_s: float) -> None:
        pid = self._pid(engine)
        async with self._unwell(service(engine), pid):
            self._arena.crash(engine, "once" if kind is Kind.CRASH_AT_START else "loop")
            _send(pid, signal.SIGKILL)
            await asyncio.sleep(lasts_s)
            if kind is Kind.CRASH_LOOP:
                self._arena.crash(engine, None)

    async def _steal_port(self, engine: str, lasts_s: float) -> None:
        """Takes connections and never says a word."""
        pid = self._pid(engine)
        async with self._unwell(service(engine), pid):
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _send(pid, signal.SIGKILL)
                try:
                    await until(lambda: _bound(thief, self._arena.ports[engine]), 0.5)
                except AssertionError:
                    raise _NothingThere from None
                thief.listen(16)
                await asyncio.sleep(lasts_s)

    async def _stop_engine(self, kind: Kind, engine: str, lasts_s: float) -> None:
        if kind is Kind.STOP_SHIM:  # the engine itself is as well as before
            await _pause(self._pid(engine, shim=True), lasts_s)
            return
        pid = self._pid(engine)
        async with self._unwell(service(engine)):
            await _pause(pid, lasts_s)
            await asyncio.sleep(1.0)

    async def _sick_engine(self, kind: Kind, engine: str, lasts_s: float) -> None:
        """Looks well and serves nothing, or nothing but errors."""
        self._pid(engine)
        rule: dict[str, object] = {"dead": True} if kind is Kind.DEAD_ENGINE else {"status": 500}
        async with self._unwell(service(engine)):
            if not await self._faults(engine, [rule]):
                raise _NothingThere
            await asyncio.sleep(lasts_s)
            await self._faults(engine, [])
            # What hangs in it hangs on: its babysitter may yet restart it.
            await asyncio.sleep(STALL_S + 1 if kind is Kind.DEAD_ENGINE else 0)

    async def _faults(self, engine: str, rules: list[dict[str, object]]) -> bool:
        url = f"http://127.0.0.1:{self._arena.ports[engine]}/mock/faults"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BACK_S)) as http,
                http.post(url, json=rules) as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False  # it has ended; one that is late would take them after all

    # --- daemons ----------------------------------------------------------------------------------

    async def _babysitter(self, kind: Kind, name: str, lasts_s: float) -> None:
        part = self._arena.sitters[name]
        engines = [one for one, sitter in self._arena.engines.items() if sitter == name]
        for one in engines:
            self._watcher.breaks(service(one), in_s=UNSEEN_AFTER_S)
        if kind is Kind.STOP_BABYSITTER:
            await _pause(part.process.pid, lasts_s)
        else:
            await asyncio.to_thread(part.kill9)
            await asyncio.sleep(lasts_s)
            part.start(ready=None)
        await until(lambda: _speaks(part.port), BACK_S, f"{name} is back")
        await asyncio.sleep(SEEN_AFTER_S)
        for one in engines:
            self._watcher.mended(service(one))

    async def _kill_router(self, name: str, lasts_s: float) -> None:
        part = self._arena.routers[name]
        self._watcher.down[name].since(time.monotonic())
        await asyncio.to_thread(part.kill9)
        await asyncio.sleep(lasts_s)
        await _back(part)
        self._watcher.down[name].until(time.monotonic())

    async def _kill_registry(self, kind: Kind, name: str, lasts_s: float) -> None:
        part = self._arena.registries[name]
        await asyncio.to_thread(part.kill9)
        if kind is Kind.FORGET_REGISTRY:
            await asyncio.to_thread(self._arena.keeping.forget)
        await asyncio.sleep(lasts_s)
        await _back(part)

    async def _cut_off(self, kind: Kind, link: str, lasts_s: float) -> None:
        """Meanwhile routers keep what they know. A registry that heard nobody for a lease says so
        as soon as it can, and is right until it hears them."""
        engines = self._arena.engines if lasts_s > UNSEEN_AFTER_S else ()
        await self._arena.links[link].become(_MODES[kind])
        await asyncio.sleep(lasts_s)
        for one in engines:
            self._watcher.breaks(service(one))
        await self._arena.links[link].become(Mode.PASS)
        await asyncio.sleep(SEEN_AFTER_S if engines else 0)
        for one in engines:
            self._watcher.mended(service(one))

    async def _redis(self, kind: Kind, lasts_s: float) -> None:
        redis = self._arena.keeping.redis
        assert redis is not None, "a plan for a fleet without Redis"
        if kind is Kind.STOP_REDIS:
            await _pause(redis.process.pid, lasts_s)
            return
        await asyncio.to_thread(redis.kill9)
        if kind is Kind.FORGET_REDIS:
            await asyncio.to_thread(self._arena.keeping.forget)
        await asyncio.sleep(lasts_s)
        await until(lambda: asyncio.to_thread(_started, redis), BACK_S, "Redis is back")

    async def _fill_disk(self, lasts_s: float) -> None:
        disk = self._arena.keeping.disk
        assert disk is not None, "a plan for a fleet without a small disk"
        await asyncio.to_thread(_fill, disk / "filler")
        await asyncio.sleep(lasts_s)
        (disk / "filler").unlink(missing_ok=True)


_MODES = {
    Kind.STALL_REGISTRY: Mode.STALL,
    Kind.CUT_REGISTRY: Mode.REFUSE,
    Kind.STALL_PEER: Mode.STALL,
    Kind.DRIP_PEER: Mode.DRIP,
    Kind.CUT_PEER: Mode.REFUSE,
    Kind.STALL_REDIS: Mode.STALL,
    Kind.CUT_REDIS: Mode.REFUSE,
}


class _NothingThere(Exception):
    """What was to be broken is not there now."""


def _send(pid: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)


async def _pause(pid: int, lasts_s: float) -> None:
    _send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(lasts_s)
    finally:
        _send(pid, signal.SIGCONT)


async def _disturb(link: Link, kind: Kind, lasts_s: float) -> None:
    await link.become(_MODES[kind])
    await asyncio.sleep(lasts_s)
    await link.become(Mode.PASS)


async def _back(part: Part) -> None:
    """Start it, and again as often as it refuses: as systemd would."""

    async def ready() -> bool:
        if not part.process.alive:
            await asyncio.sleep(AGAIN_S)
            part.start(ready=None)
        return await asyncio.to_thread(answers, part.url + "/ready")

    part.start(ready=None)
    await until(ready, BACK_S, f"{part.name} is back")


def _started(redis: RedisServer) -> bool:
    """It refuses to start on a full disk."""
    try:
        redis.start()
    except DiedError:
        time.sleep(AGAIN_S)
        return False
    return True


async def _speaks(port: int) -> bool:
    """Whether anybody answers HTTP there, whatever it says."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http,
            http.get(f"http://127.0.0.1:{port}/health"),
        ):
            return True
    except (aiohttp.ClientError, TimeoutError):
        return False


def _bound(one: socket.socket, port: int) -> bool:
    one.bind(("127.0.0.1", port))
    return True


def _fill(path: Path) -> None:
    """Until the disk takes not one byte more."""
    with path.open("wb", buffering=0) as filler:
        for size in (65_536, 4_096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"\0" * size) == size:
                    pass
