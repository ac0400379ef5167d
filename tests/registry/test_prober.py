"""Real sockets: what is fetched, and above all what is not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.wire.registry import Health
from registry import commands as ask
from registry.config import Probe
from registry.prober import BODY_BYTES_MAX, Prober
from registry.records import Verdict
from tests.registry.acts import World, registration
from tests.support.ports import free_port


class Site:
    """A server that counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"ok"
        self.pieces: tuple[bytes, ...] = ()
        self.server: TestServer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if self.pieces:
            return await self._in_pieces(request)
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    async def _in_pieces(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for piece in self.pieces:
            await answer.write(piece)
            for _ in range(20):  # turns of the loop, the reader's too: it reads each by itself
                await asyncio.sleep(0)
        return answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    made.server = TestServer(app, host="127.0.0.1", port=free_port())
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
def resolves_to(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every name resolves to; empty: nothing. No resolver is asked."""
    addresses: list[str] = []

    async def resolve(_: object, host: str, port: int, **__: object) -> list[Any]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    return addresses


class Round:
    """A table with one record without a lease, and a prober for it."""

    def __init__(self, allow_hosts: tuple[str, ...] | None = None, **config: Any) -> None:
        self.world = World()
        fields: dict[str, Any] = {"failures": 1, "timeout_s": 20, **config}
        self.prober = Prober(Probe(**fields), allow_hosts, self.report)

    async def report(self, probed: ask.Probed) -> None:
        self.world.do(probed)

    async def __call__(self, **record: Any) -> Verdict:
        self.world.post(lease_s=None, **record)
        await self.prober.probe_all(self.world.table)
        return self.world.table.entries["a"].verdict


async def test_a_babysitter_url_is_asked_for_its_health(site: Site) -> None:
    verdict = await Round()(metadata={"babysitter_url": site.url})
    assert verdict.health is Health.HEALTHY
    assert site.asked == ["/health"]


async def test_a_failure_is_told_with_its_status(site: Site) -> None:
    site.status = 503
    verdict = await Round()(metadata={"babysitter_url": site.url})
    assert verdict.health is Health.UNHEALTHY
    assert verdict.text == f"{site.url}/health: answered 503"


async def test_the_neighbours_port_counts_only_if_it_names_the_service(site: Site) -> None:
    assert site.server.port is not None
    site.status = 500
    beside = {"host": "127.0.0.1", "port": site.server.port - 1, "url": "http://192.0.2.1:1"}
    assert (await Round()(**beside)).health is Health.UNKNOWN
    site.body = b'{"service": "a"}'
    assert (await Round()(**beside)).health is Health.UNHEALTHY
    site.status = 200
    assert (await Round()(**beside)).health is Health.HEALTHY


async def test_an_answer_that_comes_in_pieces_is_read_whole(site: Site) -> None:
    assert site.server.port is not None
    beside = {"host": "127.0.0.1", "port": site.server.port - 1, "url": "http://192.0.2.1:1"}
    site.pieces = (b'{"service"', b': "a"}')
    assert (await Round()(**beside)).health is Health.HEALTHY


async def test_redirects_are_never_followed(site: Site) -> None:
    site.status, site.headers = 302, {"Location": "/elsewhere"}
    verdict = await Round()(metadata={"babysitter_url": site.url})
    assert verdict.health is Health.UNKNOWN
    assert site.asked == ["/health"]


async def test_an_endless_answer_is_read_to_the_limit(site: Site) -> None:
    assert site.server.port is not None
    site.body = b"x" * (BODY_BYTES_MAX * 20)
    assert (await Round()(metadata={"babysitter_url": site.url})).health is Health.HEALTHY
    beside = {"host": "127.0.0.1", "port": site.server.port - 1, "url": "http://192.0.2.1:1"}
    assert (await Round()(**beside)).health is Health.UNKNOWN


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.7:80",
        "http://169.254.169.254/latest",
        "http://[2001:db8::1]:80",
        "http://[::ffff:192.0.2.7]:80",
        "http://gpu-7:80",
    ],
)
async def test_what_is_outside_allow_hosts_is_unknown_and_never_unfit(
    url: str, resolves_to: list[str]
) -> None:
    resolves_to.append("192.0.2.7")
    verdict = await Round()(host="192.0.2.7", url=url, metadata={"babysitter_url": url})
    assert verdict.health is Health.UNKNOWN


async def test_without_a_token_nobodys_address_is_trusted(site: Site) -> None:
    around = Round(allow_hosts=())
    verdict = await around(metadata={"babysitter_url": "http://192.0.2.1:1"})
    assert verdict.health is Health.UNKNOWN


async def test_loopback_names_and_addresses_are_allowed(site: Site) -> None:
    url = f"http://localhost:{site.server.port}"
    assert (await Round()(metadata={"babysitter_url": url})).health is Health.HEALTHY


async def test_a_name_that_cannot_be_resolved_is_unknown(resolves_to: list[str]) -> None:
    verdict = await Round()(metadata={"babysitter_url": "http://gpu-7:80"})
    assert verdict.health is Health.UNKNOWN


async def test_a_name_leads_only_to_those_of_its_addresses_that_are_allowed(
    site: Site, resolves_to: list[str]
) -> None:
    resolves_to += ["192.0.2.7", "127.0.0.1"]
    url = f"http://gpu-7:{site.server.port}"
    assert (await Round()(metadata={"babysitter_url": url})).health is Health.HEALTHY


async def test_the_address_of_a_token_bearing_registrant_is_allowed_unless_configured() -> None:
    def allowed(allow_hosts: tuple[str, ...] | None, registrant: str | None) -> bool:
        around = Round(allow_hosts=allow_hosts)
        around.world.do(ask.Register(registration("a"), registrant))
        record = around.world.table.entries["a"].record
        return "192.0.2.1" in around.prober._networks(record)

    assert allowed(None, "192.0.2.1")
    assert not allowed(None, "192.0.2.2")
    assert not allowed(None, None)
    assert not allowed(("10.0.0.0/8",), "192.0.2.1")
    assert allowed(("192.0.2.0/24",), None)


async def test_nobody_listening_is_unhealthy_only_after_enough_failures(site: Site) -> None:
    metadata = {"babysitter_url": site.url}
    await site.server.close()
    around = Round(failures=2)
    assert (await around(metadata=metadata)).health is Health.UNKNOWN
    assert (await around(metadata=metadata)).health is Health.UNHEALTHY


async def test_leased_records_are_never_probed(site: Site) -> None:
    around = Round()
    around.world.post(metadata={"babysitter_url": site.url})
    await around.prober.probe_all(around.world.table)
    assert site.asked == []
