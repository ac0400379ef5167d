"""One engine's keeper: the one place where `lifecycle` meets processes, sockets and the registry.

    shim, looks, timers, operators ──events──▶ queue ──▶ Lifecycle.handle ──actions──▶ _act

One task takes events one after the other; watchers (exit, readiness, drain) only post them. What an
action leads to at once is its next event, taken before any other.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from msgspec import structs

from babysitter import absent, actions, events, logtail, ports, shim_client, store
from babysitter import models as model_lists
from babysitter.cause import LOG_LINES_KEPT, Cause, Ending, of_exit
from babysitter.difference import Wanted, address_of, is_other
from babysitter.kinds import KINDS
from babysitter.life import LOG_FILE, Life, sweep
from babysitter.lifecycle import Lifecycle
from babysitter.models import Model
from babysitter.place import Place
from babysitter.probe import Prober
from babysitter.readiness import Elsewhere
from babysitter.records import Me, engine_record
from babysitter.registrar import Registrar
from babysitter.restart import Restarts
from babysitter.settings import Settings, limits_of, policy_of
from babysitter.shim_client import EngineExit, EngineSpec, LaunchError, ShimError, ShimHandle
from babysitter.watch import Watch
from common import address, logs, tasks
from common.clock import monotonic, wall, wire_time
from common.redact import redact
from common.wire.babysitter import Engine, LastExit
from common.wire.babysitter import EngineState as State
from common.wire.registry import Status


class Supervisor:
    """`on_change` is called whenever what `view` tells of its state may have changed. `hold`: what
    its first launch waits for (ports and GPUs of those that leave)."""

    def __init__(
        self,
        settings: Settings,
        me: Me,
        place: Place,
        http: aiohttp.ClientSession,
        *,
        registrar: Callable[[str, Callable[[], None]], Registrar] | None,
        elsewhere: Elsewhere | None,
        on_change: Callable[[], None],
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.service = me.service_of(settings.name)
        self._me = me
        self._place = place
        self._http = http
        self._hold = hold
        self._holding = False
        #: What a reload wants its next process to be; None: what it is.
        self._planned: Wanted | None = None
        self._elsewhere = elsewhere
        self._on_change = on_change
        self._log = logs.get("engine", engine=settings.name)
        self._run = KINDS[settings.kind].plan(settings.given)
        self._prober = self._new_prober()
        self._registrar = registrar(self.service, self._changed) if registrar else None
        self._machine = Lifecycle(limits_of(settings), Restarts(policy_of(settings)))
        self._events: asyncio.Queue[events.Event] = asyncio.Queue()
        self._life: Life | None = None
        self._clearing: asyncio.Task[None] | None = None
        self._models: list[Model] = []
        self._last: Ending | None = None
        self._last_exit: LastExit | None = None
        self._since = wall()
        self._record_id: str | None = None
        self._written: store.Remembered | None = None
        self._task: asyncio.Task[None] | None = None
        self._at_rest = asyncio.Event()
        #: Set once it was adopted or started.
        self.begun = asyncio.Event()
        self._shutting_down = False
        self.causes: dict[str, int] = {}

    # ── what others see and ask ──────────────────────────────────────────────────────────────────

    @property
    def log_file(self) -> Path:
        return self._place.folder / LOG_FILE

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def wanted(self) -> bool:
        """Whether it should run."""
        return self._machine.wanted

    @property
    def models(self) -> list[Model]:
        """What it serves now: nothing unless it is ready."""
        return self._models if self.state is State.READY else []

    def view(self) -> Engine:
        given, life, registrar = self.settings.given, self._life, self._registrar
        return Engine(
            name=self.name,
            service=self.service,
            kind=self.settings.kind,
            state=self.state,
            since=wire_time(self._since),
            host=given.host,
            port=given.port,
            url=address.http_url(self._me.advertise, given.port),
            models=tuple(model_lists.names(self._models)),
            pid=life.handle.pid if life else None,
            instance_id=life.handle.instance_id if life else None,
            restarts=self._machine.restarts.total,
            last_exit=self._last_exit,
            progress=self._told_progress(),
            registered=registrar is not None and registrar.registered,
            conflict=registrar.conflict if registrar else None,
            load=life.watch.load if life else None,
        )

    def _told_progress(self) -> str | None:
        if self.state is State.STARTING:
            waited = f"starting for {wall() - self._since:.0f} s"
            if self._holding:
                return f"{waited}: waits until the engines that leave are gone"
            text = self._life.watch.text if self._life else None
            return f"{waited}: {text}" if text else waited
        if self.state is State.FATAL:
            return f"given up: {self._machine.given_up}"
        if self.state is State.BACKOFF and self._machine.due is not None:
            return f"starts again in {max(0.0, self._machine.due - monotonic()):.0f} s"
        return None

    def post(self, event: events.Event) -> None:
        """An operator's word, or something that happened."""
        self._events.put_nowait(event)

    async def read_load(self) -> None:
        """Ask it now what it does, for `view`."""
        if self._life is not None:
            await self._life.watch.read_load()

    def start(self) -> None:
        """Adopt what an earlier babysitter left, or start the engine; then keep it."""
        self._task = tasks.spawn(self._keep(), f"engine {self.name}", fatal=True)

    def reconfigure(self, new: Wanted, hold: Callable[[], Awaitable[None]]) -> None:
        """As a reloaded file wants it. What its process does not depend on holds from now on; for
        the rest it is restarted, once `hold` is over, if it should run."""
        now = Wanted(self.settings, self._place, self._run.argv)
        if not is_other(now, new):
            self._planned = None
            self._run = KINDS[new.settings.kind].plan(new.settings.given)
            self._retune(new.settings)
            return
        before, self._planned = self._planned, new
        own = self.settings
        self._retune(
            structs.replace(
                new.settings,
                given=own.given,
                kind=own.kind,
                gpus=own.gpus,
                env=own.env,
                env_file=own.env_file,
            )
        )
        if before is None or is_other(before, new):
            self._hold = hold
            self.post(events.Reconfigured())

    def _retune(self, settings: Settings) -> None:
        self.settings = settings
        self._prober = self._new_prober()
        self._machine.limits = limits_of(settings)
        self._machine.restarts.policy = policy_of(settings)
        if self._life is not None:
            self._life.watch.retune(settings, self._prober)
        record = self._registrar.book.wanted if self._registrar is not None else None
        if record is not None:
            self._announce(Status(record.status), create=False)
        self._remember()

    def _new_prober(self) -> Prober:
        given = self.settings.given
        return Prober(self._http, given.host, given.port, self._run.probe, given.names)

    async def stop(self) -> None:
        """Deregister, drain, stop; returns when no process of it is left."""
        self._shutting_down = True
        self.post(events.StopAsked())
        await self._at_rest.wait()
        if self._clearing is not None:
            await asyncio.wait([self._clearing])
        if self._registrar is not None:
            await self._registrar.settled()
        self._remember()

    def hurry(self) -> None:
        """Wait for no request in flight any longer."""
        if self._life is not None:
            self.post(events.Drained(self._life.handle.instance_id))

    async def close(self, *, kill: bool) -> None:
        """End the keeping. What still runs is killed, or left to be adopted."""
        await tasks.cancel(self._task)
        if self._registrar is not None:
            await self._registrar.close()
        life, self._life = self._life, None
        if life is None:
            return
        await life.unwatch()
        if kill:
            self._log.warning("killed: there was no time left to stop it", pid=life.handle.pid)
            await life.handle.kill()
            await life.handle.release()
        await life.handle.close()

    # ── the task ─────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        await self._begin()
        self.begun.set()
        while True:
            await self._take(await self._next())

    async def _next(self) -> events.Event:
        due = self._machine.due
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - monotonic())):
                return await self._events.get()
        except TimeoutError:
            return events.TimeIsUp()

    async def _take(self, event: events.Event) -> None:
        """One event, what it leads to, and what that leads to at once."""
        pending = [event]
        while pending:
            was = self.state
            actions = self._machine.handle(pending.pop(0), monotonic(), random.random())
            if self.state is not was or self._machine.last is not self._last:
                self._note(was)
            for action in actions:
                follows = await self._act(action)
                if follows is not None:
                    pending.append(follows)
            if self.state is not was:
                self._changed()
        if self.state is State.STOPPED:
            self._at_rest.set()
        else:
            self._at_rest.clear()

    async def _act(self, action: actions.Action) -> events.Event | None:
        """The one place that does what the machine decided."""
        match action:
            case actions.Launch():
                return await self._launch()
            case actions.Announce(status, create):
                self._announce(status, create)
            case actions.Deregister():
                self._record_id = None
                if self._registrar is not None:
                    self._registrar.want(None)
            case actions.Drain():
                if self._life is not None:
                    self._life.spawn(self._life.watch.drain(), "drain")
            case actions.Stop(grace_s):
                if self._life is not None:
                    self._life.end(self._life.handle.stop(grace_s))
            case actions.Kill():
                if self._life is not None:
                    self._life.end(self._life.handle.kill())
        return None

    # ── a life begins ────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> None:
        """Whatever an earlier babysitter left is taken on, or ended."""
        stored = store.read(self._place.folder) or store.Remembered()
        self._models = stored.models
        self._last_exit = stored.last_exit
        ages = [max(0.0, wall() - at) for at in stored.failures]
        self._machine.restarts = Restarts.resumed(
            policy_of(self.settings), monotonic(), stored.restarts, stored.streak, ages
        )
        try:
            found = await shim_client.adopt(self._place.folder, self._place.runtime)
        except ShimError as why:
            self._log.warning("its shim cannot be used; all of it is ended", why=str(why))
            found = None
        match found:
            case ShimHandle():
                await self._adopt(found, stored)
            case EngineExit():
                await self._ended_unseen(found, stored)
            case None:
                await sweep(self.name, self._place.folder)
                await self._start_anew(stored)

    async def _adopt(self, handle: ShimHandle, stored: store.Remembered) -> None:
        mine = stored.instance_id == handle.instance_id
        life = self._live(handle)
        if mine and stored.registered_as and self._registrar is not None:
            self._registrar.book.alias = (handle.instance_id, stored.registered_as)
        seen = await life.watch.look()
        answers = isinstance(seen.event, events.Answered)
        self._models = seen.models or self._models
        self._log.info("adopted", pid=handle.pid, instance_id=handle.instance_id, answers=answers)
        if mine and stored.registered_as and not answers:
            self._announce(Status.STARTING, create=True)
        await self._take(events.Adopted(handle.instance_id, answers))
        if changed := self._changed_since(handle, stored if mine else None):
            self._log.warning(f"restarted: {changed} changed while no babysitter ran")
            await self._take(events.RestartAsked())
        elif not stored.wanted:
            await self._take(events.StopAsked())

    def _changed_since(self, handle: ShimHandle, stored: store.Remembered | None) -> str | None:
        """What of a running engine is no longer what the config says."""
        if handle.argv_hash != shim_client.argv_hash(list(self._run.argv)):
            return "its command line"
        if stored is not None and stored.digest not in (None, self._place.digest):
            return "its folder or environment"
        return None

    async def _ended_unseen(self, how: EngineExit, stored: store.Remembered) -> None:
        if how.lost:
            await sweep(self.name, self._place.folder)
        if not stored.wanted:
            await self._start_anew(stored)
            return
        self._seed(stored, Status.BACKOFF)
        life = stored.instance_id or "unknown"
        lines = await logtail.tail(self.log_file, LOG_LINES_KEPT)
        await self._take(events.Adopted(life, answers=False))
        await self._take(events.Exited(life, _ending(how, lines, None)))

    async def _start_anew(self, stored: store.Remembered) -> None:
        if not stored.wanted:
            self._log.info("stays stopped, as its operator left it")
            self._remember()
            self._at_rest.set()
            return
        self._seed(stored, Status.STARTING)
        await self._take(events.StartAsked())

    def _seed(self, stored: store.Remembered, status: Status) -> None:
        """The registry has a record of an earlier life that may say "running": put it right."""
        if stored.registered_as is not None:
            self._record_id = stored.registered_as
            self._announce(status, create=True)

    async def _launch(self) -> events.Event:
        if self._clearing is not None:  # nothing of the former life may be left
            await asyncio.wait([self._clearing])
        await self._renew()
        given = self.settings.given
        if self.settings.identity == "socket":
            holder = await asyncio.to_thread(ports.owner, given.host, given.port)
            if holder is not None:
                text = f"port {given.port} is taken by {holder}"
                return events.NotLaunched(Ending(Cause.PORT_TAKEN, text))
            run, env = self._run, self._place.env
            missing = await asyncio.to_thread(absent.look, self.settings.kind, given, run, env)
            if missing is not None:
                return events.NotLaunched(missing)
        spec = EngineSpec(
            engine=self.name,
            instance_id=uuid.uuid4().hex,
            argv=list(self._run.argv),
            env=self._place.env,
            cwd=self._run.cwd,
            log_bytes_max=self.settings.log_bytes_max,
            log_files=self.settings.log_files,
        )
        try:
            handle = await shim_client.launch(
                spec, folder=self._place.folder, runtime=self._place.runtime
            )
        except LaunchError as why:
            return events.NotLaunched(Ending(Cause.NOT_STARTED, str(why)))
        self._live(handle)
        self._log.info("started", pid=handle.pid, instance_id=handle.instance_id)
        return events.Launched(handle.instance_id)

    async def _renew(self) -> None:
        """Before a launch: wait for those that leave, and become what a reload wants."""
        hold, self._hold = self._hold, None
        if hold is not None:
            self._holding = True
            await hold()
            self._holding = False
        new, self._planned = self._planned, None
        if new is None:
            return
        if address_of(new.settings) != address_of(self.settings) and self._registrar is not None:
            # One name cannot be leased at two addresses: the record is made anew when it is READY.
            self._record_id = None
            self._registrar.want(None)
            await self._registrar.settled()
        self._place = new.place
        self._run = KINDS[new.settings.kind].plan(new.settings.given)
        self._retune(new.settings)

    def _live(self, handle: ShimHandle) -> Life:
        watch = Watch(
            handle,
            self.settings,
            self._prober,
            self._elsewhere,
            self._registrar,
            post=self.post,
            serves=self._serves,
        )
        self._life = life = Life(self.name, handle, watch, self._place.folder)
        life.spawn(self._watch_exit(life), "exit")
        life.spawn(watch.run(), "readiness")
        life.spawn(watch.work(), "work")
        return life

    def _serves(self, found: list[Model]) -> None:
        """Its model list, which may change while it runs (Ollama pulls, LoRA adapters load)."""
        if model_lists.same(found, self._models):
            return
        self._models = found
        if self.state is State.READY:
            self._log.info("serves other models now", models=model_lists.names(found))
            self._announce(Status.RUNNING, create=False)
            self._changed()

    # ── a life ends ──────────────────────────────────────────────────────────────────────────────

    async def _watch_exit(self, life: Life) -> None:
        handle = life.handle
        how = await handle.exited
        lines = await life.last_words()
        holder = None
        if self.state is State.STARTING and how.code:
            given = self.settings.given
            holder = await asyncio.to_thread(ports.owner, given.host, given.port)
        if self.state is State.STOPPING:
            await life.stopped()  # stopped means that no process is left
        self._life = None
        if self._registrar is not None:
            self._registrar.book.load = None
        self._clearing = tasks.spawn(life.clear(), f"clearing of {self.name}")
        ending = _ending(how, lines, str(holder) if holder else None)
        self.post(events.Exited(handle.instance_id, ending))

    # ── what is told ─────────────────────────────────────────────────────────────────────────────

    def _announce(self, status: Status, create: bool) -> None:
        if self._registrar is None:
            return
        if create and self._life is not None:
            self._record_id = self._life.handle.instance_id
        if self._record_id is None:
            return
        self._registrar.want(
            engine_record(
                self._me,
                self.settings,
                instance_id=self._record_id,
                status=status,
                models=self._models,
                last_exit=None if status is Status.RUNNING else self._last_exit,
            )
        )

    def _note(self, was: State) -> None:
        """Before anything is done about it: what changed, for people."""
        if self._machine.last is not self._last:
            self._last = last = self._machine.last
            assert last is not None
            self.causes[last.cause] = self.causes.get(last.cause, 0) + 1
            self._last_exit = LastExit(
                cause=last.cause.value,
                text=last.text,
                at=wire_time(wall()),
                code=last.code,
                signal=last.signal,
                log=last.log,
            )
            self._log.warning("ended", cause=last.cause.value, why=last.text)
        if self.state is not was:
            self._since = wall()
            if self.state is State.FATAL:
                last_line = self._last.log[-1] if self._last and self._last.log else None
                self._log.error("given up", why=self._machine.given_up, last_line=last_line)
            else:
                self._log.info(self.state.value.lower(), was=was.value.lower())

    def _changed(self) -> None:
        self._remember()
        self._on_change()

    def _remember(self) -> None:
        total, streak, ages = self._machine.restarts.snapshot(monotonic())
        life, registrar = self._life, self._registrar
        record = registrar.book.wanted if registrar is not None else None
        if life is not None and life.handle.instance_id != self._record_id:
            record = None  # still the life before's: this one was never ready
        now = store.Remembered(
            wanted=self.wanted or self._shutting_down,
            instance_id=life.handle.instance_id if life else self._record_id,
            digest=self._place.digest,
            registered_as=record.instance_id if record is not None else None,
            models=self._models,
            restarts=total,
            streak=streak,
            failures=[round(wall() - age, 1) for age in ages],
            last_exit=self._last_exit,
            serving=self._serving(),
        )
        if now != self._written:
            store.write(self._place.folder, now)
            self._written = now

    def _serving(self) -> store.Serving:
        own = self.settings
        return store.Serving(
            kind=own.kind,
            host=own.given.host,
            port=own.given.port,
            drain_timeout_s=own.drain_timeout_s,
            drain_idle_s=own.drain_idle_s,
            stop_grace_s=own.stop_grace_s,
        )


def _ending(how: EngineExit, lines: list[str], holder: str | None) -> Ending:
    log = tuple(redact(line) for line in lines)
    return of_exit(how.code, how.signal, how.oom, log, holder)
