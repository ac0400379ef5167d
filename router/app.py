"""Puts the router together and runs it until it is told to stop.

configuration ─▶ bind ─▶ snapshot ─▶ watch ─▶ relay ─▶ ready
reload: `swap`, everything that a configuration says in one turn of the loop
stop: no new connections ─▶ requests end, up to drain_s ─▶ watch ─▶ last snapshot, last log lines
replaced: files released, connections handed on ─▶ requests end, up to replaced_drain_s ─▶ as above
"""

import asyncio
import contextlib
import gc
import random
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, web

from common import clock, http, listen, logs, paths, tasks
from common.daemon import Daemon
from common.errors import RefusalError
from common.held import Held
from common.http import Server
from common.wire.registry import Service
from router import access, control, judging, loaded, metrics, shared_store, snapshot, versions
from router.accesslog import AccessLog, Pipe
from router.audit import Audit
from router.brain import Brain, Log
from router.config import Config
from router.crowd import Crowd
from router.door import Door
from router.errors import Problem
from router.fleet import Changes, Fleet
from router.following import Following
from router.keys import place
from router.keys.api import KeysApi
from router.keys.keeper import Keeper
from router.keys.ring import KeyRing
from router.keys.store import StoreError
from router.loaded import Loaded
from router.passing import Heir
from router.plan import Plan
from router.probe import Prober
from router.reload import Reloader
from router.seam import End
from router.server import Relay, serve_relay
from router.usage import budgets
from router.usage.api import UsageApi
from router.usage.book import SqliteStore
from router.usage.meter import Meter
from router.usage.store import Store as UsageStore
from router.versions import Versions

if TYPE_CHECKING:
    from router.shared_cache import SharedCache
    from router.shared_limits import SharedLimits

SNAPSHOT_NAME = "snapshot.json"
USAGE_NAME = "usage.db"
#: How long a start waits for a registry that neither answers nor refuses, before it serves from its
#: snapshot: one that is there answers in milliseconds, and an old view knows engines long gone.
FIRST_SYNC_S = 1.0

_log = logs.get("router")


async def main(daemon: Daemon, _: Config, path: Path | None) -> None:
    """The daemon, from start to stop. Raises RefusalError or ConfigError where it cannot start."""
    # Read once more: what is kept as a good version is the text that runs.
    start, file = loaded.at_start(path)
    config = start.config
    async with contextlib.AsyncExitStack() as stack:
        held = daemon.held
        opened = _open(config, stack, held)
        router = Router(start, file, held)
        daemon.on_reload(router.reloader.ask)
        if held is None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _not_replaceable)
        stack.push_async_callback(router.close)
        await router.start(daemon)
        if held is not None and held.is_heir and config.registries:
            # Who serves has a table: it is not replaced by one that has none.
            await router.has_table(daemon.stopping)
        await router.serve(opened.sockets["listen"], opened.sockets.get("control_listen", []))
        _settle_memory()
        _log.info("serving", listen=config.listen, registries=list(config.registries))
        daemon.ready(f"serving on {config.listen}")
        await daemon.until_stopped()
        if held is not None and held.replaced:
            await router.hand_on(held, daemon.hurry)
        others_hold = "listen" in opened.given and (held is None or held.kept)
        await router.drain(daemon.hurry, accepting=not others_hold)


def _not_replaceable() -> None:
    """Without a handler the signal would end it at once, streams and all."""
    _log.error("not replaced: it was started without --replaceable")


def _settle_memory() -> None:
    """What was made until now stays: full collections would walk it again and again, for tens of
    milliseconds. And young objects mostly go without one: requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _open(config: Config, stack: contextlib.AsyncExitStack, held: Held | None) -> listen.Opened:
    """Before anything else: a taken port must stop nothing that runs."""
    keys = zip(("listen", "control_listen"), access.listens(config), strict=False)
    # Under a holder of our own the file may name other addresses than it did.
    opened = listen.open_all(dict(keys), must_match=held is None or held.kept)
    stack.callback(opened.close)
    if held is not None:
        held.listens_on([one for found in opened.sockets.values() for one in found])
    return opened


def _shared_cache(config: Config) -> "SharedCache | None":
    """None: this router shares nothing with others."""
    where = shared_store.where(config)
    if where is None:
        return None
    # here: the client takes 20 MB and a tenth of a second, which a router alone can spare
    from router.shared_cache import SharedCache

    return SharedCache(where, shared_store.access(config), config.redis_prefix)


def _no_log(_: Plan, __: End) -> None:
    """Neither an access log nor usage is wanted."""


def _both(first: Log, second: Log) -> Log:
    def both(plan: Plan, end: End) -> None:
        first(plan, end)
        second(plan, end)

    return both


class Router:
    """Every part, and the order in which they begin and end."""

    def __init__(self, start: Loaded, file: Path | None, held: Held | None = None) -> None:
        config = start.config
        self._loaded = start
        self._held = held
        self._pipe = Pipe(sys.stdout.fileno(), shared=held is not None)
        self.log = AccessLog(self._pipe.write, short=sys.stdout.isatty())
        self.brain = Brain(
            config, random.random, node=start.providers.node, names=start.names, hooks=start.hooks
        )
        self.fleet = Fleet()
        folder = paths.state_dir("router", config.state_dir)
        self.meter = Meter(self._usage_store(folder), config.usage, self._take_overspent)
        self._log_requests()
        self._snapshot = folder / SNAPSHOT_NAME
        self._owns = held is None or held.owned.is_set()
        self.keeper = snapshot.Keeper(self._snapshot, self.fleet, owned=self._owns)
        self.reloader = Reloader(self, start, file, Versions(folder / versions.FOLDER))
        self.following = Following(
            self.fleet,
            self._apply,
            reported=self.brain.reported,
            dice=random.random,
            tls=start.certificates.client,
        )
        self._door = Door(start.token, plain=config.error_shape == "plain")
        self._keys = Keeper(place.store(config, folder), self._take_ring)
        self._audit = Audit(folder)
        self.brain.may_explain = self._door.lets_in
        #: Names that the file itself has.
        self._named: frozenset[str] = frozenset()
        self._has_table = False
        self._synced = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._probes: ClientSession | None = None
        self._servers: list[Server] = []
        self._relay: Relay | None = None
        self._shared_cache: SharedCache | None = None
        self._shared: SharedLimits | None = None

    async def start(self, daemon: Daemon) -> None:
        """Everything but the ports."""
        config = self._loaded.config
        if self._held is None or self._owns:
            await self.reloader.started()
        else:
            self._spawn(self._come_into(self._held), "router.files")
        self.brain.cache.soon = asyncio.get_running_loop().call_soon
        self._shared_cache = _shared_cache(config)
        self._share_cache()
        if config.client_keys == "required":
            await self._follow_keys()
        await self._share(config)
        self._take_services({})
        if config.registries:
            self._take_snapshot()
        # Engines must never see the cluster's token: probes have a session of their own.
        certificates = self._loaded.certificates
        self._probes = http.client(tls=certificates.client)
        if certificates.server is not None or certificates.client is not None:
            self._spawn(certificates.run(), "router.certificates")
        self._spawn(Prober(self.brain, self._probes).run(), "router.probes")
        self._spawn(self.log.run(), "router.accesslog")
        await self.meter.look()
        self._spawn(self.meter.run(), "router.usage")
        self._spawn(self._tick(), "router.tick")
        self._spawn(self.keeper.run(), "router.snapshot")
        self.following.start(config.registries, self._loaded.token)
        self._spawn(self.following.run(), "router.following")
        self._spawn(self.reloader.run(daemon), "router.reloads")
        await self.following.tried(FIRST_SYNC_S)

    def _usage_store(self, folder: Path) -> UsageStore:
        config = self._loaded.config
        where = shared_store.where(config)
        if where is None:
            return SqliteStore(folder / USAGE_NAME)
        from router.usage.redis_store import RedisStore

        access, prefix = shared_store.access(config), config.redis_prefix
        return RedisStore(where, access, prefix, lambda: self._loaded.config.usage)

    async def _share(self, config: Config) -> None:
        """What other routers count too."""
        where = shared_store.where(config)
        if where is None:
            return
        # here: the client takes 20 MB and a tenth of a second, which a router alone can spare
        from router.shared_limits import SharedLimits

        limits = SharedLimits(
            where,
            shared_store.access(config),
            config.redis_prefix,
            alone=lambda: self._loaded.config.limits_without_redis == "local",
        )
        self._shared = limits
        self.brain.share(limits.shares)
        await limits.start()

    async def serve(self, public: list[socket.socket], operator: list[socket.socket]) -> None:
        handed_over = await http.serve(self._application(operator=not operator))
        self._servers.append(handed_over)
        if operator:
            self._servers.append(
                await http.serve(
                    self._application(operator=True),
                    operator,
                    tls=self._loaded.certificates.server,
                )
            )
        self._relay = await serve_relay(
            public,
            self.brain,
            self._loaded.config,
            handed_over,
            ring=self._door.ring,
            tls=self._loaded.certificates.server,
        )
        if self._held is not None:
            self._held.meet = self._relay.adopt

    async def _come_into(self, held: Held) -> None:
        """The files, once a predecessor has released them."""
        await self.reloader.started(held.owned)
        self.keeper.own()

    async def has_table(self, stopping: asyncio.Event) -> None:
        """Wait for it, or for a stop."""
        if not self.ready:
            waits = [tasks.spawn(one.wait(), "router.table") for one in (self._synced, stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await tasks.cancel(*waits)

    async def hand_on(self, held: Held, hurry: asyncio.Event) -> None:
        """A successor serves: it gets the files, idle connections, and what becomes idle."""
        if self._relay is None:
            return
        for server in self._servers:
            server.stop_accepting()
        self._relay.stop_accepting()
        if held.owned.is_set():
            await self.reloader.release()
            await self.keeper.release()
            held.released()
        limit_s = self._loaded.config.timeouts.replaced_drain_s
        await self._relay.hand_on(Heir(held.take_heir), limit_s, hurry, held.stopped)
        if self._relay.clients and not held.stopped.is_set():
            hurry.set()

    async def drain(self, hurry: asyncio.Event, *, accepting: bool = True) -> None:
        """Let what runs end, for `drain_s` or until `hurry`. Without `accepting`, others have the
        sockets: who comes meanwhile is theirs."""
        if self._relay is not None:
            if not accepting:
                self._relay.stop_accepting()
            await self._relay.drain(self._loaded.config.timeouts.drain_s, hurry)

    async def close(self) -> None:
        if self._relay is not None:
            await self._relay.close()
        for server in self._servers:
            await server.close(timeout_s=1.0)
        await tasks.cancel(*self._background)
        await self.following.close()
        await self._keys.close()
        if self._shared is not None:
            await self._shared.close()
        await self.meter.close()
        await self.keeper.close()
        if self._shared_cache is not None:
            await self._shared_cache.close()
        if self._probes is not None:
            await self._probes.close()
        await self._pipe.drain()

    # --- configuration ----------------------------------------------------------------------------

    def swap(self, new: Loaded) -> None:
        """From the next request on; those that run keep what they began with."""
        old, self._loaded = self._loaded, new
        config = new.config
        self.brain.reconfigure(
            config,
            node=new.providers.node,
            names=new.names,
            hooks=new.hooks,
            now=clock.monotonic(),
        )
        self._take_services(old.services)
        self.meter.config = config.usage
        self._bound()
        self._log_requests()
        self._door.token = new.token
        self._door.plain = config.error_shape == "plain"
        if self._relay is not None:
            self._relay.reconfigure(config)
        self.following.change(config.registries, new.token)
        self._share_cache()

    async def judge(self, old: Loaded, new: Loaded) -> str | None:
        return await judging.judge(old, new, self.brain.table, self.fleet.records)

    def _share_cache(self) -> None:
        shares = self._loaded.config.cache.shared
        self.brain.cache.shared = self._shared_cache if shares else None

    def _log_requests(self) -> None:
        config = self._loaded.config
        line, count = self.log.append, self.meter.append
        if not config.usage.enabled:
            self.brain.log = line if config.access_log else _no_log
        else:
            self.brain.log = _both(line, count) if config.access_log else count

    # --- clients' keys ---------------------------------------------------------------------------

    async def _follow_keys(self) -> None:
        """Raises RefusalError: without them nobody could be let in."""
        try:
            await self._keys.open()
        except StoreError as why:
            raise RefusalError(f"{why}.\n  The clients' keys are there (client_keys).") from why
        self._spawn(self._keys.run(), "router.keys")

    def _bound(self) -> None:
        """Whose usage has a bound."""
        ring = self._door.ring
        callers = () if ring is None else ring.callers
        self.meter.bounds = budgets.bounds(self._loaded.config.tenants, callers)

    def _take_overspent(self, found: Mapping[budgets.Who, Problem]) -> None:
        self.brain.overspent = found

    def _take_ring(self, ring: KeyRing) -> None:
        if self._loaded.config.client_keys != "required":
            return
        self._door.ring = ring
        self._bound()
        self.brain.limiters.keep_keys(ring.ids)
        if self._relay is not None:
            self._relay.ring = ring

    # --- the table --------------------------------------------------------------------------------

    def _take_services(self, before: Mapping[str, Mapping[str, Service]]) -> None:
        """What the file itself names. What it names no more is the registry's word again."""
        now = self._loaded.services
        self._named = frozenset(name for found in now.values() for name in found)
        gone = {name for found in before.values() for name in found} - self._named
        if gone:
            records = self.fleet.records
            self.brain.apply(
                {name: records.get(name) for name in gone},
                suspect=self.fleet.held.keys() & gone,
            )
        for source, found in now.items():
            if found:
                self.brain.apply(found, source=source)
                self._has_table = True

    def _take_snapshot(self) -> None:
        found = snapshot.load(self._snapshot)
        if found is None:
            return
        self._apply(self.fleet.restore(found.epoch, found.revision, found.services))
        self._has_table = True
        _log.info("snapshot read", services=len(found.services), written=found.written)

    def _apply(self, changes: Changes) -> None:
        records = changes.records
        if not self._named.isdisjoint(records):
            # What the operator wrote down outranks a registration under the same name.
            records = {n: s for n, s in records.items() if n not in self._named}
        self.brain.apply(records, suspect=changes.suspect, fresh=changes.fresh)
        self.brain.freed(clock.monotonic())
        self.keeper.changed()
        if self.fleet.synced_once:
            self._synced.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.brain.tick(clock.monotonic())

    # --- control ----------------------------------------------------------------------------------

    def _application(self, *, operator: bool) -> web.Application:
        return control.application(
            control.Control(
                self.brain,
                metrics.registry(
                    metrics.RouterCollector(self.brain, lambda: self.following.link.connected),
                    metrics.DoorCollector(self._at_the_door),
                    metrics.ConfigCollector(self.reloader.read),
                ),
                link=lambda: self.following.link,
                epoch=lambda: self.fleet.epoch,
                ready=lambda: self.ready,
                reloader=self.reloader,
                keys=KeysApi(self._keys, required=self._loaded.config.client_keys == "required"),
                audit=self._audit,
                usage=UsageApi(self.meter),
            ),
            self._door,
            operator=operator,
        )

    def _at_the_door(self) -> tuple[int, Crowd] | None:
        relay = self._relay
        return None if relay is None else (len(relay.clients), relay.crowd)

    @property
    def ready(self) -> bool:
        return self._has_table or self.fleet.synced_once

    def _spawn(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        self._background.append(tasks.spawn(coro, name, fatal=True))
