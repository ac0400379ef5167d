"""Holds the old and the new configuration against the present fleet: what would each serve?

Whatever the registry says is the same for both, unless they name different ones: then the old ones
are asked once more. Services that only one of the two files has, or has at another address, are
asked by a connect: nothing else is known of those that no request reaches.
"""

import asyncio
from collections.abc import Iterable, Mapping

from aiohttp import ClientError, ClientResponse
from msgspec import DecodeError, json
from msgspec.structs import replace

from common import http
from common.wire.registry import Service, Services
from router import needs
from router.loaded import Loaded
from router.names.target import Target
from router.nodes import Node
from router.rollback import Side, named, reason
from router.table import Table
from router.upstream import Identity, Upstream, address, identity

#: Clouds are farther away than engines.
CONNECT_S = 5.0
#: Ten thousand services with long model lists.
FLEET_BYTES_MAX = 64 << 20
#: Connects at the same time.
AT_ONCE_MAX = 64


async def judge(
    old: Loaded, new: Loaded, present: Table, registered: Mapping[str, Service]
) -> str | None:
    """Why `old` must come back; None: `new` stays. `present` is the table as `new` made it."""
    of_old, of_new = _by_name(old), _by_name(new)
    shared = {name for name, one in of_old.items() if _is_same(one, of_new.get(name))}
    doubtful = [
        one for found in (of_old, of_new) for one in found.values() if one.name not in shared
    ]
    reached = await _reached(doubtful)
    fleet_of_old = registered
    if old.config.registries != new.config.registries:
        asked = await _asked(old)
        fleet_of_old = registered if asked is None else asked

    def well(found: Mapping[str, Service]) -> dict[str, Service]:
        return {
            name: one for name, one in found.items() if name in shared or identity(one) in reached
        }

    others = of_old.keys() | of_new.keys()
    sides = []
    for loaded, found, fleet in ((old, of_old, fleet_of_old), (new, of_new, registered)):
        records: dict[str, Service | None] = {}
        if fleet is not registered:
            records = {**dict.fromkeys(registered), **fleet}
        records.update({name: None if name in found else fleet.get(name) for name in others})
        records.update(well(found))
        table = present.apply({name: _upstream(one) for name, one in records.items()})
        sides.append(Side(named(loaded.config), served(loaded, table)))
    return reason(*sides)


def served(loaded: Loaded, table: Table) -> frozenset[str]:
    """Names that clients may ask for, and that something would answer where they say no needs.

    What was measured refuses nothing here: it is the fleet's doing, not the file's.
    """
    wants = replace(needs.default(loaded.config.needs), max_latency_ms=None, min_throughput=None)

    def able(upstream: Upstream | None) -> bool:
        if upstream is None or not (upstream.fit or upstream.suspect):
            return False
        return needs.refusal(upstream, wants, 0.0) is None

    def servable(target: Target) -> bool:
        if target.provider is not None:
            return able(table.upstreams.get(target.provider))
        return any(able(one) for model in target.models for one in table.models.get(model, ()))

    listed = (model for model, found in table.models.items() if any(map(able, found)))
    return frozenset(one.name for one in loaded.names.askable(listed, servable))


def _by_name(loaded: Loaded) -> dict[str, Service]:
    return {name: one for found in loaded.services.values() for name, one in found.items()}


def _is_same(one: Service, other: Service | None) -> bool:
    return other is not None and identity(one) == identity(other)


def _upstream(service: Service | None) -> Upstream | None:
    """A view that no request will use."""
    if service is None:
        return None
    where = address(service)
    return Upstream(service, Node(service.name, where.host, where.port))


async def _asked(old: Loaded) -> Mapping[str, Service] | None:
    """What the old file's registries say now. None: nobody answers, so nothing speaks for them."""
    async with http.client(
        token=old.token, total_s=CONNECT_S, tls=old.certificates.client
    ) as session:
        for url in old.config.registries:
            try:
                async with session.get(
                    f"{url.rstrip('/')}/services", allow_redirects=False
                ) as answer:
                    found = _services(await _body(answer))
            except (ClientError, OSError, DecodeError):
                continue
            return {one.name: one for one in found.services}
    return None


_services = json.Decoder(Services).decode


async def _body(answer: ClientResponse) -> bytes:
    """One that is too long is cut, and cannot be read then."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > FLEET_BYTES_MAX:
            break
    return bytes(body[:FLEET_BYTES_MAX])


async def _reached(services: Iterable[Service]) -> frozenset[Identity]:
    """Those that take a connection."""
    places = asyncio.Semaphore(AT_ONCE_MAX)
    asked = {identity(one): one for one in services}

    async def ask(service: Service) -> bool:
        where = address(service)
        try:
            async with places, asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(where.host, where.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    answers = await asyncio.gather(*map(ask, asked.values()))
    return frozenset(mark for mark, well in zip(asked, answers, strict=True) if well)
