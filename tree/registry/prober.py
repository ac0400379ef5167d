"""Fetches /health of records without a lease, from where it is allowed, and reports what it means.

Redirects are never followed, an answer is read to BODY_BYTES_MAX, a name is resolved once and the
address that was checked is the one connected to, so that no name can lead elsewhere in between.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from common.address import Networks
from registry import probes
from registry.commands import Probed
from registry.config import Probe
from registry.probes import Answer, Target
from registry.records import NOT_PROBED, Entry, Record, Verdict
from registry.table import Table

BODY_BYTES_MAX = 64 * 1024  # a health answer is a few hundred bytes

Report = Callable[[Probed], Coroutine[Any, Any, None]]
Duty = Callable[[], Coroutine[Any, Any, bool]]


async def always() -> bool:
    """The duty of a registry that is alone."""
    return True


class NotAllowed(Exception):
    """The registry stores this URL, but does not fetch it."""


class Prober:
    """Probes every lease-less record each `every_s`. `report` gets what changed.

    Of several registries only that one probes whose `has_duty` says so.
    """

    def __init__(
        self,
        config: Probe,
        allow_hosts: tuple[str, ...] | None,
        report: Report,
        has_duty: Duty = always,
    ) -> None:
        self._config = config
        self._trust_registrants = allow_hosts is None
        self._allowed = Networks(allow_hosts or ())
        self._report = report
        self._has_duty = has_duty
        self._tally = probes.Tally(config.failures)
        self._places = asyncio.Semaphore(config.concurrent_max)

    async def run(self, table: Table) -> NoReturn:
        while True:
            await asyncio.sleep(self._config.every_s)
            if await self._has_duty():
                await self.probe_all(table)

    async def probe_all(self, table: Table) -> None:
        """One round."""
        bare = [entry for entry in table.entries.values() if entry.record.lease_s is None]
        self._tally.keep({entry.record.name for entry in bare})
        await asyncio.gather(*(self._one(entry) for entry in bare))

    async def _one(self, entry: Entry) -> None:
        record = entry.record
        async with self._places:
            verdict = self._tally.conclude(record.name, await self._probe(record))
        if verdict is not None and verdict != entry.verdict:
            await self._report(Probed(record.name, record.url, verdict))

    async def _probe(self, record: Record) -> Verdict:
        for target in probes.targets(record):
            try:
                answer = await self._get(target, self._networks(record))
            except NotAllowed:
                continue
            if probes.counts(target, answer):
                return probes.judge(target, answer)
        return NOT_PROBED

    def _networks(self, record: Record) -> Networks:
        if self._trust_registrants and record.registrant is not None:
            return Networks([record.registrant])
        return self._allowed

    async def _get(self, target: Target, allowed: Networks) -> Answer:
        host = probes.host_of(target)
        resolver = _Checked(allowed, host)
        if _is_literal(host) and host not in allowed:
            raise NotAllowed
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            try:
                async with session.get(target.url, allow_redirects=False) as response:
                    body = await _body(response) if target.naming else b""
                    return Answer(response.status, body)
            except TimeoutError:
                return Answer(0, text=f"no answer within {self._config.timeout_s:g} s")
            except (aiohttp.ClientError, OSError, ValueError) as why:
                if resolver.refused:
                    raise NotAllowed from None
                return Answer(0, text=_why(why))


class _Checked(AbstractResolver):
    """Resolves through the system, and hands out allowed addresses alone."""

    def __init__(self, allowed: Networks, host: str) -> None:
        self._allowed = allowed
        self._by_name = host in allowed
        self.refused = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            self.refused = not self._by_name  # where it would have led is not known
            raise
        results = [
            ResolveResult(
                hostname=host,
                host=str(where[0]),
                port=port,
                family=one_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for one_family, _, proto, _, where in found
            if self._by_name or str(where[0]) in self._allowed
        ]
        if not results:
            self.refused = True
            raise OSError(f"{host} leads outside allow_hosts")
        return results

    async def close(self) -> None:
        return None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """All of it, in however many pieces it comes, to the limit."""
    try:
        return await response.content.readexactly(BODY_BYTES_MAX)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


def _is_literal(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return False
    return True


def _why(error: Exception) -> str:
    """A sentence without inner detail."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't be connected to: {error.os_error.strerror or 'no route'}"
    return f"broke off: {type(error).__name__}"
