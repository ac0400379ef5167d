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
import fcntl
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from babysitter import cgroup, processes, procfs, shim
from babysitter.shim_link import Link, LinkLost
from common import clock
from common.errors import RefusalError
from common.paths import socket_path

#: Python starts in a tenth of a second; a host that loads a model on every core takes longer.
START_TIMEOUT_S = 20.0
#: For answers that need no engine. A shim that is stopped or swapped out does not answer.
ANSWER_TIMEOUT_S = 5.0
#: After a grace, how long the end of everything may take before we do it without the shim.
END_TIMEOUT_S = 30.0
#: A shim that lost its socket's folder makes it anew within a turn of its loop.
REBIND_TIMEOUT_S = 5.0
#: Children of a child that forks while it is ended: a pass each.
SWEEPS_MAX = 20
#: What the shim itself gets of our environment; the engine's own comes in its spec. The last lets a
#: test find every process that it caused.
_SHIM_ENV = ("PATH", "TZ", "CRECHE_TEST_RUN")
_READY_FD = 3


class LaunchError(Exception):
    """The engine could not be started. The text is a sentence for the operator."""


class _RefusedError(LaunchError):
    """In the shim's own words."""


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


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`, and a shim's answer to `status`."""

    schema: int
    phase: str
    engine_id: str
    instance_id: str
    argv_hash: str
    boot_id: str
    shim_pid: int
    shim_start_time: int
    pid: int
    start_time: int
    started_at: float
    socket: str
    exit: EngineExit | None
    released: bool
    lost_bytes: int = 0


class ShimHandle:
    """A running engine, through its shim. `pid` and `started_at` (wall time) are the engine's.

    `shim_pid` is the root of all its processes: what `processes.listens` wants.
    """

    def __init__(self, link: Link, state: _State, folder: Path) -> None:
        self.pid = state.pid
        self.shim_pid = state.shim_pid
        self.engine_id = state.engine_id
        self.instance_id = state.instance_id
        self.argv_hash = state.argv_hash
        self.started_at = state.started_at
        #: Resolves once, never to an exception. Cancelled by `close`.
        self.exited: asyncio.Future[EngineExit] = asyncio.get_running_loop().create_future()
        #: The shim ended before `release`: whatever `exited` says, call `sweep_orphans`.
        self.lost = False
        self._link = link
        self._folder = folder
        self._shim = procfs.look(state.shim_pid)
        self._released = False
        if state.exit is not None:
            self._exited(state.exit)
        link.on_event, link.on_lost = self._heard, self._link_lost
        if link.lost:
            self._link_lost()

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
        _acknowledge(self._folder)

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
            self._exited(msgspec.convert(event["exit"], EngineExit))

    def _exited(self, how: EngineExit) -> None:
        if not self.exited.done():
            self.exited.set_result(how)

    def _link_lost(self) -> None:
        if not self._released:
            self.lost = True
            self._exited(EngineExit(at=clock.wall(), lost=True))


def argv_hash(argv: list[str]) -> str:
    """Hex; compare with `ShimHandle.argv_hash` to see whether a config changed meanwhile."""
    return hashlib.sha256("\0".join(argv).encode(errors="surrogateescape")).hexdigest()[:32]


def folder_mark(folder: Path) -> str:
    """What all lives of a folder carry in their engine id, and those of no other folder."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def engine_id(folder: Path, engine: str, instance_id: str) -> str:
    """The mark of one life, in the environment of all its processes."""
    life = hashlib.sha256(f"{engine}\0{instance_id}".encode()).hexdigest()[:16]
    return f"{folder_mark(folder)}-{life}"


async def launch(
    spec: EngineSpec,
    *,
    folder: Path,
    runtime: Path,
    linger_s: float = shim.LINGER_S,
    cgroup_parent: str | None = None,
) -> ShimHandle:
    """Start the engine under a new shim; returns once its control socket answers.

    `folder` is this engine's alone (state and logs), `runtime` a short path for unix sockets.
    `cgroup_parent`: where to make a control group for it (default: ours, where it is delegated).
    An exit that nobody acknowledges is kept `linger_s`, in `state.json` for good. Raises
    LaunchError; then nothing of it is left.
    """
    life = engine_id(folder, spec.engine, spec.instance_id)
    try:
        control = socket_path(runtime, f"{life}.sock")
        spec_file = _prepare(spec, folder, life, control, linger_s, cgroup_parent)
    except RefusalError as why:
        raise LaunchError(str(why)) from None
    except OSError as why:
        raise LaunchError(f"{why.filename or folder}: {why.strerror}") from why
    try:
        pid, ready = _spawn(spec_file, folder, life)
        try:
            await _until_ready(ready, folder)
            link, state = await _connect(str(control))
        except _RefusedError:  # the shim has cleaned up, and leaves
            found = procfs.look(pid)
            if found is not None:
                await processes.until_gone(found, ANSWER_TIMEOUT_S)
            raise
        except (OSError, LinkLost, TimeoutError) as why:
            await _undo(pid, folder, life)
            raise LaunchError(f"the shim does not answer: {why!r}") from why
        except BaseException:
            await _undo(pid, folder, life)
            raise
    finally:
        spec_file.unlink(missing_ok=True)
    return ShimHandle(link, state, folder)


async def adopt(folder: Path, runtime: Path) -> ShimHandle | EngineExit | None:
    """The life that `folder` tells of; one of an earlier boot counts as nothing.

    An exit is returned once. One with `lost` may have left processes: call `sweep_orphans`.
    Raises ShimError: the shim runs but cannot be used.
    """
    state = _read_state(folder)
    if state is None or state.boot_id != procfs.boot_id():
        return None
    if not procfs.is_alive(state.shim_pid, state.shim_start_time):
        state = _read_state(folder) or state  # its last word, written while we looked
        if state.released:
            return None
        _acknowledge(folder)
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


async def sweep_orphans(folder: Path) -> int:
    """End all that any life of this folder left, its shim first; returns how many processes.

    For when a shim was killed or hangs. Processes of other folders are never touched.
    """
    state = _read_state(folder, strict=False)
    shims: set[tuple[int, int]] = set()
    if state is not None and state.boot_id == procfs.boot_id():
        shims.add((state.shim_pid, state.shim_start_time))
    ended = 0
    for _ in range(SWEEPS_MAX):
        found = await asyncio.to_thread(_of_folder, folder, state)
        if not found:
            break
        keepers = [proc for proc in found if (proc.pid, proc.start_time) in shims]
        await processes.end_all(keepers, 0)  # first: it must not take our KILL for a crash
        ended += await processes.end_all([one for one in found if one not in keepers], 0)
    _acknowledge(folder)
    return ended


def _of_folder(folder: Path, state: _State | None) -> list[procfs.Proc]:
    """Marked processes, the recorded engine itself, and all that descends from them."""
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
    below = procfs.under(found, procfs.table())
    every = [*found.values(), *below]
    return [proc for proc in every if proc.state not in "ZX" and proc.pid != os.getpid()]


def _prepare(
    spec: EngineSpec,
    folder: Path,
    life: str,
    control: Path,
    linger_s: float,
    cgroup_parent: str | None,
) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_kept(folder):
        raise LaunchError(f"another shim keeps an engine in {folder}: adopt or sweep it first")
    path = folder / "spec.json"
    told = {
        **msgspec.to_builtins(spec),
        "engine_id": life,
        "argv_hash": argv_hash(spec.argv),
        "socket": str(control),
        "linger_s": linger_s,
        "cgroup": cgroup_parent or cgroup.delegated(),
    }
    # The standard library's: environments may hold bytes that are no UTF-8.
    shim.write_atomically(str(path), json.dumps(told).encode())
    return path


def _is_kept(folder: Path) -> bool:
    """Whether a shim holds the folder's lock."""
    fd = os.open(folder / shim.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _spawn(spec_file: Path, folder: Path, life: str) -> tuple[int, int]:
    """The shim's pid and our end of its pipe. asyncio's own would kill it when we end."""
    ready, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    env = {name: os.environ[name] for name in _SHIM_ENV if name in os.environ}
    errors = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        pid = os.posix_spawn(
            sys.executable,
            [
                sys.executable,
                "-I",
                "-S",
                os.path.abspath(shim.__file__),
                str(spec_file),
                str(_READY_FD),
            ],
            # The mark covers the moment between the shim's fork and the engine's exec.
            {**env, procfs.MARK: life},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(folder / "shim.err"), errors, 0o600),
                (os.POSIX_SPAWN_DUP2, told, _READY_FD),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
        )
    except OSError as why:
        os.close(ready)
        raise LaunchError(f"the shim cannot be started: {why.strerror}") from why
    finally:
        os.close(told)
    _reap_when_ended(pid)
    return pid, ready


def _reap_when_ended(pid: int) -> None:
    """It is our child as long as we live, and would stay a zombie."""
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(pid)

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass

    loop.add_reader(fd, ended)


async def _until_ready(fd: int, folder: Path) -> None:
    """Read the shim's one line. Raises LaunchError."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[bytes] = loop.create_future()
    got = bytearray()

    def readable() -> None:
        chunk = os.read(fd, 8192)
        got.extend(chunk)
        if (not chunk or got.endswith(b"\n")) and not line.done():
            line.set_result(bytes(got))

    loop.add_reader(fd, readable)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            told = await line
    except TimeoutError:
        raise LaunchError(f"the shim was not ready within {START_TIMEOUT_S:.0f} s") from None
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    answer = msgspec.json.decode(told) if told else {}
    if "error" in answer:
        raise _RefusedError(answer["error"])
    if not answer.get("ok"):
        errors = await asyncio.to_thread(_last_error, folder)
        raise LaunchError(f"the shim ended at its start: {errors}")


def _last_error(folder: Path) -> str:
    try:
        text = (folder / "shim.err").read_text(errors="replace").strip()
    except OSError:
        text = ""
    return text.rpartition("\n")[2][:500] or f"see {folder / 'shim.err'}"


async def _undo(pid: int, folder: Path, life: str) -> None:
    """End what a failed or cancelled launch started. The shim first: it would clear and linger."""
    found = procfs.look(pid)
    if found is not None and found.ppid == os.getpid():
        await processes.end_all([found], 0)
    await processes.end_all(await asyncio.to_thread(processes.find_marked, life), 0)
    _acknowledge(folder)


async def _connect(path: str) -> tuple[Link, _State]:
    """Raises OSError, LinkLost, TimeoutError: nobody there, or no answer."""
    link = await Link.open(path)
    try:
        return link, msgspec.convert(await link.ask({"cmd": "subscribe"}, ANSWER_TIMEOUT_S), _State)
    except BaseException:
        await link.close()
        raise


async def _reach(folder: Path, runtime: Path, state: _State) -> tuple[Link, _State]:
    """Connect to a running shim; where its socket's folder is gone, have it make a new one."""
    try:
        return await _connect(state.socket)
    except (OSError, LinkLost):
        pass
    except TimeoutError:
        raise ShimError(f"the shim (pid {state.shim_pid}) does not answer") from None
    try:
        path = str(socket_path(runtime, f"{state.engine_id}.sock"))
    except RefusalError as why:
        raise ShimError(str(why)) from None
    shim.write_atomically(str(folder / shim.SOCKET), path.encode())
    found = procfs.look(state.shim_pid)
    if found is not None and found.start_time == state.shim_start_time:
        procfs.send(found, signal.SIGHUP)
    try:
        async with asyncio.timeout(REBIND_TIMEOUT_S):
            while True:
                try:
                    return await _connect(path)
                except (OSError, LinkLost):
                    await asyncio.sleep(0.02)
    except TimeoutError:
        raise ShimError(f"the shim (pid {state.shim_pid}) does not answer at {path}") from None


def _read_state(folder: Path, *, strict: bool = True) -> _State | None:
    """What the last shim wrote; None where it wrote nothing readable. Raises ShimError (strict)."""
    try:
        raw = msgspec.json.decode((folder / shim.STATE).read_bytes())
        schema = raw.get("schema", 0) if isinstance(raw, dict) else 0
        if strict and schema > shim.SCHEMA:
            raise ShimError(
                f"{folder / shim.STATE} was written by a newer Creche (schema {schema}, "
                f"this one knows {shim.SCHEMA}).\n  Start the newer babysitter again."
            )
        return msgspec.convert(raw, _State)
    except (OSError, msgspec.DecodeError):
        return None


def _acknowledge(folder: Path) -> None:
    """The exit has been told: the next `adopt` finds nothing."""
    path = folder / shim.STATE
    try:
        state = msgspec.json.decode(path.read_bytes())
        if not state.get("released"):
            shim.write_atomically(str(path), msgspec.json.encode({**state, "released": True}))
    except (OSError, msgspec.DecodeError):
        pass
