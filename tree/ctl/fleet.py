"""What the router, the registry and the babysitters each say, gathered as one Fleet.

    router /services ──▶ registry_url ──▶ /services: records of type babysitter (with the token)
          │                                   │ url
          └─ metadata.babysitter_url ─────────┴──▶ each babysitter's /engines

Only the router must answer. Whatever else does not is a note, and what it knows is missing.
"""

import asyncio
from urllib.parse import urlsplit

from msgspec import Struct, field, structs

from common.wire.babysitter import Engine, Engines
from common.wire.registry import TYPE_BABYSITTER, Service, Services
from common.wire.router import (
    RouterConfig,
    RouterHealth,
    RouterService,
    RouterServices,
    RouterStats,
)
from ctl.client import Client
from ctl.errors import CtlError

#: Babysitters asked at a time: a fleet of 100 hosts in one go, not 10,000 sockets.
AT_ONCE = 64


class Silent(Struct, frozen=True):
    """Someone who was asked and did not answer as wanted."""

    url: str
    why: str


class Fleet(Struct, frozen=True, kw_only=True):
    """One look at everything. `engines` holds what each babysitter (by URL) says of its engines."""

    url: str
    health: RouterHealth
    services: RouterServices
    stats: RouterStats = field(default_factory=RouterStats)
    #: None: it is not told at this address (control_listen), or the versions cannot be read.
    config: RouterConfig | None = None
    registry_url: str | None = None
    registry: Services | None = None
    registry_silent: Silent | None = None
    engines: dict[str, list[Engine]] = field(default_factory=dict)
    babysitters_silent: tuple[Silent, ...] = ()

    def babysitter_records(self) -> list[Service | RouterService]:
        """The babysitters' own records: the registry's, else as the router last saw them."""
        records = self.registry.services if self.registry else self.services.services
        return [one for one in records if one.metadata.get("type") == TYPE_BABYSITTER]


async def look(client: Client, url: str) -> Fleet:
    """Ask everyone. Raises UnreachableError or RefusedError only for the router itself."""
    health, services, stats, config = await asyncio.gather(
        client.get(f"{url}/health", RouterHealth),
        client.get(f"{url}/services?type=any", RouterServices),
        client.get(f"{url}/stats", RouterStats),
        _config(client, url),
    )
    registry_url, registry, silent = await _registry(client, services.registry_url)
    fleet = Fleet(
        url=url,
        health=health,
        services=services,
        stats=stats,
        config=config,
        registry_url=registry_url,
        registry=registry,
        registry_silent=silent,
    )
    engines, quiet = await _babysitters(client, babysitter_urls(fleet))
    return structs.replace(
        fleet,
        engines=engines,
        babysitters_silent=tuple(quiet),
    )


def babysitter_urls(fleet: Fleet) -> list[str]:
    """Every babysitter that the router or the registry knows, once, sorted."""
    urls = {one.babysitter_url for one in fleet.services.services if one.babysitter_url}
    urls |= {one.url for one in fleet.babysitter_records()}
    return sorted({url.rstrip("/") for url in urls if url and is_http(url)})


def is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


async def _config(client: Client, url: str) -> RouterConfig | None:
    try:
        return await client.get(f"{url}/admin/config", RouterConfig)
    except CtlError:
        return None


async def _registry(
    client: Client, registry_url: str
) -> tuple[str | None, Services | None, Silent | None]:
    """The first registry that answers. A router may name several, separated by commas."""
    silent: Silent | None = None
    for url in (part.strip().rstrip("/") for part in (registry_url or "").split(",")):
        if not is_http(url):
            continue
        try:
            return url, await client.get(f"{url}/services", Services), None
        except CtlError as error:
            silent = silent or Silent(url, error.why or error.what)
    return (silent.url if silent else None), None, silent


async def _babysitters(
    client: Client, urls: list[str]
) -> tuple[dict[str, list[Engine]], list[Silent]]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(url: str) -> Engines | Silent:
        async with gate:
            try:
                return await client.get(f"{url}/engines", Engines)
            except CtlError as error:
                return Silent(url, error.why or error.what)

    answers = await asyncio.gather(*(ask(url) for url in urls))
    told = {
        url: one.engines for url, one in zip(urls, answers, strict=True) if isinstance(one, Engines)
    }
    return told, [one for one in answers if isinstance(one, Silent)]
