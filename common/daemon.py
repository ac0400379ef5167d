"""The life of a daemon's process: loop, signals, systemd, exit status.

    start ──main calls ready()──▶ running ──SIGTERM, SIGINT, or fail(error)──▶ stopping ──▶ end
    a second signal sets `hurry`; a third, or HURRY_S later, cancels what is left
    SIGHUP ends a daemon, unless it asked for it with `on_reload` and its terminal is still there
    under a holder (`held`): the same by its words; "leave" begins to end with a successor there

Exit status: 0 stopped as asked; 1 refused to start or failed, with the reason on stderr.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator

import structlog

from common import clock, tasks
from common.config import ConfigError
from common.errors import RefusalError
from common.held import Held
from common.holder import MEET
from common.redact import redact
from common.succession import HURRY, LEAVE, OWN, RELOAD, STOP

_log = structlog.get_logger("daemon")
HURRY_S = 5.0
#: Each connection is one, a relayed request two. Shells give 1,024: 500 streams, then refusals.
OPEN_FILES = 65_536

Main = Callable[["Daemon"], Awaitable[None]]


class Daemon:
    """What a daemon's `main` gets: when to stop, how to say that it is ready or has failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.error: BaseException | None = None
        #: Who has our sockets, where it is not us.
        self.held = Held.from_environment()
        self._notify = Notifier.from_environment(self.held)
        self._reload: Callable[[], None] | None = None
        self._main: asyncio.Future[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._on_terminal = False

    def ready(self, status: str = "") -> None:
        """Tell systemd that requests are served from now on."""
        self._notify.send("READY=1" + (f"\nSTATUS={status}" if status else ""))
        self._beat()

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._notify.send(f"STATUS={text}")

    def on_reload(self, act: Callable[[], None]) -> None:
        """Have SIGHUP call `act` from now on. While stopping it calls nothing.

        Where the terminal that it was started on has been closed, SIGHUP says that: it stops.
        """
        loop = asyncio.get_running_loop()
        self._on_terminal = _has_terminal()
        self._reload = act
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload, act)

    def reloading(self) -> None:
        """Tell systemd that the configuration is read again; `reloaded` must follow."""
        usec = clock.monotonic() * 1e6
        self._notify.send(f"RELOADING=1\nMONOTONIC_USEC={usec:.0f}")

    def reloaded(self, status: str) -> None:
        self._notify.send(f"READY=1\nSTATUS={status}")

    def stop(self) -> None:
        """Begin to end, as on SIGTERM."""
        if not self.stopping.is_set():
            self._notify.send("STOPPING=1")
            self.stopping.set()

    def fail(self, error: BaseException) -> None:
        """End with `error`. The first one counts."""
        if self.error is None:
            self.error = error
        self.stop()

    async def until_stopped(self) -> None:
        """Wait for the first signal, `stop` or `fail`."""
        await self.stopping.wait()

    def signalled(self, which: signal.Signals) -> None:
        if not self.stopping.is_set():
            _log.info("stopping", signal=which.name)
            self.stop()
        elif not self.hurry.is_set():
            _log.warning("hurrying", signal=which.name)
            self._hurry()
        else:
            self._cut()

    def _hurry(self) -> None:
        self.hurry.set()
        asyncio.get_running_loop().call_later(HURRY_S, self._cut)

    def _told(self, held: Held, word: str, given: socket.socket | None) -> None:
        """By the holder. Signals may come besides, so a word said twice is said once."""
        if word == RELOAD:
            if self._reload is not None:
                self._asked_to_reload(self._reload)
        elif word == OWN:
            held.owned.set()
        elif word == MEET and given is not None:
            if held.meet is not None:
                held.meet(given)
            else:
                given.close()
        elif word == LEAVE:
            held.leave(given)
            if not self.stopping.is_set():
                _log.info("replaced")
                self.stop()
        elif word == HURRY and self.stopping.is_set():
            if not self.hurry.is_set():
                self._hurry()
        else:
            if not word:
                _log.warning("the holder of the port has gone")
            held.stopped.set()
            if not self.stopping.is_set():
                _log.info("stopping", told=STOP)
                self.stop()

    async def run(self, main: Main) -> None:
        """Run `main` to its end; raise what it, or a fatal task, failed with."""
        loop = asyncio.get_running_loop()
        tasks.on_fatal(self.fail)
        held = self.held
        if held is not None:
            held.listen(lambda word, given: self._told(held, word, given))
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self.signalled, which)
        self._main = asyncio.ensure_future(main(self))  # noqa: TID251  (awaited right here)
        try:
            await self._main
        except asyncio.CancelledError:
            if not self.hurry.is_set():
                raise
        finally:
            self._notify.send("STOPPING=1")
            if self._watchdog is not None:
                self._watchdog.cancel()
            self._notify.close()
            if held is not None:
                held.close()
        if self.error is not None:
            raise self.error

    def _asked_to_reload(self, act: Callable[[], None]) -> None:
        if self._on_terminal and not _has_terminal():
            self.signalled(signal.SIGHUP)
        elif not self.stopping.is_set():
            act()

    def _cut(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _beat(self) -> None:
        """The watchdog's sign of life comes from the loop: a loop that hangs gives none."""
        if self._notify.watchdog_s is None:
            return
        self._notify.send("WATCHDOG=1")
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_later(self._notify.watchdog_s / 2, self._beat)


class Notifier:
    """systemd's notify protocol: datagrams to $NOTIFY_SOCKET (`@` is the abstract namespace).

    Under a holder it goes to that, which speaks to systemd for whoever serves.
    """

    def __init__(
        self, path: str | None, watchdog_s: float | None = None, held: Held | None = None
    ) -> None:
        self.watchdog_s = watchdog_s if path or held else None
        self._held = held
        self._path = "\0" + path[1:] if path and path.startswith("@") else path
        self._socket: socket.socket | None = None

    @classmethod
    def from_environment(cls, held: Held | None = None) -> "Notifier":
        """The variables are taken away: engines that we start must not speak for us."""
        path = os.environ.pop("NOTIFY_SOCKET", None)
        usec = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 and mine else None
        return cls(path or None, watchdog_s, held)

    def send(self, message: str) -> None:
        """Best effort: a service manager that does not listen is no reason to fail."""
        if self._held is not None:
            self._held.send(message)
            return
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(message.encode(), self._path)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def run(name: str, main: Main) -> int:
    """Run a daemon until it ends; the exit status. `name` (`creche-router`) opens a refusal."""
    allow_open_files()
    with _told(name) as outcome, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(name, main))
    return outcome[0]


def allow_open_files() -> None:
    """Raise the soft limit as far as the hard one lets it, OPEN_FILES at most; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):  # forbidden: then with what there is
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(name: str, main: Main) -> None:
    try:
        await Daemon(name).run(main)
    finally:
        # The loop gives its signals back as it closes: one that comes now changes no exit status.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})


@contextlib.contextmanager
def _told(name: str) -> Iterator[list[int]]:
    """Turns what ends the daemon into words on stderr and an exit status."""
    outcome = [0]
    try:
        yield outcome
    except RefusalError as refusal:
        tell(f"{name}: refusing to start: {refusal}")
        outcome[0] = 1
    except ConfigError as faults:
        tell(f"{name}: refusing to start: the configuration has errors.\n{faults}")
        outcome[0] = 1
    except KeyboardInterrupt:  # Ctrl-C before the loop took the signal over
        outcome[0] = 130
    except Exception as error:
        _log.critical("failed", exc_info=error)
        tell(f"{name}: failed: {type(error).__name__}: {error}")
        outcome[0] = 1


def _has_terminal() -> bool:
    try:
        opened = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(opened)
    return True


def tell(text: str) -> None:
    """To the operator, on stderr, without secrets."""
    sys.stderr.write(redact(text) + "\n")
    sys.stderr.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed; plain asyncio costs 2 to 4 µs more per request."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
