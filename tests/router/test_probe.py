import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from common import logs
from common.tasks import cancel, spawn
from router.brain import Brain
from router.config import Config, Health
from router.nodes import Node, NodeHealth
from router.probe import Prober
from tests.router.making import brain, service
from tests.router.providing import KEY, node_for
from tests.support.fake_provider import Authority, fake_provider
from tests.support.until import until

FAST = Health(connect_probe_s=0.02, probe_s=0.02, probe_timeout_s=30, probe_slow_s=0.1)


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


def fail(found: Brain, *, connect: bool = False) -> None:
    node = node_of(found)
    found.fitness.failed(node, node.breaker.life, 0.0, connect=connect)


async def test_set_aside_is_asked_by_a_connect_alone(found: Brain, engine: Engine) -> None:
    fail(found, connect=True)
    await until(lambda: not found.fitness.out)
    assert not engine.asked
    assert node_of(found).health is NodeHealth.DEGRADED


async def test_one_that_still_refuses_stays_aside(found: Brain, engine: Engine) -> None:
    await engine.server.close()
    fail(found, connect=True)
    with pytest.raises(AssertionError):
        await until(lambda: not found.fitness.out, timeout_s=0.3)


async def test_unhealthy_is_asked_for_its_health(found: Brain, engine: Engine) -> None:
    for _ in range(3):
        fail(found)
    engine.status = 500
    await until(lambda: len(engine.asked) > 1)
    assert found.fitness.out
    engine.status = 404
    await until(lambda: not found.fitness.out)
    assert "Authorization" not in engine.asked[0].headers


async def test_the_well_are_not_asked(found: Brain, engine: Engine) -> None:
    found.fitness.succeeded(node_of(found), 0)
    with pytest.raises(AssertionError):
        await until(lambda: engine.asked, timeout_s=0.2)


async def test_a_service_that_left_is_not_asked(found: Brain, engine: Engine) -> None:
    for _ in range(3):
        fail(found)
    found.apply({"a@h": None})
    assert not found.fitness.out


@contextlib.asynccontextmanager
async def probed(one: Node) -> AsyncIterator[tuple[Brain, Prober]]:
    """A Prober that finds this Node out of choice."""
    found = brain(config=Config(health=FAST))
    found.fitness.out.add(one)
    async with ClientSession() as session:
        prober = Prober(found, session)
        task = spawn(prober.run(), "test.probes")
        yield found, prober
        await cancel(task)


def failing(one: Node) -> Node:
    for _ in range(3):
        one.failed()
    return one


@pytest.mark.parametrize("type", ["openai", "anthropic"])
async def test_an_unhealthy_provider_is_asked_for_its_models_with_its_key(
    type: str, tmp_path: Path
) -> None:
    with fake_provider(type, key=KEY, authority=Authority(tmp_path)) as cloud:
        one = failing(node_for(cloud))
        async with probed(one) as (found, _):
            await until(lambda: not found.fitness.out)
        assert one.health is NodeHealth.DEGRADED
        assert [seen.target for seen in cloud.seen] == ["/v1/models"]
        header = "x-api-key" if type == "anthropic" else "authorization"
        assert cloud.seen[0].headers[header].endswith(KEY)


async def test_an_unhealthy_ollama_is_asked_for_its_tags() -> None:
    with fake_provider("ollama") as ollama:
        async with probed(failing(node_for(ollama, key=None))) as (found, _):
            await until(lambda: not found.fitness.out)
        assert [seen.target for seen in ollama.seen] == ["/api/tags"]
        assert "authorization" not in ollama.seen[0].headers


async def test_a_probe_follows_no_redirect_with_the_key(tmp_path: Path) -> None:
    with fake_provider() as thief, fake_provider(key=KEY, authority=Authority(tmp_path)) as cloud:
        cloud.fail(status=307, headers={"location": thief.url + "/v1/models"})
        async with probed(failing(node_for(cloud))) as (found, _):
            await until(lambda: not found.fitness.out)
        assert not thief.seen


async def test_one_with_a_wrong_certificate_stays_aside_and_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("router", form="json")
    other = Authority(tmp_path, "other")
    with fake_provider(authority=Authority(tmp_path)) as cloud:
        one = node_for(cloud, key=None, ca_file=str(other.ca_file))
        one.connect_failed()
        async with probed(one) as (found, prober):
            for _ in range(3):
                last = prober._asked.get(one)
                await until(lambda last=last: prober._asked.get(one) != last)  # type: ignore[misc]
            await until(lambda: prober._told)
            assert found.fitness.out == {one}
    said = "".join(capsys.readouterr())
    assert said.count("its certificate is not trusted") == 1
    assert "cloud" in said
