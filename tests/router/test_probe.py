import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from common.tasks import cancel, spawn
from router.brain import Brain
from router.config import Config, Health
from router.nodes import NodeHealth
from router.probe import Prober
from tests.router.making import brain, service
from tests.support.until import until

FAST = Health(connect_probe_s=0.02, probe_s=0.02, probe_timeout_s=1, probe_slow_s=0.1)


class Engine:
    def __init__(self) -> None:
        self.status = 200
        self.delay_s = 0.0
        self.asked: list[web.Request] = []
        app = web.Application()
        app.router.add_get("/health", self._health)
        self.server = TestServer(app)

    async def _health(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    one = Engine()
    await one.server.start_server()
    yield one
    await one.server.close()


@pytest.fixture
async def found(engine: Engine) -> AsyncIterator[Brain]:
    one = brain(service("a@h", "m", port=engine.server.port), config=Config(health=FAST))
    async with ClientSession() as session:
        task = spawn(Prober(one, session).run(), "test.probes")
        yield one
        await cancel(task)


def node_of(found: Brain):  # type: ignore[no-untyped-def]
    return found.table.upstreams["a@h"].node


async def test_set_aside_is_asked_by_a_connect_alone(found: Brain, engine: Engine) -> None:
    found.node_failed(node_of(found), connect=True)
    await until(lambda: not found.out)
    assert not engine.asked
    assert node_of(found).health is NodeHealth.DEGRADED


async def test_one_that_still_refuses_stays_aside(found: Brain, engine: Engine) -> None:
    await engine.server.close()
    found.node_failed(node_of(found), connect=True)
    with pytest.raises(AssertionError):
        await until(lambda: not found.out, timeout_s=0.3)


async def test_unhealthy_is_asked_for_its_health(found: Brain, engine: Engine) -> None:
    for _ in range(3):
        found.node_failed(node_of(found))
    engine.status = 500
    await until(lambda: len(engine.asked) > 1)
    assert found.out
    engine.status = 404
    await until(lambda: not found.out)
    assert "Authorization" not in engine.asked[0].headers


async def test_the_well_are_not_asked(found: Brain, engine: Engine) -> None:
    found.node_succeeded(node_of(found))
    with pytest.raises(AssertionError):
        await until(lambda: engine.asked, timeout_s=0.2)


async def test_a_service_that_left_is_not_asked(found: Brain, engine: Engine) -> None:
    for _ in range(3):
        found.node_failed(node_of(found))
    found.apply({"a@h": None})
    assert not found.out
