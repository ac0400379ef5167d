"""From a spec to a running engine: the fork, and what the child does until it is the engine.

    fork ──▶ own session ──▶ default signals ──▶ output, umask, control group, folder ──▶ exec
                                └── what fails is said through a pipe that exec closes

Light on purpose: the shim imports it under `python -I -S`.
"""

import fcntl
import os
import signal
import time
from typing import Any, NamedTuple

from babysitter import cgroup, procfs

#: The kernel's default limit for users: slack for an engine while we are off the CPU.
PIPE_BYTES = 1024 * 1024

_SIGNALS = {int(one) for one in signal.Signals}


class Refusal(Exception):
    """The engine cannot be started; a sentence for the operator."""


class Started(NamedTuple):
    """A running engine. `output`: our end of what it prints, non-blocking."""

    pid: int
    start_time: int
    started_at: float
    output: int


def start_engine(spec: dict[str, Any], group: str | None) -> Started:
    """Run `spec`, in control group `group`. Raises Refusal; then nothing of it is left."""
    ours, output = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(ours, False)
    try:
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass
    failed, failing = os.pipe2(os.O_CLOEXEC)
    started_at = time.time()  # noqa: TID251  (no common here)
    pid = os.fork()
    if pid == 0:
        _become_engine(spec, output, failing, group)
    os.close(output)
    os.close(failing)
    with open(failed, encoding="utf-8") as pipe:
        why = pipe.read()
    if why:
        os.waitpid(pid, 0)
        os.close(ours)
        raise Refusal(why)
    found = procfs.look(pid)  # still there: nobody but us reaps it
    return Started(pid, found.start_time if found else 0, started_at, ours)


def send_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _become_engine(spec: dict[str, Any], output: int, failing: int, group: str | None) -> None:
    """In the forked child: turn into the engine, or say why not and end."""
    why = ""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        nothing = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(fd, target)
        os.umask(spec["umask"])
        if group is not None:
            cgroup.enter(group)
        if spec["cwd"]:
            why = f"the folder {spec['cwd']!r} cannot be entered"
            os.chdir(spec["cwd"])
        why = f"{spec['argv'][0]!r} cannot be run"
        env = {"SPT_NOENV": "1", **spec["env"], procfs.MARK: spec["engine_id"]}
        os.execvpe(spec["argv"][0], spec["argv"], env)
    except BaseException as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        os.write(failing, f"{why or 'the engine cannot be started'}: {reason}".encode()[:4000])
    finally:
        os._exit(127)


def signal_name(number: int) -> str:
    """`SIGKILL`; a real-time signal has only its number."""
    return signal.Signals(number).name if number in _SIGNALS else f"SIG{number}"
