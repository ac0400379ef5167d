"""Puts the router together and runs it until it is told to stop.

access ─▶ bind ─▶ snapshot ─▶ watch ─▶ relay ─▶ ready
stop: no new connections ─▶ requests end, up to drain_s ─▶ watch ─▶ last snapshot, last log lines
"""

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

from common import http, listen, logs, paths, tasks
from common.daemon import Daemon
from common.http import Server
from router import access, control, metrics, snapshot, static
from router.accesslog import AccessLog, Pipe
from router.brain import Brain
from router.config import Config
from router.fleet import Changes, Fleet
from router.probe import Prober
from router.server import Relay, serve_relay
from router.watch import Link, Watch

SNAPSHOT_NAME = "snapshot.json"
#: How long a start waits for a registry that neither answers nor refuses, before it serves from its
#: snapshot: one that is there answers in milliseconds, and an old view knows engines long gone.
FIRST_SYNC_S = 1.0

_log = logs.get("router")


async def main(daemon: Daemon, config: Config, path: Path | None) -> None:
    """The daemon, from start to stop. Raises RefusalError where it cannot start."""
    token = access.settle(config, str(path or "/etc/creche/router.toml"))
    async with contextlib.AsyncExitStack() as stack:
        public, operator = _bind(config, stack)
        router = Router(config, token)
        stack.push_async_callback(router.close)
        await router.start()
        await router.serve(public, operator)
        _settle_memory()
        _log.info("serving", listen=config.listen, registries=list(config.registries))
        daemon.ready(f"serving on {config.listen}")
        await daemon.until_stopped()
        await router.drain(daemon.hurry)


def _settle_memory() -> None:
    """What was made until now stays: full collections would walk it again and again, for tens of
    milliseconds. And young objects mostly go without one: requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _bind(
    config: Config, stack: contextlib.AsyncExitStack
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Before anything else: a taken port must stop nothing that runs."""
    bound: list[list[socket.socket]] = []
    for key, where in zip(("listen", "control_listen"), access.listens(config), strict=False):
        bound.append(listen.bind(where, key=key))
        for one in bound[-1]:
            stack.callback(one.close)
    return bound[0], bound[1] if len(bound) > 1 else []


class Router:
    """Every part, and the order in which they begin and end."""

    def __init__(self, config: Config, token: str | None) -> None:
        self._config = config
        self._token = token
        self._pipe = Pipe(sys.stdout.fileno())
        self.log = AccessLog(self._pipe.write, short=sys.stdout.isatty())
        self.brain = Brain(config, random.random, tls=ssl.create_default_context)
        if config.access_log:
            self.brain.log = self.log.append
        self.fleet = Fleet()
        folder = paths.state_dir("router", config.state_dir)
        self.keeper = snapshot.Keeper(folder / SNAPSHOT_NAME, self.fleet)
        self._snapshot = folder / SNAPSHOT_NAME
        self._static: frozenset[str] = frozenset()
        self._has_table = False
        self._background: list[asyncio.Task[None]] = []
        self._sessions: list[ClientSession] = []
        self._servers: list[Server] = []
        self._relay: Relay | None = None
        self.watch: Watch | None = None

    async def start(self) -> None:
        """Everything but the ports."""
        self._take_static()
        self._take_snapshot()
        # Engines must never see the cluster's token: probes have a session of their own.
        probes, registry = http.client(), http.client(token=self._token)
        self._sessions = [probes, registry]
        self._spawn(Prober(self.brain, probes).run(), "router.probes")
        self._spawn(self.log.run(), "router.accesslog")
        self._spawn(self._tick(), "router.tick")
        if not self._config.registries:
            return
        self.watch = Watch(
            self._config.registries,
            registry,
            self.fleet,
            self._apply,
            reported=self.brain.reported,
            dice=random.random,
        )
        self._spawn(self.watch.run(), "router.watch")
        self._spawn(self.watch.compare(), "router.compare")
        self._spawn(self.keeper.run(), "router.snapshot")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SYNC_S):
                await self.watch.tried.wait()

    async def serve(self, public: list[socket.socket], operator: list[socket.socket]) -> None:
        handed_over = await http.serve(self._application(operator=not operator))
        self._servers.append(handed_over)
        if operator:
            self._servers.append(await http.serve(self._application(operator=True), operator))
        self._relay = await serve_relay(public, self.brain, self._config, handed_over)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take no more; let what runs end, for `drain_s` or until `hurry`."""
        if self._relay is not None:
            await self._relay.drain(self._config.timeouts.drain_s, hurry)

    async def close(self) -> None:
        if self._relay is not None:
            await self._relay.close()
        for server in self._servers:
            await server.close(timeout_s=1.0)
        await tasks.cancel(*self._background)
        await self.keeper.close()
        for session in self._sessions:
            await session.close()
        await self._pipe.drain()

    # --- the table --------------------------------------------------------------------------------

    def _take_static(self) -> None:
        items = [
            static.Item(name=s.name, host=s.host, port=s.port, weight=s.weight, metadata=s.metadata)
            for s in self._config.static_services
        ]
        if self._config.static_file:
            items += static.load(self._config.static_file)
        found = static.services(items)
        self._static = frozenset(found)
        if found:
            self.brain.apply(found, source="static")
            self._has_table = True

    def _take_snapshot(self) -> None:
        if not self._config.registries:
            return
        found = snapshot.load(self._snapshot)
        if found is None:
            return
        self._apply(self.fleet.restore(found.epoch, found.revision, found.services))
        self._has_table = True
        _log.info("snapshot read", services=len(found.services), written=found.written)

    def _apply(self, changes: Changes) -> None:
        records = changes.records
        if self._static and not self._static.isdisjoint(records):
            # What the operator wrote down outranks a registration under the same name.
            records = {n: s for n, s in records.items() if n not in self._static}
        self.brain.apply(records, suspect=changes.suspect, fresh=changes.fresh)
        self.keeper.changed()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.brain.tick()

    # --- control ----------------------------------------------------------------------------------

    def _application(self, *, operator: bool) -> web.Application:
        return control.application(
            control.Control(
                self.brain,
                metrics.registry(metrics.RouterCollector(self.brain, lambda: self.link.connected)),
                link=lambda: self.link,
                epoch=lambda: self.fleet.epoch,
                ready=lambda: self.ready,
            ),
            token=self._token,
            operator=operator,
            plain=self._config.error_shape == "plain",
        )

    @property
    def link(self) -> Link:
        return self.watch.link if self.watch is not None else Link(why="no registry configured")

    @property
    def ready(self) -> bool:
        return self._has_table or (self.watch is not None and self.watch.synced.is_set())

    def _spawn(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        self._background.append(tasks.spawn(coro, name, fatal=True))
