"""Two routers on one Redis: limits are exact for all their clients together, and what happens
while Redis is away is what the configuration says, at once."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common import tasks
from tests.support.fleet import Fleet, Part, answer_of, chat
from tests.support.load import Reply, many, one, session, statuses
from tests.support.mock import start_mock
from tests.support.redis import RedisServer
from tests.support.until import until, until_sync

pytestmark = pytest.mark.real

CLIENTS = 50
TPM = 3_000
MODELS = ["few", "enough", "tokens", "places", "free"]
CHAT = "/v1/chat/completions"
#: What a router's log says of its Redis.
AWAY, BACK = "Redis is away", "limits are shared again"
#: What an answer of the mock engine costs, and a prompt of `load.many`.
TOKENS_MAX = 40
#: A request that waits for Redis waits for redis_timeout_ms, and for no other's turn.
HANGS_S = 20.0


class Pair(Fleet):
    """Two routers, an engine behind both, a Redis between them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.redis = RedisServer(self.processes, folder).start()
        self.engine = asyncio.run(start_mock(self.processes, name="engine", models=MODELS))

    def begin(self, models: dict[str, Any], **config: Any) -> "Pair":
        config = {
            "registries": [],
            "redis": self.redis.url,
            # A shared machine pauses for longer than a Redis should take.
            "redis_timeout_ms": 4_000,
            "static_services": [
                {
                    "name": "engine",
                    "host": "127.0.0.1",
                    "port": self.engine.port,
                    "metadata": {"models": MODELS},
                }
            ],
            "models": {name: {"limits": limits} for name, limits in models.items()},
            **config,
        }
        self.routers = [self.router(name=f"router-{n}", **config) for n in (1, 2)]
        return self

    async def flood(self, model: str, count: int, **more: Any) -> list[Reply]:
        """From all clients at once, half of them at each router."""
        found = await asyncio.gather(
            *(
                many(one.url, count // 2, model=model, at_once=CLIENTS // 2, **more)
                for one in self.routers
            )
        )
        return [reply for replies in found for reply in replies]

    def shared(self) -> bool:
        """Whether Redis was away from each router, and each has told it what it granted alone."""
        logs = [one.process.log for one in self.routers]
        return all(log.count(BACK) == log.count(AWAY) > 0 for log in logs)

    def asked(self) -> float:
        """How often Redis was asked, whatever it said."""
        lines = [line for one in self.routers for line in one.get("/metrics").splitlines()]
        counts = [line for line in lines if line.startswith("creche_limits_asked_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in counts)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("shared")) as pair:
        yield pair.begin(
            {
                "few": {"rpm": 100},
                "enough": {"rpm": 100},
                "tokens": {"tpm": TPM},
                "places": {"max_concurrency": 10},
            }
        )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair(tmp_path) as pair:
        yield pair


def _tokens(reply: Reply) -> int:
    used: int = json.loads(reply.text)["usage"]["total_tokens"]
    return used


def _asks(router: Part, model: str) -> int:
    return answer_of(router.url + CHAT, chat(model)).status


# --- exact ----------------------------------------------------------------------------------------


async def test_a_hundred_requests_a_minute_are_a_hundred_for_all_routers(house: Pair) -> None:
    began = time.monotonic()
    replies = await house.flood("few", 400)
    took_s = time.monotonic() - began
    seen = statuses(replies)
    assert set(seen) == {200, 429}
    assert 100 <= seen[200] <= 100 + took_s * 100 / 60
    every = [one.process.log for one in house.routers]
    assert not any(AWAY in log for log in every)


async def test_no_request_is_refused_too_early(house: Pair) -> None:
    assert statuses(await house.flood("enough", 100)) == {200: 100}


async def test_a_token_limit_is_one_for_all_routers(house: Pair) -> None:
    began = time.monotonic()
    replies = await house.flood("tokens", 400)
    took_s = time.monotonic() - began
    seen = statuses(replies)
    assert set(seen) == {200, 429}
    used = sum(_tokens(one) for one in replies if one.status == 200)
    assert used >= TPM - TOKENS_MAX, "none is refused while there is room"
    assert used <= TPM + took_s * TPM / 60 + CLIENTS * TOKENS_MAX, "but for those in flight"


async def test_places_are_for_all_routers_and_each_that_comes_free_is_taken(house: Pair) -> None:
    async with session() as http:
        first = _stay(house, http, 50)
        await until(lambda: sum(one.done() for one in first) == 40, what="40 are answered")
        await house.engine.saw(in_flight=10)
        answered = [one.result() for one in first if one.done()]
        assert statuses(answered) == {429: 40}
        await tasks.cancel(*first)
        free = _true(lambda: house.redis.ask("ZCARD creche:limit-runs:model:places") == ":0\r\n")
        await until(free, what="their places are free")
        again = _stay(house, http, 10)
        await house.engine.saw(in_flight=10)
        assert not any(one.done() for one in again)
        await tasks.cancel(*again)


def _stay(house: Pair, http: aiohttp.ClientSession, count: int) -> list[asyncio.Task[Reply]]:
    """Clients at both routers, each with its place until it leaves, or refused."""
    hangs = {"x-mock-hang": "before"}
    return [
        tasks.spawn(one(http, house.routers[n % 2].url, chat("places"), hangs), "a client")
        for n in range(count)
    ]


def test_places_that_a_router_held_when_it_died_come_back(house: Pair) -> None:
    dead = " ".join(f"9999999999999 dead:{n}" for n in range(10))
    house.redis.ask(f"ZADD creche:limit-runs:model:places {dead}")
    assert _asks(house.routers[0], "places") == 429
    lapsed = dead.replace("9999999999999", "1")
    house.redis.ask(f"ZADD creche:limit-runs:model:places {lapsed}")
    assert _asks(house.routers[0], "places") == 200


# --- keys and tenants -----------------------------------------------------------------------------

TOKEN = "cluster-token-of-the-shared-limits"


async def test_the_limits_of_a_key_and_of_its_tenant_are_for_all_routers(
    pair: Pair, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    pair.begin(
        {},
        client_keys="required",
        token_file=str(file),
        tenants={"lab": {"limits": {"rpm": 40}}},
    )
    ana = await asyncio.to_thread(_key, pair, "ana", limits={"rpm": 30})
    bob = await asyncio.to_thread(_key, pair, "bob")
    began = time.monotonic()
    of_ana = statuses(await pair.flood("free", 100, headers=_bearer(ana)))
    of_bob = statuses(await pair.flood("free", 100, headers=_bearer(bob)))
    took_s = time.monotonic() - began
    assert 30 <= of_ana[200] <= 30 + took_s * 30 / 60
    assert 40 <= of_ana[200] + of_bob[200] <= 40 + took_s * 40 / 60
    assert set(of_ana) == set(of_bob) == {200, 429}


def _key(pair: Pair, name: str, **more: Any) -> str:
    """A key of the tenant `lab` that both routers know."""
    one, other = pair.routers
    body = {"name": name, "tenant": "lab", **more}
    made = answer_of(f"{one.url}/admin/keys", body, _bearer(TOKEN))
    assert made.status == 201, made
    text: str = made.body["text"]
    models = f"{other.url}/v1/models"
    until_sync(lambda: answer_of(models, headers=_bearer(text)).status == 200, what="it is known")
    return text


def _bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


# --- Redis stops midway ---------------------------------------------------------------------------


async def _stopped_midway(pair: Pair, how: str) -> tuple[list[Reply], list[float]]:
    """Requests of all clients, Redis stopping among them: what they got, and how long each took."""
    took: list[float] = []
    stopped = asyncio.Event()

    async def client(router: Part, http: aiohttp.ClientSession) -> list[Reply]:
        replies = []
        for _ in range(8):
            began = time.monotonic()
            async with http.post(router.url + CHAT, json=chat("few")) as answer:
                replies.append(Reply(answer.status, await answer.text()))
            took.append(time.monotonic() - began)
            if len(took) > CLIENTS and not stopped.is_set():
                stopped.set()
                pair.redis.freeze() if how == "frozen" else pair.redis.kill9()
        return replies

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        clients = [client(pair.routers[n % 2], http) for n in range(CLIENTS)]
        found = await asyncio.gather(*clients)
    return [reply for replies in found for reply in replies], took


async def _comes_back(pair: Pair, how: str) -> None:
    """Until both routers count together again."""
    pair.redis.thaw() if how == "frozen" else pair.redis.start()
    await until(_true(pair.shared), what="limits are shared again")


def _true(look: Any) -> Any:
    async def found() -> bool:
        return bool(await asyncio.to_thread(look))

    return found


@pytest.mark.parametrize(
    ("policy", "how"),
    [("local", "frozen"), ("local", "killed"), ("open", "frozen"), ("refuse", "killed")],
)
async def test_the_policy_holds_while_redis_is_away_and_nobody_hangs(
    pair: Pair, how: str, policy: str
) -> None:
    pair.begin({"few": {"rpm": 150}}, limits_without_redis=policy)
    began = time.monotonic()
    replies, took = await _stopped_midway(pair, how)
    all_s = time.monotonic() - began
    seen = statuses(replies)
    assert max(took) < HANGS_S
    refused = {"local": 429, "open": 0, "refuse": 503}[policy]
    assert set(seen) <= {200, refused}
    if policy == "open":
        assert seen == {200: 8 * CLIENTS}
    elif policy == "local":
        # Each holds the whole limit alone: two routers, at most twice of it.
        assert 150 <= seen[200] <= 2 * 150 + all_s * 2 * 150 / 60
    else:
        assert seen[503] > 0
        assert "limits_unavailable" in next(one.text for one in replies if one.status == 503)
    before = await asyncio.to_thread(pair.asked)
    assert await asyncio.to_thread(_asks, pair.routers[0], "free") == 200
    assert await asyncio.to_thread(pair.asked) == before, "what has no limit asks nobody"
    await _comes_back(pair, how)
    if policy == "local":
        status = await asyncio.to_thread(_asks, pair.routers[1], "few")
        assert status == 429, "what was granted alone is counted"
