#!/usr/bin/env python3
"""`make up`: registry, router and a babysitter with three engines, until Ctrl-C.

    lock ─▶ end leftovers ─▶ ports free? ─▶ registry ─▶ router, babysitter ─▶ engines ─▶ Ready
    Ctrl-C ─▶ router ─▶ engines, babysitter ─▶ registry ─▶ is nothing left?

Every step waits on a readiness that is asked for, never on time. A daemon that ends by itself is
told with its last log lines: before Ready that ends the run, afterwards it is started again, as a
service manager would, unless it keeps ending.
"""

import argparse
import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from up import ask, plan, ports, processes, screen
from up.plan import Engine, Plan
from up.processes import Daemon

from common.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
#: Between two questions to a part that is starting.
ASK_S = 0.03
#: A part of the demo that is not ready by then will not be. A model of the user's may be large.
READY_S = 60.0
GGUF_READY_S = 1800.0
#: An engine that ended this often before it was ready ends the run.
ENGINE_ENDS_MAX = 3
#: A daemon that ended this often within CRASH_WINDOW_S is not started again.
CRASHES_MAX = 3
CRASH_WINDOW_S = 60.0
#: make and the terminal may both pass Ctrl-C on: signals this close together are one.
SAME_SIGNAL_S = 0.5
#: The engines' drain and grace fit in, with room.
ENGINES_END_S = 30.0
SHIMS_END_S = 15.0


class Failed(Exception):
    """The run cannot go on. The first argument says what, the others why and one fix."""


class Stopped(Exception):
    """Ctrl-C, or what amounts to it."""


class Signals:
    """Ctrl-C and friends as something that can be waited for; a child's end wakes, too."""

    def __init__(self) -> None:
        self.asked = 0
        self._last = 0.0
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(which, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, *_: object) -> None:
        now = time.monotonic()
        if not self.asked or now - self._last > SAME_SIGNAL_S:
            self.asked += 1
            self._last = now

    def pause(self, seconds: float | None) -> None:
        """Until a signal or a child's end, at most `seconds`."""
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def ignore(self) -> None:
        """All is done: a Ctrl-C that comes now must not make it look otherwise."""
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(which, signal.SIG_IGN)

    def hurry(self) -> bool:
        """A second Ctrl-C: nobody wants to wait for running answers any more."""
        return self.asked > 1


class Up:
    def __init__(self, made: Plan, signals: Signals, mark: str) -> None:
        self.made = made
        self.signals = signals
        self.mark = mark
        logs = made.data / "log"
        logs.mkdir(exist_ok=True)
        self.registry, self.router, self.babysitter = (
            Daemon(name, made.data / f"{name}.toml", logs / f"{name}.log", mark)
            for name in ("registry", "router", "babysitter")
        )
        self.daemons = {
            self.registry: f"{made.registry_url}/health",
            self.router: f"{made.router_url}/ready",
            self.babysitter: f"{made.babysitter_url}/engines",
        }
        self._writer: subprocess.Popen[bytes] | None = None

    # ---- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        self._write_files()
        self._begin_model()
        self.registry.start()
        self._ready(self.registry, self.made.registry_url)
        self.router.start()
        self._end_model()
        self.babysitter.start()
        self._ready(self.router, self.made.router_url)
        self._engines_ready()

    def _write_files(self) -> None:
        for name, text in plan.configs(self.made).items():
            (self.made.data / name).write_text(text, encoding="utf-8")
        for daemon in self.daemons:
            if daemon.log.exists():
                daemon.log.replace(daemon.log.with_suffix(".log.1"))

    def _begin_model(self) -> None:
        """The tiny model takes a moment of CPU: it is written while the registry starts."""
        model = self.made.engines[0].model
        if self.made.engines[0].name == plan.TINY and model is not None and not model.exists():
            self._writer = subprocess.Popen(
                [sys.executable, str(ROOT / "scripts" / "tiny_gguf.py"), str(model)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )

    def _end_model(self) -> None:
        if self._writer is None:
            return
        _, said = self._writer.communicate(timeout=READY_S)
        if self._writer.returncode:
            raise Failed("tiny-llama  its model file could not be written", *_lines(said))

    def _ready(self, daemon: Daemon, what: str) -> None:
        self._until(lambda: ask.is_ready(self.daemons[daemon]), daemon, what, READY_S)
        screen.ready(daemon.name, what, time.monotonic() - daemon.started)

    def _engines_ready(self) -> None:
        since = self.babysitter.started
        first, *mocks = self.made.engines
        waiting = [[first], mocks]
        limit_s = READY_S if first.name == plan.TINY else GGUF_READY_S

        def look() -> bool:
            states = ask.table(self.daemons[self.babysitter], "engines")
            served = ask.table(f"{self.made.router_url}/services", "services")
            fit = {one["name"] for one in served if one.get("healthy")}
            for group in list(waiting):
                mine = [one for one in states if one["name"] in {each.name for each in group}]
                for one in mine:
                    self._refuse_broken(one)
                ready = [one for one in mine if one["state"] == "READY" and one["service"] in fit]
                if len(ready) == len(group):
                    waiting.remove(group)
                    screen.ready(_names(group), group[0].what, time.monotonic() - since)
            if waiting:
                screen.pending(_names(waiting[0]), waiting[0][0].what, since)
            return not waiting

        self._until(look, self.babysitter, "", limit_s)

    def _refuse_broken(self, engine: dict[str, object]) -> None:
        """Raises Failed for an engine that will not come up: given up, or ended again and again."""
        restarts = engine.get("restarts")
        often = isinstance(restarts, int) and restarts >= ENGINE_ENDS_MAX
        if engine["state"] != "FATAL" and not often:
            return
        last = engine.get("last_exit")
        told = last if isinstance(last, dict) else {}
        lines = [str(line) for line in told.get("log") or ()]
        raise Failed(f"{engine['name']}  {told.get('text') or 'does not start'}", *lines[-12:])

    def _until(self, done: Callable[[], bool], daemon: Daemon, what: str, limit_s: float) -> None:
        """Come back when `done`. Raises Failed if a daemon ends meanwhile, or Stopped."""
        deadline = time.monotonic() + limit_s
        while not done():
            if what:
                screen.pending(daemon.name, what, daemon.started)
            for one in self.daemons:
                if (status := one.ended) is not None:
                    raise Failed(
                        f"{one.name}  ended: {processes.how_ended(status)}; "
                        f"last lines of {_short(one.log)}:",
                        *one.last_lines(),
                    )
            if time.monotonic() > deadline:
                raise Failed(
                    f"{daemon.name}  not ready after {limit_s:.0f} s; "
                    f"last lines of {_short(daemon.log)}:",
                    *daemon.last_lines(),
                )
            self.signals.pause(ASK_S)
            if self.signals.asked:
                raise Stopped

    # ---- running -------------------------------------------------------------------------------

    def watch(self) -> None:
        """Until Ctrl-C. Raises Failed when a daemon keeps ending."""
        while not self.signals.asked:
            for daemon in self.daemons:
                if (status := daemon.ended) is not None:
                    self._again(daemon, status)
            self.signals.pause(None)

    def _again(self, daemon: Daemon, status: int) -> None:
        now = time.monotonic()
        daemon.crashes = [one for one in daemon.crashes if now - one < CRASH_WINDOW_S] + [now]
        lines = daemon.last_lines()
        head = f"{daemon.name}  ended: {processes.how_ended(status)}"
        if len(daemon.crashes) >= CRASHES_MAX:
            raise Failed(f"{head}, {len(daemon.crashes)} times in a minute; last lines:", *lines)
        screen.fault(f"{head}; last lines of {_short(daemon.log)}:", *lines)
        daemon.start()
        self._until(
            lambda: ask.is_ready(self.daemons[daemon]), daemon, "starting it again", READY_S
        )
        screen.ready(daemon.name, "started again", time.monotonic() - daemon.started)

    # ---- stopping ------------------------------------------------------------------------------

    def stop(self) -> bool:
        """The router first: nobody is sent to an engine that ends. Whether all ended well."""
        if self._writer is not None and self._writer.poll() is None:
            self._writer.kill()
            self._writer.wait()
        running = [one for one in self.daemons if one.process is not None]
        if not running:
            return True
        screen.say()
        screen.part("Stopping")
        well = self._end(self.router)
        well &= self._end_engines()
        well &= self._end(self.babysitter)
        well &= self._end(self.registry)
        return self._nothing_left() and well

    def _end(self, daemon: Daemon) -> bool:
        if daemon.process is None:
            return True
        daemon.terminate()
        well = daemon.end(self.signals.hurry)
        screen.part(f"  {daemon.name} {_tick(well)}" + ("" if well else " killed"))
        return well

    def _end_engines(self) -> bool:
        """The babysitter stops them: tell it, and count."""
        engines = ask.table(self.daemons[self.babysitter], "engines", ask.ONCE_S)
        pids = [one["pid"] for one in engines if one.get("pid")]
        self.babysitter.terminate()
        deadline = time.monotonic() + ENGINES_END_S
        hurried = False
        while any(map(_lives, pids)) and self.babysitter.ended is None:
            if self.signals.hurry() and not hurried:
                hurried = True
                self.babysitter.terminate()
                deadline = time.monotonic() + processes.HURRY_S
            if time.monotonic() > deadline:
                break
            self.signals.pause(ASK_S)
        gone = sum(not _lives(pid) for pid in pids)
        if pids:
            screen.part(f"  engines {_tick(gone == len(pids))} {gone} of {len(pids)}")
        return gone == len(pids)

    def _nothing_left(self) -> bool:
        deadline = time.monotonic() + SHIMS_END_S
        while (left := processes.marked(self.mark)) and time.monotonic() < deadline:
            if self.signals.hurry():
                break
            self.signals.pause(ASK_S)
        if not left:
            screen.say("   nothing left running")
            return True
        screen.say(f"   {len(left)} left: {', '.join(sorted(left.values()))}")
        processes.end_marked(self.mark)
        screen.say("  ended them; nothing left running")
        return False


# ---- the page, and small things ----------------------------------------------------------------


def page(made: Plan, took_s: float) -> list[str]:
    model = made.engines[0].models[0]
    # Random weights come to no end by themselves: minutes of it would look like a hang.
    limit = '"max_tokens":64,' if model == plan.TINY else ""
    body = f'{{"model":"{model}",{limit}"messages":[{{"role":"user","content":"hi"}}]}}'
    command = _creche()
    # `creche` looks at the default port by itself.
    elsewhere = made.router_port != plan.PORT
    return [
        "",
        f"Ready in {took_s:.1f} s after installation.",
        f"  curl {made.router_url}/v1/chat/completions -H 'content-type: application/json' \\",
        f"    -d '{body}'",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{made.router_url}/v1", api_key="unused")',
        "",
        *([f"First      export CRECHE_URL={made.router_url}"] if elsewhere else []),
        f"Chat       {command} chat --model {model}",
        "Your model make up GGUF=/path/model.gguf",
        f"Break it   {command} engine kill mock-a        (then: {command} status)",
        "Stop       Ctrl-C",
    ]


def _creche() -> str:
    """The operator's command as it can be typed here."""
    beside = Path(sys.executable).parent / "creche"
    found = shutil.which("creche")
    return "creche" if found and Path(found).samefile(beside) else _short(beside)


def _short(path: Path) -> str:
    """Relative to where the user is, when that is shorter to read."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _names(group: list[Engine]) -> str:
    return ", ".join(one.name for one in group)


def _tick(well: bool) -> str:
    return "✓" if well else "✗"


def _lives(pid: int) -> bool:
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _lines(said: bytes) -> list[str]:
    return said.decode("utf-8", "replace").splitlines()[-6:]


def _lock(data: Path) -> IO[str]:
    """Held until this process ends, however it ends. Raises Failed if another run holds it."""
    try:
        held = (data / "up.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise Failed(
            f"{data / 'up.lock'} cannot be written: {error.strerror}",
            f"Is it another user's? A checkout of your own will do, or:  sudo rm -r {data}",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.seek(0)
        pid, _, url = held.read().partition(" ")
        raise Failed(
            f"make up is already running here (pid {pid or '?'}{', ' + url if url else ''})",
            "Stop it with Ctrl-C in its terminal" + (f", or:  kill {pid}" if pid else ""),
        ) from None
    return held


def _free_ports(made: Plan, registry_port: int | None) -> None:
    for port, whose in made.ports().items():
        if ports.is_free(port):
            continue
        known = ports.KNOWN.get(port)
        also = f"{port} is also {known}'s default port. " if known else ""
        if whose == "registry" and registry_port is not None:
            free = ports.free_port((0,), registry_port, step=1)
            fix = f"Choose another:  make up REGISTRY_PORT={free or '…'}"
        else:
            offsets = [one - made.router_port for one in made.ports()]
            # A user who may not have ports below 1024 is offered none of them.
            start = made.router_port if made.router_port >= 1024 else plan.PORT - ports.STEP
            free = ports.free_port(offsets, start)
            fix = f"Choose another:  make up PORT={free or '…'}"
            if whose != "router":
                also = f"{port} follows from PORT={made.router_port}. "
        raise Failed(f"{whose}  port {port} is {ports.owner(port)}", also + fix)


def _gguf(text: str | None) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser().resolve()
    fix = "A llama.cpp model file is wanted:  make up GGUF=/path/model.gguf"
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", fix) from error
    if magic != b"GGUF":
        raise Failed(f"{path} is no GGUF file (it begins with {magic!r})", fix)
    return path


def _port(text: str | None, variable: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise Failed(
            f"{variable}={text} is no port: a number from 1 to 65535 is wanted",
            f"Leave it out, or:  make up PORT={plan.PORT + 10}",
        )
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make up", description="Run the demo until Ctrl-C.")
    parser.add_argument("--port", default=str(plan.PORT), help="the router's port")
    parser.add_argument("--registry-port", help="default: the router's + 10000")
    parser.add_argument("--gguf", help="a model file of yours instead of the tiny one")
    parser.add_argument("--data", type=Path, default=ROOT / ".creche", help="where all files go")
    return parser.parse_args()


def _run(args: argparse.Namespace, began: float) -> int:
    data = args.data.resolve()
    port = _port(args.port, "PORT") or plan.PORT
    registry_port = _port(args.registry_port, "REGISTRY_PORT")
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"{data} cannot be made: {error.strerror}", "Run it in a checkout of yours."
        ) from error
    try:
        made = plan.plan(data, port, registry_port, _gguf(args.gguf))
    except ValueError as error:
        raise Failed(*error.args) from error
    held = _lock(data)
    signals = Signals()
    mark = str(data)
    held.truncate(0)
    held.write(f"{os.getpid()} {made.router_url}")
    held.flush()
    (data / "up.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    screen.say(
        f"Creche {VERSION}   data in {_short(data)}/   "
        "the first run installs, later ones start in seconds"
    )
    if left := processes.end_marked(mark):
        screen.note(f"an earlier run left {', '.join(left)}: ended")
    _free_ports(made, registry_port)
    up = Up(made, signals, mark)
    code = 0
    try:
        up.start()
        for line in page(made, time.monotonic() - began):
            screen.say(line)
        up.watch()
    except Stopped:
        pass
    except Failed as failed:
        code = 1
        screen.fault(*failed.args)
    finally:
        well = up.stop()
        signals.ignore()
        (data / "up.pid").unlink(missing_ok=True)
    return code if well else 1


def main() -> int:
    began = time.monotonic()
    try:
        return _run(_arguments(), began)
    except Failed as failed:
        screen.fault(*failed.args)
        return 1


if __name__ == "__main__":
    sys.exit(main())
