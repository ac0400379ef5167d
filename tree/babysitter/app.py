"""Puts a babysitter together and runs it until it is told to stop.

who am I ─▶ settle auth ─▶ lock the state folder ─▶ bind ─▶ serve ─▶ engines adopted or started
stop: engines deregister, drain, stop (or are kept) ─▶ own record goes ─▶ close
"""

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp

from babysitter import records, registration, store, strangers
from babysitter.api import Api
from babysitter.config import Config
from babysitter.difference import Difference, Wanted
from babysitter.kinds import KINDS
from babysitter.place import place_of, runtime_of
from babysitter.readiness import LOOPBACK, Elsewhere, loopback_error
from babysitter.records import Me
from babysitter.registrar import Registrar, RegistryClient
from babysitter.reload import Reloader
from babysitter.settings import Settings, own_address
from babysitter.settings import settings as all_settings
from babysitter.supervisor import Supervisor
from common import address, auth, listen, logs, paths, tasks
from common.daemon import Daemon
from common.errors import RefusalError
from common.http import application, client, serve
from common.names import UNUSABLE_HOSTS
from common.wire.registry import Status

_log = logs.get("babysitter")


class Babysitter:
    """The engines of one host and their own record."""

    def __init__(
        self,
        me: Me,
        registry: RegistryClient | None,
        http: aiohttp.ClientSession,
        elsewhere: Elsewhere | None,
    ) -> None:
        self.me = me
        self.engines: dict[str, Supervisor] = {}
        self.begun = asyncio.Event()
        self._registry = registry
        self._elsewhere = elsewhere
        self._http = http
        #: Engines that the config names no more, on their way out.
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._hurried = asyncio.Event()
        self.own = Registrar(registry, me.name, lambda: None) if registry else None
        self._status = Status.RUNNING

    def registrar(self) -> Callable[[str, Callable[[], None]], Registrar] | None:
        """What makes an engine's registrar; None where there is no registry."""
        registry = self._registry
        if registry is None:
            return None
        return lambda name, on_change: Registrar(registry, name, on_change)

    async def forget(self, engine: str, stored: store.Remembered | None) -> None:
        """Take an engine's record away that this babysitter does not keep any more."""
        if self._registry is not None and stored is not None and stored.registered_as is not None:
            name = self.me.service_of(engine)
            await self._registry.send(registration.Remove(name, stored.registered_as))

    def tell(self) -> None:
        """The registry hears of every engine's state with the babysitter's own record."""
        if self.own is not None:
            views = [one.view() for one in self.engines.values()]
            self.own.want(records.babysitter_record(self.me, views, self._status))

    # ── engines come and go ──────────────────────────────────────────────────────────────────────

    def add(self, one: Wanted) -> Supervisor:
        """Not started yet. Its first launch waits until those that leave are gone: they hold
        ports and GPUs."""
        made = Supervisor(
            one.settings,
            self.me,
            one.place,
            self._http,
            registrar=self.registrar(),
            elsewhere=self._elsewhere,
            on_change=self.tell,
            hold=self.departed,
        )
        self.engines[one.settings.name] = made
        return made

    def end_strangers(self, state: Path) -> None:
        """Begin to end what an earlier config named."""
        for name in strangers.names(state, set(self.engines)):
            self._leaving[name] = tasks.spawn(self._end_stranger(name, state), f"end of {name}")

    async def _end_stranger(self, name: str, state: Path) -> None:
        folder = state / "engines" / name
        stored = store.read(folder)
        await self.forget(name, stored)
        await strangers.end(name, folder, runtime_of(state), stored, self._http, self._hurried)

    async def departed(self) -> None:
        """Wait until all that leave are gone."""
        await self.apart(set(self._leaving))

    async def apart(self, names: set[str]) -> None:
        """Wait until none of these is on its way out."""
        if leaving := [task for name, task in self._leaving.items() if name in names]:
            await asyncio.wait(leaving)

    def apply(self, wanted: dict[str, Wanted], what: Difference) -> None:
        """A reloaded file, whole: begin all of it, without an await."""
        for name in what.stopped:
            self._leaving[name] = tasks.spawn(self._leave(name), f"end of {name}")
        for name in (*what.restarted, *what.changed):
            self.engines[name].reconfigure(wanted[name], self.departed)
        for name in what.started:
            self.add(wanted[name]).start()
        # The file's order, those that leave last; others hold this very table.
        for name in (*wanted, *(name for name in list(self.engines) if name not in wanted)):
            self.engines[name] = self.engines.pop(name)
        self.tell()

    async def _leave(self, name: str) -> None:
        one = self.engines[name]
        await one.stop()
        await one.close(kill=True)
        self.engines.pop(name, None)
        self.tell()

    def start(self) -> None:
        self.tell()
        for one in self.engines.values():
            one.start()
        tasks.spawn(self._wait_begun(), "babysitter begun")

    async def _wait_begun(self) -> None:
        for one in self.engines.values():
            await one.begun.wait()
        self.begun.set()

    async def stop(self, hurry: asyncio.Event) -> None:
        """All engines at once; then the own record goes."""
        self._status = Status.STOPPING
        self.tell()
        hurrying = tasks.spawn(self._hurry(hurry), "babysitter hurry")
        leaving = [task for task in self._leaving.values() if not task.done()]
        await asyncio.gather(*(one.stop() for one in self.engines.values()))
        if leaving:
            await asyncio.wait(leaving)
        await tasks.cancel(hurrying)
        if self.own is not None:
            self.own.want(None)
            await self.own.settled()

    async def _hurry(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._hurried.set()
        for one in self.engines.values():
            one.hurry()

    async def close(self, *, kill: bool) -> None:
        await tasks.cancel(*self._leaving.values())
        await asyncio.gather(*(one.close(kill=kill) for one in self.engines.values()))
        if self.own is not None:
            await self.own.close()


async def main(daemon: Daemon, config: Config, path: Path | None) -> None:
    """The daemon, from start to stop. Raises RefusalError where it can't start."""
    file = str(path or "/etc/creche/babysitter.toml")
    towards = await asyncio.to_thread(_towards_registry, config)
    advertise = _advertise(config, towards)
    elsewhere = _elsewhere(config, advertise, towards)
    state = paths.state_dir("babysitter", config.state_dir)

    def plan(chosen: Config) -> dict[str, Wanted]:
        settings = all_settings(chosen, advertise, sys.executable)
        _refuse_loopback(settings, elsewhere, chosen)
        return {one.name: _wanted(one, state) for one in settings}

    where = own_address(config, advertise)
    token = auth.settle(
        [where],
        token_file=config.token_file,
        auth=config.auth,
        config_file=file,
        others_may="stop and start engines",
    )
    wanted = plan(config)
    lock = _lock(state)
    try:
        sockets = listen.open_all({"listen": where}).sockets["listen"]
        host_name = config.host.name or _short_host_name()
        me = Me(
            name=config.name or f"babysitter@{host_name}",
            host_name=host_name,
            advertise=advertise,
            port=listen.port_of(sockets),
            instance_id=os.urandom(16).hex(),
        )
        async with client(token=token) as to_registry, client() as to_engines:
            registry = RegistryClient(to_registry, config.registries) if config.registries else None
            sitter = Babysitter(me, registry, to_engines, elsewhere)
            for one in wanted.values():
                sitter.add(one)
            reloader = Reloader(
                sitter, config, wanted, path, plan, own_port=me.port, engine_host=advertise
            )
            await _run(daemon, reloader, sitter, token, sockets, state)
    finally:
        os.close(lock)


async def _run(
    daemon: Daemon,
    reloader: Reloader,
    sitter: Babysitter,
    token: str | None,
    sockets: list[socket.socket],
    state: Path,
) -> None:
    app = application(token=token)
    api = Api(sitter.me, sitter.engines, sitter.begun, sitter.own, reloader)
    api.add_routes(app)
    server = await serve(app, sockets)
    _log.info("listening", url=server.url, name=sitter.me.name, engines=list(sitter.engines))
    sitter.end_strangers(state)
    sitter.start()
    reloads = tasks.spawn(reloader.run(daemon), "babysitter.reloads", fatal=True)
    daemon.on_reload(reloader.ask)
    daemon.ready(f"listening on {server.url}, {len(sitter.engines)} engines")
    kill = reloader.config.on_term == "stop"
    try:
        await daemon.until_stopped()
        await tasks.cancel(reloads)
        kill = (
            reloader.config.on_term == "stop" and daemon.error is None
        )  # engines outlive a fault of ours
        if kill:
            await sitter.stop(daemon.hurry)
        else:
            _log.info("engines are left running, to be adopted", engines=list(sitter.engines))
    finally:
        await sitter.close(kill=kill)
        api.end_following()
        await server.close()


def _wanted(settings: Settings, state: Path) -> Wanted:
    """Raises RefusalError: its env_file."""
    argv = KINDS[settings.kind].plan(settings.given).argv
    return Wanted(settings, place_of(settings, state), argv)


# ── who am I ─────────────────────────────────────────────────────────────────────────────────────


def _towards_registry(config: Config) -> str | None:
    """This host's address towards the first registry that there is a route to."""
    for url in config.registries:
        registry = address.parse_http_url(url)
        if found := listen.address_towards(registry.host, registry.port):
            return found
    return None


def _advertise(config: Config, towards: str | None) -> str:
    if config.advertise is not None:
        return config.advertise
    if not config.registries:
        return LOOPBACK
    if towards is None or towards in UNUSABLE_HOSTS:
        registry = address.parse_http_url(config.registries[0])
        raise RefusalError(
            f"no address of this host leads to the registry {registry}: none can be advertised.\n"
            f'  Set  advertise = "…"  (the address that routers reach this host at).'
        )
    return towards


def _elsewhere(config: Config, advertise: str, towards: str | None) -> Elsewhere | None:
    """None where everything is on this machine, as far as can be told."""
    remote = [
        host
        for url in config.registries
        if not address.is_loopback(host := address.parse_http_url(url).host)
    ]
    if not remote or (towards is not None and address.is_loopback(towards)):
        return None
    reachable = towards if address.is_loopback(advertise) and towards else advertise
    return Elsewhere(reachable, remote[0])


def _refuse_loopback(
    settings: tuple[Settings, ...], elsewhere: Elsewhere | None, config: Config
) -> None:
    if elsewhere is None:
        return
    for one, said in zip(settings, config.engine, strict=True):
        if address.is_loopback(one.given.host):
            text = loopback_error(one.given.port, elsewhere, said.host)
            raise RefusalError(f"{one.name}: {text}")


def _short_host_name() -> str:
    return socket.gethostname().partition(".")[0] or "localhost"


# ── state ────────────────────────────────────────────────────────────────────────────────────────


def _lock(state: Path) -> int:
    """Two babysitters over one state folder would start each engine twice."""
    fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise RefusalError(
            f"another babysitter keeps its state in {state}.\n"
            f'  Stop it, or set  state_dir = "…"  to a folder of its own.'
        ) from None
    return fd
