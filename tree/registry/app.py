"""Puts the registry together and runs it until it is told to stop.

settle auth ─▶ open the store ─▶ bind ─▶ serve ─▶ ready
stop: end watches ─▶ answers in progress ─▶ keeper ─▶ store
"""

import os
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import structlog

from common import address, auth, clock, listen, paths, redis_url, tasks
from common.daemon import Daemon
from common.http import application, serve
from common.redact import SECRETS
from registry import config as configs
from registry.api import Api
from registry.commands import Probed
from registry.config import MEMORY, Config
from registry.feed import Feed
from registry.keeper import Keeper, Overloaded
from registry.lease_clock import LeaseClock
from registry.prober import Duty, Prober, always
from registry.records import Moment
from registry.shared_keeper import SharedKeeper
from registry.sqlite_store import SqliteStore
from registry.store import MemoryStore, SharedStore, Store, StoreError
from registry.table import Table

_log = structlog.get_logger("registry")

FILE_NAME = "registry.db"


PASSWORD_VARIABLE = "CRECHE_STATE_PASSWORD"  # noqa: S105  (its name)


def store_of(config: Config) -> Store:
    """The store that `config` names. Raises RefusalError where its folder can't be had."""
    if config.state == MEMORY:
        return MemoryStore()
    return SqliteStore(paths.state_dir("registry", config.state_dir) / FILE_NAME)


def shared_store_of(config: Config) -> SharedStore | None:
    """The store that other registries use too, if `config` names one."""
    if not redis_url.is_redis(config.state):
        return None
    # here: the client takes 20 MB and a tenth of a second, which a registry alone can spare
    from registry.redis_store import Access, RedisStore

    sentinel_file = config.state_sentinel_password_file
    return RedisStore(
        redis_url.parse(config.state),
        Access(
            password=_password(config),
            sentinel_password=(
                auth.read_token(sentinel_file, "state_sentinel_password_file")
                if sentinel_file
                else None
            ),
            ca_file=config.state_ca_file,
            prefix=config.state_prefix,
            timeout_s=config.state_timeout_s,
        ),
    )


def _password(config: Config) -> str | None:
    if config.state_password_file:
        return auth.read_token(config.state_password_file, "state_password_file")
    password = os.environ.get(PASSWORD_VARIABLE) or None
    SECRETS.add(password)
    return password


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
    sockets = listen.open_all({"listen": where}).sockets["listen"]
    try:
        shared = shared_store_of(config)
        parts = await (_alone(config) if shared is None else _together(config, shared))
    except BaseException:
        for one in sockets:
            one.close()
        raise
    table, feed, keeper = parts.keeper.table, parts.feed, parts.keeper
    prober = Prober(
        config.probe, config.allow_hosts, lambda probed: _report(keeper, probed), parts.has_duty
    )
    app = application(token=token)
    Api(config, keeper, feed, token).add_routes(app)
    background = [
        tasks.spawn(keeper.run(), "registry.keeper", fatal=True),
        tasks.spawn(keeper.keep_time(), "registry.time", fatal=True),
        tasks.spawn(feed.keep_telling_loads(), "registry.loads", fatal=True),
        tasks.spawn(prober.run(table), "registry.prober", fatal=True),
        *(tasks.spawn(one, "registry.shared", fatal=True) for one in parts.besides),
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
        await parts.store.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a registry is made of, alone or with others. `besides` are tasks to run."""

    store: Store | SharedStore
    keeper: Keeper
    feed: Feed
    has_duty: Duty = always
    besides: tuple[Coroutine[Any, Any, NoReturn], ...] = ()


async def _alone(config: Config) -> _Parts:
    store = store_of(config)
    stored = await store.open()
    lease_clock, now = _clock(config)
    table = Table(configs.terms(config), stored, now)
    feed = Feed(table, config)
    keeper = Keeper(
        table,
        store,
        lease_clock,
        publish=feed.publish,
        tick_s=configs.tick_s(config),
        pending_max=config.limits.pending_max,
    )
    return _Parts(store, keeper, feed)


async def _together(config: Config, store: SharedStore) -> _Parts:
    try:
        whole = await store.open()
    except BaseException:
        await store.close()
        raise
    lease_clock, now = _clock(config)
    table = Table.shared(configs.terms(config), whole, now, store.clocks(now.at))
    feed = Feed(table, config, shared=True)
    keeper = SharedKeeper(
        table,
        store,
        lease_clock,
        publish=feed.publish,
        reset=feed.restart,
        tick_s=configs.tick_s(config),
        pending_max=config.limits.pending_max,
    )

    async def has_duty() -> bool:
        try:
            return await store.has_duty("probe", 3 * config.probe.every_s)
        except StoreError:
            return False  # nothing could be reported either

    return _Parts(store, keeper, feed, has_duty, (keeper.follow(), keeper.keep_telling_beats()))


def _clock(config: Config) -> tuple[LeaseClock, Moment]:
    lease_clock = LeaseClock(
        clock.monotonic(), tick_s=configs.tick_s(config), stall_s=configs.stall_s(config)
    )
    at = lease_clock.read(clock.monotonic())
    return lease_clock, Moment(at, clock.wire_time(clock.wall()))


async def _report(keeper: Keeper, probed: Probed) -> None:
    try:
        await keeper.do(probed)
    except (StoreError, Overloaded):
        pass  # told by the keeper; the next probe says it again
