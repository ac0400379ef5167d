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
    from babysitter.shim_control import Client, Control, Message
    from babysitter.shimlog import RING_BYTES, Ring, RotatedLog

    sys.path.pop()
else:
    from babysitter import cgroup, procfs
    from babysitter.shim_control import Client, Control, Message
    from babysitter.shimlog import RING_BYTES, Ring, RotatedLog

SCHEMA = 1
STATE, LOCK, LOG, SOCKET = "state.json", "lock", "engine.log", "socket"

#: How long an exit that nobody acknowledged is kept ready; `state.json` keeps it for good.
LINGER_S = 300.0
#: After SIGTERM (the host goes down) nobody will come: leave soon after the engine.
LINGER_AFTER_TERM_S = 1.0
#: Between two looks for what is left, growing: a process in the kernel's hands may take its time.
LOOK_S, LOOK_S_MAX = 0.01, 0.25
#: A state that a full disk refused is tried again this often.
STATE_RETRY_S = 1.0
#: The kernel's default limit for users: slack for an engine while we are off the CPU.
PIPE_BYTES = 1024 * 1024
#: More than one pipe's worth before others get their turn: after the last writer's end, all of it.
READ_BYTES, READS_MAX = 64 * 1024, 32
#: Answers that wait for the end; a babysitter asks once.
WAITING_MAX = 64
#: Errors of our own that are told in `shim.err`; later ones repeat them.
ERRORS_TOLD_MAX = 20

STARTING, RUNNING, CLEARING, ENDED = "starting", "running", "clearing", "ended"

_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """The engine cannot be started; a sentence for the operator."""


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
        self.released = False
        self._poll = select.epoll()
        self.control = Control(self._poll, self._answer)
        self._ring = Ring(RING_BYTES)
        self._log = RotatedLog(os.path.join(folder, LOG), spec["log_bytes_max"], spec["log_files"])
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signal_wake = wake
        self._output = -1
        self._waiting: list[tuple[Client, Any]] = []  # answered when nothing is left
        self._stopping = False  # somebody asked for the end, so it is no crash
        self._killed = False  # we sent KILL, so KILL is no sign of the kernel's OOM killer
        self._kill_at: float | None = None  # end of the grace
        self._look_at: float | None = None
        self._look_s = LOOK_S
        self._leave_at: float | None = None
        self._retry_at: float | None = None
        self._leaving_soon = False
        self._beyond_us: set[tuple[int, int]] = set()  # processes of users we may not signal
        self._cgroup: str | None = None
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
            self._cgroup = cgroup.make(self.spec["cgroup"], f"creche-{self.spec['engine_id']}")
        if self._cgroup is not None:
            own = os.path.join(self._cgroup, "memory.events")
            self._oom_file = own if os.access(own, os.R_OK) else self._oom_file
        self._oom_before = cgroup.oom_kills(self._oom_file)
        try:
            self._spawn()
        except Refusal:
            self._forget()
            raise
        self.phase = RUNNING
        self._write_state()

    def _spawn(self) -> None:
        self._output, output = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        try:
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass
        failed, failing = os.pipe2(os.O_CLOEXEC)
        self.started_at = time.time()  # noqa: TID251  (no common here)
        self.pid = os.fork()
        if self.pid == 0:
            _become_engine(self.spec, output, failing, self._cgroup)
        os.close(output)
        os.close(failing)
        with open(failed, encoding="utf-8") as pipe:
            why = pipe.read()
        if why:
            os.waitpid(self.pid, 0)
            raise Refusal(why)
        found = procfs.look(self.pid)  # still there: nobody but us reaps it
        self.start_time = found.start_time if found else 0
        self._poll.register(self._output, select.EPOLLIN)

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
            if fd == self._output:
                self._drain(READS_MAX)
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
                _send_group(self.pid, signal.SIGKILL)
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

    # ── output ─────────────────────────────────────────────────────────────────────────────────

    def _drain(self, reads_max: int) -> None:
        """Take what the engine printed: never more than its turn, never waiting for the disk."""
        for _ in range(reads_max):
            if self._output < 0:
                return
            try:
                chunk = os.read(self._output, READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._close_output()
                return
            self._ring.add(chunk)
            self._log.add(chunk)

    def _close_output(self) -> None:
        if self._output >= 0:
            self._poll.unregister(self._output)
            os.close(self._output)
            self._output = -1

    # ── the end ────────────────────────────────────────────────────────────────────────────────

    def _reap(self) -> None:
        if self.phase == RUNNING:
            # Before it is reaped its pid, and so its group's number, is nobody else's.
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is not None and not self._in_grace():
                _send_group(self.pid, signal.SIGKILL)
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
        killed_by = signal.Signals(-code).name if code < 0 and -code in _SIGNALS else None
        if code < 0 and killed_by is None:
            killed_by = f"SIG{-code}"  # a real-time signal
        self.exit = {
            "code": code if code >= 0 else None,
            "signal": killed_by,
            "oom": killed_by == "SIGKILL" and not self._killed and self._oom_seen(),
            "at": time.time(),  # noqa: TID251  (no common here)
        }
        self.phase = CLEARING
        self._drain(READS_MAX)  # its last words, before anybody asks for them
        self._write_state()
        self.control.push({"event": "exited", "exit": self.exit})
        self._look_s = LOOK_S
        self._look_at = time.monotonic()

    def _in_grace(self) -> bool:
        return self._kill_at is not None and not self._is_due(self._kill_at)

    def _oom_seen(self) -> bool:
        return cgroup.oom_kills(self._oom_file) > self._oom_before

    def _clear(self) -> None:
        """End what the engine left. Its group keeps the rest of a grace that was asked for."""
        procs = procfs.table()
        left = [
            proc
            for proc in procfs.under([os.getpid()], procs)
            if proc.state not in "ZX" and (proc.pid, proc.start_time) not in self._beyond_us
        ]
        if not left:
            self._cleared()
            return
        polite = self._in_grace() and any(proc.group == self.pid for proc in left)
        if not polite:
            if self._cgroup is not None:
                cgroup.kill(self._cgroup)
            for proc in left:
                try:
                    procfs.send(proc, signal.SIGKILL)
                except PermissionError:
                    self._beyond_us.add((proc.pid, proc.start_time))
        self._look_at = time.monotonic() + self._look_s
        self._look_s = min(self._look_s * 2, LOOK_S_MAX)

    def _cleared(self) -> None:
        self._drain(READS_MAX)
        self._close_output()
        self._log.close()
        if self._cgroup is not None:
            cgroup.remove(self._cgroup)
        self.phase = ENDED
        self._look_at = self._kill_at = None
        linger_s = LINGER_AFTER_TERM_S if self._leaving_soon else self.spec["linger_s"]
        self._leave_at = time.monotonic() + linger_s
        self._write_state()
        self.control.push({"event": "cleared"})
        for client, number in self._waiting:
            self._say(client, number, exit=self.exit)
        self._waiting.clear()

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    def _answer(self, client: Client, request: Message) -> None:
        number = request.get("id")
        command = request.get("cmd")
        if command == "status":
            self._say(client, number, **self._status())
        elif command == "subscribe":
            client.subscribed = True
            self._say(client, number, **self._status())
        elif command == "tail":
            count = request.get("lines")
            lines = self._ring.lines(count if isinstance(count, int) else 0)
            self._say(client, number, lines=lines)
        elif command == "signal":
            self._signal(client, number, request.get("name"))
        elif command in ("stop", "kill"):
            grace_s = request.get("grace_s", 0) if command == "stop" else 0
            if not isinstance(grace_s, int | float) or not 0 <= grace_s < 1e9:
                self.control.send(client, {"id": number, "error": "grace_s is no duration"})
                return
            self._end(float(grace_s))
            self._say_when_cleared(client, number)
        elif command == "release":
            if self.exit is None:
                self.control.send(client, {"id": number, "error": "the engine still runs"})
                return
            self._release(client, number)
        else:
            self.control.send(client, {"id": number, "error": f"unknown command {command!r:.40}"})

    def _say(self, client: Client, number: Any, **fields: Any) -> None:
        self.control.send(client, {"id": number, "ok": True, **fields})

    def _say_when_cleared(self, client: Client, number: Any) -> None:
        if self.phase == ENDED:
            self._say(client, number, exit=self.exit)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((client, number))
        else:
            self.control.send(client, {"id": number, "error": "too many wait for the end"})

    def _status(self) -> Message:
        return {**self._state(), "lost_bytes": self._log.lost_bytes}

    def _signal(self, client: Client, number: Any, name: Any) -> None:
        found = _SIGNAL_NUMBERS.get(name) if isinstance(name, str) else None
        if found is None:
            self.control.send(client, {"id": number, "error": "unknown signal"})
        elif self.phase != RUNNING:
            self.control.send(client, {"id": number, "error": "the engine has ended"})
        else:
            self._killed = self._killed or found == signal.SIGKILL
            _send_group(self.pid, found)
            self._say(client, number)

    def _end(self, grace_s: float) -> None:
        """TERM now, KILL after the grace. Asked twice, the shorter grace holds."""
        if self.phase == ENDED:
            return
        if self.phase == CLEARING and not self._stopping:
            grace_s = 0.0  # it ended by itself: what is left has no grace
        kill_at = time.monotonic() + grace_s
        if grace_s > 0 and self.phase == RUNNING and not self._stopping:
            _send_group(self.pid, signal.SIGTERM)
        self._stopping = True
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        if self.phase == CLEARING:
            self._look_at = time.monotonic()

    def _release(self, client: Client, number: Any) -> None:
        self.released = True
        if self.phase == ENDED:
            self._write_state()
        self._say_when_cleared(client, number)

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


_SIGNALS = {int(one) for one in signal.Signals}
_SIGNAL_NUMBERS = {one.name: int(one) for one in signal.Signals}


def write_atomically(path: str, text: bytes) -> None:
    """Replace `path` (mode 0600) in one step. Raises OSError."""
    new = f"{path}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, text)
    finally:
        os.close(fd)
    if written != len(text):
        raise OSError("the disk took only part of it")
    os.replace(new, path)


def _send_group(group: int, number: int) -> None:
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
