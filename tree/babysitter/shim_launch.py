"""Starting an engine under a new shim: the spec on disk, the shim spawned, its one line read.

spec.json ──▶ posix_spawn ──▶ the shim says ready ──▶ connect ──▶ ShimHandle
what fails on the way is undone: nothing of it is left, but `shim.err`
"""

import asyncio
import fcntl
import json
import os
import signal
import sys
from pathlib import Path

import msgspec

from babysitter import cgroup, processes, procfs, shim
from babysitter.shim_folder import LOCK, write_atomically
from babysitter.shim_handle import ANSWER_TIMEOUT_S, ShimHandle, connect
from babysitter.shim_life import EngineSpec, LaunchError, acknowledge, argv_hash, engine_id
from babysitter.shim_link import LinkLost
from common.errors import RefusalError
from common.paths import socket_path

#: Python starts in a tenth of a second; a host that loads a model on every core takes longer.
START_TIMEOUT_S = 20.0
#: What the shim itself gets of our environment; the engine's own comes in its spec. The last lets a
#: test find every process that it caused.
_SHIM_ENV = ("PATH", "TZ", "CRECHE_TEST_RUN")
_READY_FD = 3


class _RefusedError(LaunchError):
    """In the shim's own words."""


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
            link, state = await connect(str(control))
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
    write_atomically(str(path), json.dumps(told).encode())
    return path


def _is_kept(folder: Path) -> bool:
    """Whether a shim holds the folder's lock."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
    acknowledge(folder)
