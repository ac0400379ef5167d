"""Replaces the configuration while the router runs: a good file, whole, or not at all.

    ask (SIGHUP, POST /admin/reload) ─▶ read, check ─┬─ errors ─▶ the old one stays, all is told
                                                     └─ good ─▶ swap ─▶ kept as a version ─▶ watched
    watched, for rollback_after_s ─┬─ the old file would serve, this one does not ─▶ swapped back
                                   └─ else ─▶ final

The swap is one turn of the loop: no request sees half of each. Those that run keep what they began
with. Only what the operator asked for touches the file: a rollback writes it, an undo leaves it.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from common import clock, config, logs, tasks
from common.config import ConfigError, Problem
from common.daemon import Daemon
from common.errors import RefusalError
from common.redact import redact
from common.wire.router import ReloadAnswer, ReloadRefusal, RouterConfig
from router import difference, loaded, versions
from router.loaded import Loaded
from router.versions import Versions

#: A first look that would undo a reload is confirmed by a second one: a connect may fail by chance.
LOOK_AGAIN_S = 1.0

_log = logs.get("reload")


class Running(Protocol):
    """What runs with a configuration: the router."""

    def swap(self, new: Loaded) -> None:
        """Everything at once, without an await. From the next request on."""

    async def judge(self, old: Loaded, new: Loaded) -> str | None:
        """Why `old` must come back, given the present fleet. None: `new` stays."""


class Refused(Struct, frozen=True):
    """Nothing has changed. `status` is HTTP's."""

    status: int
    answer: ReloadRefusal


class State(Struct, frozen=True):
    """What is in force, since when and by what."""

    loaded: Loaded
    #: None: it could not be kept.
    version: int | None
    by: str
    at: float


class Reloader:
    """One change at a time; the only one who swaps. `file` None: the router runs without one."""

    def __init__(self, running: Running, start: Loaded, file: Path | None, kept: Versions) -> None:
        self.state = State(start, None, "start", clock.wall())
        #: What went wrong and still matters, for /health. Empty: nothing.
        self.message = ""
        self._counts = {"ok": 0, "failed": 0, "rolled_back": 0, "undone": 0}
        self._last_failed = False
        self._running = running
        self._file = file
        self._kept = kept
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()
        #: The last configuration that has proved itself, while a newer one has not yet.
        self._proved: State | None = None
        self._watching: asyncio.Task[None] | None = None
        self._undo_until: float | None = None

    async def started(self, owned: asyncio.Event | None = None) -> None:
        """A file that a start was made with is a good one: keep it, once the versions are `owned`.
        Changes wait until then."""
        async with self._lock:
            if owned is not None:
                await owned.wait()
            version, note = await self._keep(self.state.loaded)
            self.state = State(self.state.loaded, version, "start", self.state.at)
            if note:
                _log.error("configuration not kept", why=note)

    async def release(self) -> None:
        """Versions are another's from now on: a change that was begun is ended, none follows."""
        await self._lock.acquire()

    # --- what is asked of it ----------------------------------------------------------------------

    def ask(self) -> None:
        """Reload soon. What asks meanwhile is served by one more."""
        self._asked.set()

    async def run(self, daemon: Daemon) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                daemon.reloading()
                found = await self.reload()
                daemon.reloaded(self._words(found))
        finally:
            await tasks.cancel(self._watching)

    async def reload(self) -> ReloadAnswer | Refused:
        """Read the file again. Goes on to its end even if the caller is cancelled."""
        return await asyncio.shield(tasks.spawn(self._reload(), "router.reload"))

    async def rollback(self, version: int | None = None) -> ReloadAnswer | Refused:
        """Return to `version`; None: to what is in force where the file says something else, and
        to the good version before it where it does not. The file says so too afterwards."""
        return await asyncio.shield(tasks.spawn(self._roll_back(version), "router.rollback"))

    async def describe(self) -> RouterConfig | Refused:
        """What is in force and what could come back. Never the text: files may be private."""
        state = self.state
        try:
            on_disk, problem, found = await asyncio.to_thread(
                lambda: (self._on_disk(), self._file_problem(), self._kept.all())
            )
        except OSError as why:
            return self._no(500, f"the kept versions cannot be read: {_os_words(why)}")
        return RouterConfig(
            file=str(self._file) if self._file else None,
            version=state.version,
            digest=state.loaded.digest,
            loaded_at=clock.wire_time(state.at),
            by=state.by,
            file_differs=on_disk != state.loaded.text,
            needs_restart=state.loaded.waiting,
            message=self.message,
            undo_until=clock.wire_time(self._undo_until) if self._undo_until else None,
            versions=found,
            file_problem=problem,
        )

    def place(self, path: tuple[str | int, ...]) -> str | None:
        """Where a key of what is in force stands, as `router.toml:21`. None: there is no file."""
        if self._file is None:
            return None
        line = config.parse(self.state.loaded.text, str(self._file)).line_of(*path)
        return f"{self._file.name}:{line}" if line else None

    def read(self) -> tuple[dict[str, int], bool, float]:
        """For metrics: counts by outcome, whether the last one failed, since when this one runs."""
        return self._counts, self._last_failed, self.state.at

    # --- changes, one at a time -------------------------------------------------------------------

    async def _reload(self) -> ReloadAnswer | Refused:
        async with self._lock:
            before = self.state
            new = await self._take("reload", self._read, before.loaded)
            if isinstance(new, Refused):
                return new
            proved = self._proved or before
            await self._look_no_more()
            version, note = await self._keep(new)
            self.state = State(new, version, "reload", clock.wall())
            self._went_well("ok")
            undo_after_s = self._watch_over(proved)
            return self._answer(
                "reloaded",
                before,
                [note] if note else [],
                undo_after_s=undo_after_s,
            )

    async def _roll_back(self, version: int | None) -> ReloadAnswer | Refused:
        async with self._lock:
            before = self.state
            if self._file is None:
                return self._no(
                    409, "the router runs without a file: there is nothing to return to"
                )
            try:
                number = version or await asyncio.to_thread(self._choose)
                if number is None:
                    return self._no(409, "no good version is kept from before this one")
                text = await asyncio.to_thread(self._kept.read, number)
            except OSError as why:
                return self._no(500, f"the kept versions cannot be read: {_os_words(why)}")
            if text is None:
                return self._no(404, f"there is no version {number}")
            name = f"{self._file} (version {number})"
            new = await self._take("rollback", loaded.load, text, name, before.loaded)
            if isinstance(new, Refused):
                return new
            await self._look_no_more()
            self.state = State(new, number, "rollback", clock.wall())
            self._went_well("rolled_back")
            notes, more = await self._put_back(number, text)
            return self._answer("rolled back", before, notes, **more)

    async def _undo(self, proved: State, why: str) -> None:
        """Only what runs goes back; the file is the operator's."""
        bad = self.state
        self._swap(proved.loaded)
        self.state = State(proved.loaded, proved.version, "automatic rollback", clock.wall())
        self._counts["undone"] += 1
        self._last_failed = True
        self.message = (
            f"the reload of {self._file} was undone at {clock.wire_time(self.state.at)}: {why}; "
            f"running with {_version(proved.version)}, the file is left as it is"
        )
        _log.error(
            "reload undone",
            file=str(self._file),
            why=why,
            version=proved.version,
            undone_version=bad.version,
        )
        if proved.version is not None:
            try:
                await asyncio.to_thread(self._kept.back_to, proved.version)
            except OSError as error:
                _log.error("version in force not noted", why=_os_words(error))

    # --- the parts of a change --------------------------------------------------------------------

    def _read(self, running: Loaded) -> Loaded:
        text = config.read_text(self._file) if self._file else ""
        if not text.strip() and self.state.loaded.text.strip():
            raise ConfigError([_emptied(self._file)])
        return loaded.load(text, str(self._file or "(no file)"), running)

    async def _take(
        self, what: str, load: Callable[..., Loaded], *arguments: Any
    ) -> Loaded | Refused:
        """Load it and put it in force, or say why not."""
        try:
            new = await asyncio.to_thread(load, *arguments)
            self._swap(new)
        except ConfigError as faults:
            return self._refuse(faults.problems, what)
        except RefusalError as refusal:
            return self._refuse([_problem(refusal, self._file)], what)
        except Exception as error:
            # No fault of ours in reading a file may end a router that serves.
            _log.critical("configuration not taken over", exc_info=error)
            text = f"the router could not take the file over: {type(error).__name__}"
            return self._refuse([Problem(text=text, file=str(self._file or ""))], what)
        return new

    def _swap(self, new: Loaded) -> None:
        """A part that cannot take the new configuration must not leave the others with it."""
        try:
            self._running.swap(new)
        except Exception:
            self._running.swap(self.state.loaded)
            raise

    async def _keep(self, new: Loaded) -> tuple[int | None, str]:
        """Its version, or what stood in the way: a full disk stops no reload."""
        if self._file is None:
            return None, ""
        most = new.config.reload.versions_kept
        try:
            return await asyncio.to_thread(self._kept.keep, new.text, clock.wall(), most), ""
        except OSError as why:
            return None, f"this version could not be kept for a rollback: {_os_words(why)}"

    def _choose(self) -> int | None:
        state = self.state
        if state.version is not None and self._on_disk() != state.loaded.text:
            return state.version
        return self._kept.before(state.version)

    async def _put_back(self, number: int, text: str) -> tuple[list[str], dict[str, Any]]:
        """The file says what runs, or everybody is told that it does not."""
        assert self._file is not None
        notes: list[str] = []
        try:
            await asyncio.to_thread(self._kept.back_to, number)
        except OSError as why:
            notes.append(f"which version is in force could not be noted: {_os_words(why)}")
        try:
            aside = await asyncio.to_thread(versions.put_back, self._file, text, clock.wall())
            return notes, {"file_written": True, "rejected_file": str(aside) if aside else None}
        except OSError as why:
            self.message = (
                f"running with version {number}, but {self._file} could not be written "
                f"({_os_words(why)}): a restart would load what it says; "
                f"the right one is {self._kept.path(number)}"
            )
            notes.append(self.message)
            return notes, {"file_written": False}

    def _on_disk(self) -> str | None:
        if self._file is None:
            return ""
        try:
            return config.read_text(self._file)
        except ConfigError:
            return None

    def _file_problem(self) -> str:
        """Why the file as it is on disk could not be taken over; empty: it could."""
        if self._file is None or self._on_disk() == self.state.loaded.text:
            return ""
        try:
            self._read(self.state.loaded)
        except ConfigError as faults:
            errors = [one for one in faults.problems if one.severity == "error"]
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            return redact(f"{errors[0].text}{more}" if errors else "it cannot be read")
        except RefusalError as refusal:
            return redact(str(refusal).partition("\n")[0])
        except Exception as error:  # whatever it is, a reload would meet it too
            return f"the router could not take the file over: {type(error).__name__}"
        return ""

    # --- watched until it is final ----------------------------------------------------------------

    def _watch_over(self, proved: State) -> float:
        """Seconds until what is in force is final; 0: it is."""
        after_s = self.state.loaded.config.reload.rollback_after_s
        if not after_s or self.state.loaded.serves_as(proved.loaded):
            return 0.0
        self._proved = proved
        self._undo_until = clock.wall() + after_s
        self._watching = tasks.spawn(self._watch(proved, after_s), "router.reload.watch")
        return after_s

    async def _watch(self, proved: State, after_s: float) -> None:
        await asyncio.sleep(after_s)
        why = await self._running.judge(proved.loaded, self.state.loaded)
        if why is not None:
            await asyncio.sleep(LOOK_AGAIN_S)
            why = await self._running.judge(proved.loaded, self.state.loaded)
        async with self._lock:  # whoever replaced what was judged has cancelled this
            self._watching = self._proved = self._undo_until = None
            if why is not None:
                await self._undo(proved, why)

    async def _look_no_more(self) -> None:
        watching, self._watching = self._watching, None
        self._proved = self._undo_until = None
        await tasks.cancel(watching)

    # --- words ------------------------------------------------------------------------------------

    def _went_well(self, how: str) -> None:
        self._counts[how] += 1
        self._last_failed = False
        self.message = ""

    def _refuse(self, problems: list[Problem], what: str = "reload") -> Refused:
        self._counts["failed"] += 1
        self._last_failed = True
        errors = sum(one.severity == "error" for one in problems)
        report = config.report(problems)
        said = f"{errors} error{'s' * (errors != 1)} in {self._file}"
        self.message = (
            f"the {what} at {clock.wire_time(clock.wall())} failed: {said}; "
            f"running with {_version(self.state.version)}"
        )
        _log.error(f"{what} refused: the old configuration stays", file=str(self._file), why=report)
        # On loopback anyone may ask, and lines of the file are shown.
        hidden = [replace(one, text=redact(one.text), shown=redact(one.shown)) for one in problems]
        found = [to_builtins(one) for one in hidden]
        error = f"{said}: the old configuration stays"
        return Refused(400, ReloadRefusal(error=error, problems=found, report=redact(report)))

    def _no(self, status: int, text: str) -> Refused:
        return Refused(status, ReloadRefusal(error=text, problems=[], report=""))

    def _answer(self, status: str, before: State, notes: list[str], **more: Any) -> ReloadAnswer:
        state = self.state
        new = state.loaded
        answer = ReloadAnswer(
            status=status,
            version=state.version,
            digest=new.digest,
            changed=difference.changed(before.loaded.config, new.config),
            needs_restart=new.waiting,
            warnings=[str(one) for one in new.warnings],
            notes=notes,
            **more,
        )
        for one in answer.warnings:
            _log.warning("configuration", why=one)
        for one in notes:
            _log.error("configuration", why=one)
        _log.info(
            f"configuration {status}",
            file=str(self._file),
            version=state.version,
            changed=answer.changed,
            **({"needs a restart": new.waiting} if new.waiting else {}),
        )
        return answer

    def _words(self, found: ReloadAnswer | Refused) -> str:
        """What `systemctl status` shows."""
        if isinstance(found, Refused):
            return self.message
        wait = ", ".join(found.needs_restart)
        return f"configuration {found.status}" + (f"; needs a restart: {wait}" if wait else "")


def _emptied(file: Path | None) -> Problem:
    """An empty file is a good one, for a start. While running it is an edit that went wrong."""
    return Problem(
        text="the file is empty, and was not before",
        file=str(file or ""),
        effect="Every key would fall back to its default: an editor or a full disk cut it off.",
        fix="write it again; a comment alone is enough where every default is meant",
    )


def _problem(refusal: RefusalError, file: Path | None) -> Problem:
    """What refuses a start refuses a reload: its first line says what, the others the fix."""
    first, _, rest = str(refusal).partition("\n")
    fix = "\n".join(line.removeprefix("  ") for line in rest.splitlines())
    return Problem(text=first, file=str(file or ""), fix=fix)


def _version(number: int | None) -> str:
    return "the configuration before it" if number is None else f"version {number}"


def _os_words(why: OSError) -> str:
    where = f"{why.filename}: " if why.filename else ""
    return f"{where}{why.strerror or why}"
