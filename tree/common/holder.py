"""A small parent that holds a daemon's listening sockets, so that a successor can take its place.

    holder ──fork, exec──▶ daemon     sockets from fd 3 on (LISTEN_FDS), then a channel
       ◀── READY=1, STATUS=… as to systemd, SOCKETS=1 with the sockets themselves, RELEASED=1
       ──▶ stop, hurry, reload, own, leave (with a socket to the successor), meet (its other end)

    SIGUSR2 replaces · SIGHUP reloads · SIGTERM, SIGINT stop, the second hurries, the third kills

The daemon binds and says what it listens on: the holder reads no configuration. `Succession`
decides; here is what it takes to do it. Standard library only, and not much of that: it is to
outlive upgrades of everything else, in ten megabytes. Whatever else a daemon is told, it ends when
its channel does: without its holder it could not be replaced any more.
"""

import array
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from common import succession
from common.succession import Exit, Kill, Part, Say, Serve, Start, Succession, Tell

FLAG = "--replaceable"
#: `<pid of the daemon>:<fd of the channel>:<words>`; of the words: owns, kept, heir.
VARIABLE = "CRECHE_HOLDER"
MEET = "meet"
MESSAGE_BYTES_MAX = 64 << 10
#: As many as `common.inherit` takes.
SOCKETS_MAX = 16
_FIRST_FD = 3
#: Where descriptors wait in a new process until those from 3 on are put in their places.
_ASIDE_FD = 256
_LEVELS = ("debug", "info", "warning", "error")


def wanted(arguments: Sequence[str]) -> bool:
    """Whether this process is to be a holder, given its command line."""
    return FLAG in arguments and arguments[0] != "check" and VARIABLE not in os.environ


def run(name: str) -> int:
    """Hold for the daemon that this very command line starts; the exit status."""
    return Holder(name, sys.argv[1:]).run()


class _Child:
    def __init__(self, number: int, pid: int, channel: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        #: What it listens on, once it has said so.
        self.sockets: list[socket.socket] = []


class Holder:
    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self._log = _Log(name, arguments)
        self._systemd = _Systemd()
        self._machine = Succession(self._systemd.watchdog_s)
        self._children: dict[int, _Child] = {}
        self._sockets, self._names = _given()
        #: systemd holds them besides: they outlive us.
        self._kept = bool(self._sockets)
        self._status: int | None = None
        self._on_terminal = _has_terminal()
        self._signals: list[int] = []
        self._beat_at = 0.0

    def run(self) -> int:
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(which, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._do(self._machine.begin(time.monotonic()))
        while self._status is None:
            self._wait(woken)
            for number in self._take_signals():
                self._signalled(number)
            for child in list(self._children.values()):
                self._listen_to(child)
            self._reap()
            self._do(self._machine.tick(time.monotonic()))
        return self._status

    # --- what happens -----------------------------------------------------------------------------

    def _wait(self, woken: int) -> None:
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        for child in self._children.values():
            if child.channel.fileno() >= 0:
                poll.register(child.channel, select.POLLIN)
        now = time.monotonic()
        if self._systemd.watchdog_s is not None and now >= self._beat_at:
            self._systemd.send("WATCHDOG=1")
            self._beat_at = now + self._systemd.watchdog_s / 2
        times = [self._machine.next_at(), self._beat_at or None]
        at = min((one for one in times if one is not None), default=None)
        poll.poll(None if at is None else max(0.0, at - now) * 1000 + 1)
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass

    def _take_signals(self) -> list[int]:
        taken, self._signals = self._signals, []
        return taken

    def _signalled(self, number: int) -> None:
        if number == signal.SIGUSR2:
            self._systemd.reloading("replacing")
            self._do(self._machine.replace(time.monotonic()))
            if self._machine.starting is None:
                self._systemd.send("READY=1")
        elif number == signal.SIGHUP and not (self._on_terminal and not _has_terminal()):
            self._do(self._machine.reload())
        else:
            if not self._machine.stops:
                self._systemd.send("STOPPING=1")
            self._do(self._machine.stop())

    def _listen_to(self, child: _Child) -> None:
        while child.channel.fileno() >= 0:
            try:
                data, found, _, _ = child.channel.recvmsg(
                    MESSAGE_BYTES_MAX, socket.CMSG_SPACE(SOCKETS_MAX * 4), socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, found = b"", []
            if not data:
                child.channel.close()  # it ends, or will be told by its end
                return
            self._told(child, data.decode(errors="replace"), _descriptors(found))

    def _told(self, child: _Child, text: str, fds: list[int]) -> None:
        now = time.monotonic()
        lines = text.split("\n")
        sockets = [socket.socket(fileno=fd) for fd in fds]
        if lines[0] == "SOCKETS=1":
            child.sockets = sockets
        elif lines[0] == "RELEASED=1":
            self._do(self._machine.released(child.number))
        elif lines[0] == "WATCHDOG=1":
            self._machine.beaten(child.number, now)
        elif lines[0] == "READY=1":
            self._do(self._machine.ready(child.number, now))
        # What systemd shows is what the one that serves says.
        serves = child.number == self._machine.serving and not self._machine.stops
        if serves and lines[0].partition("=")[0] in ("READY", "STATUS", "RELOADING"):
            self._systemd.send(text)

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, how = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._listen_to(child)  # its last words
            del self._children[child.number]
            child.channel.close()
            _close(child.sockets)
            status = os.waitstatus_to_exitcode(how)
            was_starting = child.number == self._machine.starting
            status = status if status >= 0 else 128 - status
            self._do(self._machine.ended(child.number, status, time.monotonic()))
            if was_starting and self._machine.serving is not None and not self._machine.stops:
                self._systemd.send("READY=1\nSTATUS=the successor did not start: see the log")

    # --- what is done -----------------------------------------------------------------------------

    def _do(self, actions: Sequence[succession.Action]) -> None:
        for action in actions:
            match action:
                case Start(number, owns):
                    self._start(number, owns)
                case Tell(number, word):
                    self._tell(number, word)
                case Serve(number):
                    self._hold(self._children[number])
                case Part(old, new):
                    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    self._tell(old, succession.LEAVE, ours)
                    self._tell(new, MEET, theirs)
                    ours.close()
                    theirs.close()
                case Kill(number, at_once):
                    os.kill(
                        self._children[number].pid, signal.SIGKILL if at_once else signal.SIGTERM
                    )
                case Say(level, text):
                    self._log.say(level, text)
                case Exit(status):
                    self._status = status if self._status is None else self._status

    def _tell(self, number: int, word: str, one: socket.socket | None = None) -> None:
        sent = array.array("i", [] if one is None else [one.fileno()])
        with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)] if sent else []
        try:
            self._children[number].channel.sendmsg([word.encode()], with_it)
        except OSError as why:  # it has ended: that is heard of next
            self._log.say("warning", f"{word}: could not be told to {number}: {why.strerror}")

    def _hold(self, child: _Child) -> None:
        """What it listens on is what there is; a socket that is held already stays the same."""
        have = {_where(one): one for one in self._sockets}
        names = dict(zip(have, self._names, strict=True))
        found: dict[object, socket.socket] = {}
        for one in child.sockets:
            where = _where(one)
            if where in have or where in found:
                one.close()
            found.setdefault(where, have.pop(where, one))
        child.sockets = []
        _close(list(have.values()))
        self._sockets = list(found.values())
        self._names = [names.get(where, "held") for where in found]

    def _start(self, number: int, owns: bool) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        words = [
            *(["owns"] if owns else []),
            *(["kept"] if self._kept else []),
            *(["heir"] if self._machine.serving is not None else []),
        ]
        pid = os.fork()
        if pid == 0:
            self._become(theirs, words)
        theirs.close()
        self._children[number] = _Child(number, pid, ours)

    def _become(self, channel: socket.socket, words: list[str]) -> NoReturn:
        """In the new process, with what it inherits put in place."""
        try:
            signal.set_wakeup_fd(-1)
            for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(which, signal.SIG_DFL)
            # SIGUSR2 is the holder's, also where a whole control group gets it; a terminal's
            # signals come through the holder.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            os.setpgid(0, 0)
            given = [*self._sockets, channel]
            aside = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, _ASIDE_FD) for one in given]
            for target, source in enumerate(aside, start=_FIRST_FD):
                os.dup2(source, target)
            environ = dict(os.environ)
            for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS"):
                environ.pop(name, None)
            if self._sockets:
                environ["LISTEN_PID"] = str(os.getpid())
                environ["LISTEN_FDS"] = str(len(self._sockets))
                environ["LISTEN_FDNAMES"] = ":".join(self._names)
            fd = _FIRST_FD + len(self._sockets)
            environ[VARIABLE] = f"{os.getpid()}:{fd}:{' '.join(words)}"
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
        except OSError as why:
            self._log.say("error", f"{sys.executable} cannot be started: {why.strerror}")
        finally:
            os._exit(127)


def _given() -> tuple[list[socket.socket], list[str]]:
    """What systemd opened for us. What it is, the daemon judges."""
    meant, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant != str(os.getpid()) or not count.isdigit() or int(count) > SOCKETS_MAX:
        return [], []
    sockets = []
    for number in range(int(count)):
        os.set_inheritable(_FIRST_FD + number, False)
        sockets.append(socket.socket(fileno=_FIRST_FD + number))
    return sockets, [*names, *["unknown"] * len(sockets)][: len(sockets)]


def _descriptors(found: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in found:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _where(one: socket.socket) -> object:
    return one.family, one.getsockname()


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _has_terminal() -> bool:
    try:
        opened = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(opened)
    return True


class _Systemd:
    """Its notify protocol, best effort. The daemons speak to us, we speak to it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        mine = path and usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if mine else None
        self._path = "\0" + path[1:] if path.startswith("@") else path

    def reloading(self, status: str) -> None:
        usec = time.monotonic() * 1e6
        self.send(f"RELOADING=1\nMONOTONIC_USEC={usec:.0f}\nSTATUS={status}")

    def send(self, text: str) -> None:
        if not self._path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                one.setblocking(False)
                one.sendto(text.encode(), self._path)
        except OSError:
            pass


class _Log:
    """Lines as the daemon writes them, without what that needs."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        form, level = _option(arguments, "--log-format"), _option(arguments, "--log-level")
        self._name = name
        self._text = form == "text" or (form != "json" and sys.stderr.isatty())
        self._least = _LEVELS.index(level) if level in _LEVELS else 1

    def say(self, level: str, text: str) -> None:
        if _LEVELS.index(level) < self._least:
            return
        now = time.time()  # noqa: TID251  (a log line's time is for people)
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = f"{whole}.{int(now % 1 * 1000):03}Z"
        if self._text:
            mark = {"warning": "!", "error": "✗"}.get(level, " ")
            line = f"{line[11:19]} {mark} holder: {text}\n"
        else:
            event = {"ts": line, "level": level, "daemon": self._name, "logger": "holder"}
            line = json.dumps({**event, "event": text}, separators=(",", ":")) + "\n"
        try:
            os.write(2, line.encode())
        except OSError:
            pass


def _option(arguments: Sequence[str], name: str) -> str:
    for number, one in enumerate(arguments):
        if one == name and number + 1 < len(arguments):
            return arguments[number + 1]
        if one.startswith(name + "="):
            return one[len(name) + 1 :]
    return ""
