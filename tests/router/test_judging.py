"""Old and new held against the same fleet; what only one of them names is asked by a connect."""

import socket
from collections.abc import Iterator, Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import json

from common.wire.registry import Service, Services
from router import judging
from router.judging import judge
from router.loaded import Loaded, load
from router.table import EMPTY, Table
from router.upstream import Upstream
from tests.router.making import service, upstream
from tests.support.ports import free_port

FLEET = {"e@h": service("e@h", "engine-model")}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here is slow: who is not there refuses at once, however slow the machine."""
    monkeypatch.setattr(judging, "CONNECT_S", 60.0)


@pytest.fixture
def port() -> Iterator[int]:
    """One that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one.getsockname()[1]


def file(text: str, **services: tuple[int, str]) -> Loaded:
    """With static services: name=(port, model)."""
    for name, (where, model) in services.items():
        text += (
            f'\n[[static_services]]\nname = "{name}"\nhost = "127.0.0.1"\nport = {where}\n'
            f'metadata = {{ models = ["{model}"] }}\n'
        )
    return load(text, "router.toml")


def present(new: Loaded, registered: Mapping[str, Service] = FLEET) -> Table:
    """The table as the router has it under `new`."""
    found: dict[str, Upstream | None] = {
        name: upstream(name, *one.metadata["models"]) for name, one in registered.items()
    }
    for services in new.services.values():
        for name, one in services.items():
            found[name] = upstream(name, *one.metadata["models"], port=one.port)
    return EMPTY.apply(found)


async def judged(old: Loaded, new: Loaded, registered: Mapping[str, Service] = FLEET) -> str | None:
    return await judge(old, new, present(new, registered), registered)


EXPECT = 'expect = ["m"]'


async def test_an_address_that_takes_no_connection_any_more_is_lost(port: int) -> None:
    why = await judged(file(EXPECT, s=(port, "m")), file(EXPECT, s=(free_port(), "m")))
    assert why is not None and '"m"' in why


async def test_a_service_that_died_by_itself_is_nobodys_fault() -> None:
    """Both name the same address, and it is the fleet's doing that nobody answers there."""
    dead = free_port()
    assert await judged(file(EXPECT, s=(dead, "m")), file(EXPECT + "\n", s=(dead, "m"))) is None


async def test_an_old_address_that_is_dead_too_would_serve_no_better() -> None:
    old, new = file(EXPECT, s=(free_port(), "m")), file(EXPECT, s=(free_port(), "m"))
    assert await judged(old, new) is None


async def test_a_new_address_that_works_stays(port: int) -> None:
    assert await judged(file(EXPECT, s=(free_port(), "m")), file(EXPECT, s=(port, "m"))) is None


async def test_a_name_that_the_new_file_expects_and_nobody_lists_is_lost(port: int) -> None:
    why = await judged(file(EXPECT, s=(port, "m")), file(EXPECT, s=(port, "renamed")))
    assert why is not None and '"m"' in why


async def test_a_name_that_was_taken_out_stays_out(port: int) -> None:
    assert await judged(file(EXPECT, s=(port, "m")), file("")) is None


async def test_what_hid_a_registration_and_does_no_more_gives_it_back(port: int) -> None:
    """The new file has no e@h: the registry's own is there, and serves the same model."""
    registered = {"e@h": service("e@h", "m")}
    old = file(
        EXPECT + f'\n[[static_services]]\nname = "e@h"\nhost = "127.0.0.1"\nport = {port}\n'
        'metadata = { models = ["m"] }\n'
    )
    assert await judged(old, file(EXPECT), registered) is None


async def test_nothing_left_where_the_old_file_had_something_is_lost(port: int) -> None:
    why = await judged(file("", s=(port, "m")), file("", s=(free_port(), "n")), {})
    assert why is not None and "nothing can be served" in why


async def test_an_empty_fleet_undoes_nothing() -> None:
    assert await judged(file(EXPECT), file(EXPECT + '\nstrategy = "round_robin"'), {}) is None


async def test_names_are_what_clients_ask_for_whoever_serves_them(port: int) -> None:
    code = '[models.code]\ntargets = { "qwen" = 1 }\nfallbacks = ["spare"]\n'
    spare = 'expect = ["spare"]\n'
    old = file(spare + code, s=(port, "qwen"))
    # Its target is gone, but its chain serves: nothing is lost.
    new = 'expect = ["spare", "qwen"]\n' + code
    assert await judged(old, file(new, t=(port, "spare"))) is None
    why = await judged(old, file(new, t=(port, "other")))
    assert why is not None and '"code"' in why


async def test_a_provider_at_a_wrong_address_is_lost(port: int) -> None:
    def provider(where: int, status: str = "active") -> Loaded:
        return file(
            f'expect = ["m"]\n[providers.p]\ntype = "vllm"\nstatus = "{status}"\n'
            f'base_url = "http://127.0.0.1:{where}"\nmodels = ["m"]\n'
        )

    assert await judged(provider(port), provider(free_port())) is not None
    assert await judged(provider(port), provider(port, "disabled")) is not None
    assert await judged(provider(free_port()), provider(port)) is None


async def test_needs_that_nobody_meets_serve_nothing() -> None:
    """Engines that declare no privacy are internal."""
    why = await judged(file(""), file('[needs]\nprivacy = "restricted"\n'))
    assert why is not None and "nothing can be served" in why
    # What was measured is the fleet's doing.
    assert await judged(file(""), file("[needs]\nmax_latency_ms = 0.001\n")) is None


async def test_another_registry_that_knows_another_fleet_is_lost() -> None:
    """Under the old file its own registry would be asked: it still has what it had."""
    theirs = Services(services=list(FLEET.values()), total=1, timestamp="")

    async def services(_: web.Request) -> web.Response:
        return web.Response(body=json.encode(theirs))

    app = web.Application()
    app.router.add_get("/services", services)
    async with TestServer(app) as server:
        old = file(f'registries = ["{server.make_url("/")}"]')
        new = file(f'registries = ["http://127.0.0.1:{free_port()}"]')
        why = await judged(old, new, {})
        assert why is not None and '"engine-model"' in why
        assert await judged(old, new, FLEET) is None, "the new one has it too"
    # The old one is gone as well: nothing speaks for going back.
    assert await judged(old, new, {}) is None
