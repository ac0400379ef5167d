"""The shim: a small process that keeps one engine, and goes on when its babysitter does not.

    python -I -S …/babysitter/shim.py SPEC_FILE READY_FD

    STARTING ──exec──▶ RUNNING ──its process ends──▶ CLEARING ──nothing left──▶ ENDED ──▶ gone
        └─exec fails─▶ gone        (`exited` goes out)          (released, or LINGER_S over)

It leads a session of its own, so no terminal's Ctrl-C reaches it, and ignores SIGINT and SIGTERM:
only its control socket ends an engine. As child subreaper it is the parent of whatever its engine
leaves behind, so that CLEARING can end that to the last process: workers hold the GPU. It drains
the engine's output whatever the disk says, and writes `state.json` for a babysitter to come.

Nothing but the standard library, and no package folders: an upgrade that replaces those cannot
break a running shim. All imports happen at the start for the same reason.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from typing import Any

if not __package__:  # run by its path: the package is beside us, and only it is taken from there
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from babysitter import cgroup, procfs
from babysitter.shim_control import Control, Message
from babysitter.shim_folder import LOCK, LOG, SCHEMA, SOCKET, STATE, write_atomically
from babysitter.shim_leftovers import Leftovers
from babysitter.shim_output import Output
from babysitter.shim_requests import Requests
from babysitter.shim_start import Refusal, send_group, signal_name, start_engine
from babysitter.shimlog import LAST_LINES, RotatedLog

if not __package__:
    sys.path.pop()

#: How long an exit that nobody acknowledged is kept ready; `state.json` keeps it for good.
LINGER_S = 300.0
#: After SIGTERM (the host goes down) nobody will come: leave soon after the engine.
LINGER_AFTER_TERM_S = 1.0
#: Between two looks for what is left, growing: a process in the kernel's hands may take its time.
LOOK_S, LOOK_S_MAX = 0.01, 0.25
#: A state that a full disk refused is tried again this often.
STATE_RETRY_S = 1.0
#: Errors of our own that are told in `shim.err`; later ones repeat them.
ERRORS_TOLD_MAX = 20

STARTING, RUNNING, CLEARING, ENDED = "starting", "running", "clearing", "ended"

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Shim:
    """One engine's life. Everything happens in `run`, on one thread."""

    def __init__(self, spec: dict[str, Any], folder: str) -> None:
        self.spec = spec
        self.folder = folder
        self.phase = STARTING
        self.pid = 0
        self.start_time = 0
        self.started_at = 0.0
        self.exit: dict[str, Any] | None = None
        self.last_words: list[str] | None = None
        self.released = False
        self._poll = select.epoll()
        self._requests = Requests(self)
        self.control = Control(self._poll, self._requests.answer)
        log = RotatedLog(os.path.join(folder, LOG), spec["log_bytes_max"], spec["log_files"])
        self._output = Output(self._poll, log)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signal_wake = wake
        self._stopping = False  # somebody asked for the end, so it is no crash
        self._killed = False  # we sent KILL, so KILL is no sign of the kernel's OOM killer
        self._kill_at: float | None = None  # end of the grace
        self._look_at: float | None = None
        self._look_s = LOOK_S
        self._leave_at: float | None = None
        self._retry_at: float | None = None
        self._leaving_soon = False
        self._cgroup: str | None = None
        self._leftovers = Leftovers()
        self._oom_file = cgroup.oom_file()
        self._oom_before = 0

    # ── start ──────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the engine. Raises Refusal; then nothing of it is left."""
        signal.set_wakeup_fd(self._signal_wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # the wakeup pipe says which
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        self._poll.register(self._wake, select.EPOLLIN)
        try:
            self.control.bind(self.spec["socket"])
        except OSError as why:
            raise Refusal(f"the control socket {self.spec['socket']}: {why.strerror}") from why
        self._write_state()
        if self.spec.get("cgroup"):
            name = cgroup.name_for(self.spec["engine_id"])
            self._cgroup = cgroup.make(self.spec["cgroup"], name)
        self._leftovers.cgroup = self._cgroup
        if self._cgroup is not None:
            own = os.path.join(self._cgroup, "memory.events")
            self._oom_file = own if os.access(own, os.R_OK) else self._oom_file
        self._oom_before = cgroup.oom_kills(self._oom_file)
        try:
            engine = start_engine(self.spec, self._cgroup)
        except Refusal:
            self._forget()
            raise
        self.pid, self.start_time, self.started_at, output = engine
        self._output.open(output)
        self.phase = RUNNING
        self._write_state()

    # ── the loop ───────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Until released, or until nobody came for the exit."""
        errors = 0
        while not (self.phase == ENDED and (self.released or self._is_due(self._leave_at))):
            try:
                self._turn()
            except Exception:  # whatever it is, the engine is worth more
                errors += 1
                if errors <= ERRORS_TOLD_MAX:
                    sys.excepthook(*sys.exc_info())
                time.sleep(0.05)  # an error that repeats may not eat a core
        if self._retry_at is not None:
            self._write_state()

    def _turn(self) -> None:
        for fd, mask in self._poll.poll(self._timeout()):
            if fd == self._output.fd:
                self._output.drain()
            elif fd == self._wake:
                self._signalled()
            elif self.control.owns(fd):
                self.control.ready(fd, mask)
        self._tick()

    def _timeout(self) -> float | None:
        moments = (self._kill_at, self._look_at, self._leave_at, self._retry_at)
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _is_due(self, moment: float | None) -> bool:
        return moment is not None and time.monotonic() >= moment

    def _tick(self) -> None:
        if self._is_due(self._retry_at):
            self._write_state()
        if self._is_due(self._kill_at):
            self._kill_at = None
            if self.phase == RUNNING:
                self._killed = True
                send_group(self.pid, signal.SIGKILL)
            self._look_s, self._look_at = LOOK_S, time.monotonic()
        if self.phase == CLEARING and self._is_due(self._look_at):
            self._clear()

    def _signalled(self) -> None:
        try:
            numbers = set(os.read(self._wake, 4096))
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers:
            self._leaving_soon = True
            if self._leave_at is not None:
                self._leave_at = time.monotonic() + LINGER_AFTER_TERM_S
        if signal.SIGHUP in numbers:
            self._rebind()
        if signal.SIGCHLD in numbers:
            self._reap()

    # ── the end ────────────────────────────────────────────────────────────────────────────────

    def _reap(self) -> None:
        if self.phase == RUNNING:
            # Before it is reaped its pid, and so its group's number, is nobody else's.
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is not None and not self._in_grace():
                send_group(self.pid, signal.SIGKILL)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.pid and self.phase == RUNNING:
                self._engine_ended(os.waitstatus_to_exitcode(status))
        if self.phase == CLEARING:
            self._look_at = time.monotonic()

    def _engine_ended(self, code: int) -> None:
        killed_by = signal_name(-code) if code < 0 else None
        self.exit = {
            "code": code if code >= 0 else None,
            "signal": killed_by,
            "oom": killed_by == "SIGKILL" and not self._killed and self._oom_seen(),
            "at": time.time(),  # noqa: TID251  (no common here)
        }
        self.phase = CLEARING
        self._output.drain()
        self.last_words = self._output.lines(LAST_LINES)
        self._write_state()
        self.control.push({"event": "exited", "exit": self.exit, "last_words": self.last_words})
        self._look_s = LOOK_S
        self._look_at = time.monotonic()

    def _in_grace(self) -> bool:
        return self._kill_at is not None and not self._is_due(self._kill_at)

    def _oom_seen(self) -> bool:
        return cgroup.oom_kills(self._oom_file) > self._oom_before

    def _clear(self) -> None:
        """End what the engine left. Its group keeps the rest of a grace that was asked for."""
        if self._leftovers.end(spared=self.pid if self._in_grace() else None):
            self._look_at = time.monotonic() + self._look_s
            self._look_s = min(self._look_s * 2, LOOK_S_MAX)
        else:
            self._cleared()

    def _cleared(self) -> None:
        self._output.close()
        if self._cgroup is not None:
            cgroup.remove(self._cgroup)
        self.phase = ENDED
        self._look_at = self._kill_at = None
        linger_s = LINGER_AFTER_TERM_S if self._leaving_soon else self.spec["linger_s"]
        self._leave_at = time.monotonic() + linger_s
        self._write_state()
        self.control.push({"event": "cleared"})
        self._requests.over()

    # ── what it can be asked (shim_requests) ───────────────────────────────────────────────────

    @property
    def is_running(self) -> bool:
        return self.phase == RUNNING

    @property
    def is_over(self) -> bool:
        """Nothing of the engine is left."""
        return self.phase == ENDED

    def status(self) -> Message:
        return {
            **self._state(),
            "lost_bytes": self._output.lost_bytes,
            "last_words": self.last_words,
        }

    def tail(self, count: int) -> list[str]:
        return self._output.lines(count)

    def signal(self, number: int) -> None:
        """Send it to the running engine's group."""
        self._killed = self._killed or number == signal.SIGKILL
        send_group(self.pid, number)

    def end(self, grace_s: float) -> None:
        """TERM now, KILL after the grace. Asked twice, the shorter grace holds."""
        if self.phase == ENDED:
            return
        if self.phase == CLEARING and not self._stopping:
            grace_s = 0.0  # it ended by itself: what is left has no grace
        kill_at = time.monotonic() + grace_s
        if grace_s > 0 and self.phase == RUNNING and not self._stopping:
            send_group(self.pid, signal.SIGTERM)
        self._stopping = True
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if self.phase == CLEARING:
            self._look_at = time.monotonic()

    def release(self) -> None:
        """The exit is known: leave once nothing is left."""
        self.released = True
        if self.phase == ENDED:
            self._write_state()

    def _rebind(self) -> None:
        """Our socket went with its folder (systemd clears RuntimeDirectory): make it anew."""
        try:
            with open(os.path.join(self.folder, SOCKET), encoding="utf-8") as file:
                path = file.read().strip()
        except OSError:
            path = self.control.path
        try:
            self.control.bind(path)
        except OSError:
            return
        self._write_state()

    # ── what is on disk ────────────────────────────────────────────────────────────────────────

    def _state(self) -> Message:
        own = procfs.look(os.getpid())
        return {
            "schema": SCHEMA,
            "phase": self.phase,
            "engine": self.spec["engine"],
            "engine_id": self.spec["engine_id"],
            "instance_id": self.spec["instance_id"],
            "argv_hash": self.spec["argv_hash"],
            "boot_id": procfs.boot_id(),
            "shim_pid": os.getpid(),
            "shim_start_time": own.start_time if own else 0,
            "pid": self.pid,
            "start_time": self.start_time,
            "started_at": self.started_at,
            "socket": self.control.path,
            "exit": self.exit,
            "released": self.released,
            "cgroup": self._cgroup,
        }

    def _write_state(self) -> None:
        """Whole or not at all; on a full disk again later, the socket knows it meanwhile."""
        try:
            write_atomically(os.path.join(self.folder, STATE), json.dumps(self._state()).encode())
            self._retry_at = None
        except OSError:
            self._retry_at = time.monotonic() + STATE_RETRY_S

    def _forget(self) -> None:
        """Nothing was started: leave no word of it."""
        try:
            os.unlink(os.path.join(self.folder, STATE))
        except OSError:
            pass
        if self._cgroup is not None:
            cgroup.remove(self._cgroup)


def main() -> int:
    spec_file, ready = sys.argv[1], int(sys.argv[2])
    folder = os.path.dirname(os.path.abspath(spec_file))
    os.set_inheritable(ready, False)
    lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _libc.prctl(_PR_SET_NAME, b"creche-shim", 0, 0, 0)
    shim: Shim | None = None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refusal("another shim keeps an engine in this folder") from None
        if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise Refusal("this kernel has no child subreapers (PR_SET_CHILD_SUBREAPER)")
        with open(spec_file, "rb") as file:
            spec = json.load(file)
        os.unlink(spec_file)  # it holds the engine's secrets
        spec["umask"] = os.umask(0o077)
        os.chdir("/")  # keep no file system busy
        shim = Shim(spec, folder)
        shim.start()
    except Refusal as why:
        os.write(ready, json.dumps({"error": str(why)}).encode() + b"\n")
        if shim is not None:
            shim.control.close()
        return 1
    os.write(ready, b'{"ok": true}\n')
    os.close(ready)
    shim.run()
    os.close(lock)  # before the socket: who sees that close may start the next life
    shim.control.close()
    return 0


if __name__ == "__main__":
    os._exit(main())  # nothing to tidy: what had to be written is
