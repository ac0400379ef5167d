"""Puts the registry together and runs it until it is told to stop.

settle auth ─▶ open the store ─▶ bind ─▶ serve ─▶ ready
stop: end watches ─▶ answers in progress ─▶ keeper ─▶ store
"""

from pathlib import Path

import structlog

from common import address, auth, clock, listen, paths, tasks
from common.daemon import Daemon
from common.http import application, serve
from registry import config as configs
from registry.api import Api
from registry.commands import Probed
from registry.config import MEMORY, Config
from registry.feed import Feed
from registry.keeper import Keeper, Overloaded
from registry.lease_clock import LeaseClock
from registry.prober import Prober
from registry.records import Moment
from registry.sqlite_store import SqliteStore
from registry.store import MemoryStore, Store, StoreError
from registry.table import Table

_log = structlog.get_logger("registry")

FILE_NAME = "registry.db"


def store_of(config: Config) -> Store:
    """The store that `config` names. Raises RefusalError where its folder can't be had."""
    if config.state == MEMORY:
        return MemoryStore()
    return SqliteStore(paths.state_dir("registry", config.state_dir) / FILE_NAME)


async def main(daemon: Daemon, config: Config, path: Path | None) -> None:
    """The daemon, from start to stop. Raises RefusalError where it can't start."""
    where = address.parse(config.listen)
    token = auth.settle(
        [where],
        token_file=config.token_file,
        auth=config.auth,
        config_file=str(path or "/etc/creche/registry.toml"),
        others_may="register services and be routed to",
    )
    sockets = listen.bind(where)
    try:
        store = store_of(config)
        stored = await store.open()
    except BaseException:
        for one in sockets:
            one.close()
        raise
    tick_s = configs.tick_s(config)
    lease_clock = LeaseClock(clock.monotonic(), tick_s=tick_s, stall_s=configs.stall_s(config))
    now = Moment(lease_clock.read(clock.monotonic()), clock.wire_time(clock.wall()))
    table = Table(configs.terms(config), stored, now)
    feed = Feed(table, config)
    keeper = Keeper(
        table,
        store,
        lease_clock,
        publish=feed.publish,
        tick_s=tick_s,
        pending_max=config.limits.pending_max,
    )
    prober = Prober(config.probe, config.allow_hosts, lambda probed: _report(keeper, probed))
    app = application(token=token)
    Api(config, keeper, feed, token).add_routes(app)
    background = [
        tasks.spawn(keeper.run(), "registry.keeper", fatal=True),
        tasks.spawn(keeper.keep_time(), "registry.time", fatal=True),
        tasks.spawn(feed.keep_telling_loads(), "registry.loads", fatal=True),
        tasks.spawn(prober.run(table), "registry.prober", fatal=True),
    ]
    server = await serve(app, sockets, connections_max=config.limits.connections_max)
    _log.info(
        "listening",
        url=server.url,
        epoch=table.epoch,
        revision=table.revision,
        services=len(table.entries),
    )
    daemon.ready(f"listening on {server.url}, {len(table.entries)} services")
    try:
        await daemon.until_stopped()
    finally:
        feed.close()
        await server.close()
        await tasks.cancel(*background)
        await store.close()


async def _report(keeper: Keeper, probed: Probed) -> None:
    try:
        await keeper.do(probed)
    except (StoreError, Overloaded):
        pass  # told by the keeper; the next probe says it again
