"""Reads the babysitter's file again while its engines run: a good file, whole, or not at all.

ask (SIGHUP, POST /reload) ─▶ read, check as at a start ─┬─ errors ─▶ nothing changes, all is told
                                                        └─ good ─▶ only what differs is touched
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec import to_builtins
from msgspec.structs import replace

from babysitter import check, difference
from babysitter.config import Config
from babysitter.difference import Difference, Wanted
from common import clock, config, logs, tasks
from common.config import ConfigError, Problem
from common.daemon import Daemon
from common.errors import RefusalError
from common.redact import redact
from common.wire.babysitter import BabysitterReload, BabysitterReloadRefusal

_log = logs.get("reload")

#: The engines of a file. Raises RefusalError as a start would.
Plan = Callable[[Config], dict[str, Wanted]]


class Running(Protocol):
    """What keeps the engines."""

    async def apart(self, names: set[str]) -> None:
        """Wait until none of these is on its way out."""

    def apply(self, wanted: dict[str, Wanted], what: Difference) -> None:
        """Begin all of it, without an await."""


class Reloader:
    """One reload at a time. `file` None: the babysitter runs without one."""

    def __init__(
        self,
        running: Running,
        start: Config,
        wanted: dict[str, Wanted],
        file: Path | None,
        plan: Plan,
        *,
        own_port: int,
        engine_host: str,
    ) -> None:
        self.config = start
        #: What went wrong and still matters, for /health. Empty: nothing.
        self.message = ""
        self._running = running
        self._start = start
        self._wanted = wanted
        self._file = file
        self._plan = plan
        self._own_port = own_port
        self._engine_host = engine_host
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon. What asks meanwhile is served by one more."""
        self._asked.set()

    async def run(self, daemon: Daemon) -> None:
        """Until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            daemon.reloading()
            found = await self.reload()
            refused = isinstance(found, BabysitterReloadRefusal)
            daemon.reloaded(self.message if refused else "configuration reloaded")

    async def reload(self) -> BabysitterReload | BabysitterReloadRefusal:
        """Read the file again. Goes on to its end even if the caller is cancelled."""
        return await asyncio.shield(tasks.spawn(self._reload(), "babysitter.reload"))

    async def _reload(self) -> BabysitterReload | BabysitterReloadRefusal:
        async with self._lock:
            if self._file is None:
                return self._refuse([Problem(text="the babysitter runs without a file", file="")])
            try:
                new, wanted, warnings = await asyncio.to_thread(self._read, self._file)
            except ConfigError as faults:
                return self._refuse(faults.problems)
            except RefusalError as refusal:
                return self._refuse([_problem(refusal, self._file)])
            await self._running.apart(set(wanted))
            what = difference.between(self._wanted, wanted)
            self._running.apply(wanted, what)
            self.config, self._wanted, self.message = new, wanted, ""
            return self._answer(what, new, warnings)

    def _read(self, file: Path) -> tuple[Config, dict[str, Wanted], list[Problem]]:
        found = config.checked(file, Config, check.check)
        new: Config | None = found[0]
        problems = found[1]
        if new is None or config.has_errors(problems):
            raise ConfigError(problems)
        wanted = self._plan(new)
        settings = [one.settings for one in wanted.values()]
        if (one := difference.taken(settings, self._own_port)) is not None:
            raise RefusalError(
                f"{one.name}: port {self._own_port} is the one that this babysitter listens on.\n"
                "  Take another, or restart the babysitter where it should move."
            )
        return new, wanted, problems

    def _answer(self, what: Difference, new: Config, warnings: list[Problem]) -> BabysitterReload:
        waiting = difference.waiting(self._start, new, self._engine_host)
        told: dict[str, Any] = {key: value for key, value in to_builtins(what).items() if value}
        if waiting:
            told["needs a restart"] = waiting
        _log.info("configuration reloaded", file=str(self._file), **told)
        texts = [redact(str(one)) for one in warnings]
        for one in texts:
            _log.warning("configuration", why=one)
        return BabysitterReload(
            status="reloaded",
            started=what.started,
            stopped=what.stopped,
            restarted=what.restarted,
            changed=what.changed,
            needs_restart=tuple(waiting),
            warnings=tuple(texts),
        )

    def _refuse(self, problems: list[Problem]) -> BabysitterReloadRefusal:
        errors = sum(one.severity == "error" for one in problems)
        said = f"{errors} error{'s' * (errors != 1)} in {self._file or 'no file'}"
        self.message = (
            f"the reload at {clock.wire_time(clock.wall())} failed: {said}; "
            "running with the configuration before it"
        )
        report = redact(config.report(problems))
        _log.error("reload refused: the old configuration stays", file=str(self._file), why=report)
        # On loopback anyone may ask, and lines of the file are shown.
        hidden = [replace(one, text=redact(one.text), shown=redact(one.shown)) for one in problems]
        return BabysitterReloadRefusal(
            error=f"{said}: the old configuration stays",
            problems=[to_builtins(one) for one in hidden],
            report=report,
        )


def _problem(refusal: RefusalError, file: Path) -> Problem:
    """What refuses a start refuses a reload: its first line says what, the others the fix."""
    first, _, rest = str(refusal).partition("\n")
    fix = "\n".join(line.removeprefix("  ") for line in rest.splitlines())
    return Problem(text=first, file=str(file), fix=fix)
