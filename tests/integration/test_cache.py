"""Answers that are given again, on real processes: by two routers over one Redis that dies and
freezes meanwhile, and to clients with keys of several tenants, some of whom mean ill.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat
from tests.support.load import many, statuses
from tests.support.mock import ProcessMock, start_mock
from tests.support.redis import RedisServer
from tests.support.until import until_sync

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
SLOW = {"x-mock-delay-ms": "300"}
TOKEN = "cluster-token-of-the-cache-tests"
PASSWORD = "redis-password-of-the-cache-tests"


def cold(text: str = "hi", **more: Any) -> dict[str, Any]:
    return chat("m", text, temperature=0, **more)


def said(answer: Answer) -> str | None:
    assert answer.status == 200, answer.body
    return answer.headers.get("x-creche-cache")


def provided(engine: ProcessMock) -> dict[str, Any]:
    return {
        "registries": [],
        "providers": {"up": {"type": "vllm", "base_url": engine.url, "models": ["m"]}},
        "models": {"m": {"cache": True}},
    }


def asked(engine: ProcessMock) -> int:
    """How many requests the engine has had."""
    found: int = ask(f"{engine.url}/mock/stats")[1]["requests"]
    return found


# --- two routers, one Redis -----------------------------------------------------------------------


class Pair:
    def __init__(self, fleet: Fleet, engine: ProcessMock, redis: RedisServer) -> None:
        self.engine = engine
        self.redis = redis
        password = fleet.folder / "redis.password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        shared = {"redis": redis.url, "redis_password_file": str(password)}
        # Longer than a machine stands still: what is away here is so because a test has it so.
        config = {**provided(engine), **shared, "redis_timeout_ms": 3_000}
        self.one = fleet.router(name="router-1", **config)
        self.two = fleet.router(name="router-2", **config)

    def cache(self, router: Part) -> dict[str, Any]:
        """What a router tells of its cache."""
        found: dict[str, Any] = router.get("/stats")["cache"]
        return found

    def kept(self) -> dict[str, bytes]:
        """All answers that are in Redis, by their names there."""
        with Redis(port=self.redis.port, password=PASSWORD, socket_timeout=20) as client:
            names = list(client.scan_iter("creche:cache:*"))
            values = client.mget(names) if names else []
        found = zip(names, values, strict=True)
        return {name.decode(): value for name, value in found if value is not None}

    def has(self, answer: Answer) -> bool:
        """Whether this very answer of the engine is there."""
        [id] = set(re.findall(r"chatcmpl-up-\d+", str(answer.body)))
        return any(f'"{id}"'.encode() in value for value in self.kept().values())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("shared")
    with Fleet(folder) as fleet:
        engine = asyncio.run(start_mock(fleet.processes, name="up", models=["m"]))
        redis = RedisServer(fleet.processes, folder, password=PASSWORD).start()
        yield Pair(fleet, engine, redis)
        for process in fleet.processes.all:
            assert PASSWORD not in process.log, f"{process.name} wrote a secret down"


def answered_by_both(pair: Pair, text: str, **more: Any) -> tuple[Answer, Answer]:
    """What the engine says through the first router, and then the second gives again: as soon as
    it is in Redis, which it is told beside the request."""
    body, headers = cold(text, **more), {"x-pair": text}
    first = answer_of(pair.one.url + CHAT, body, headers)
    assert said(first) == "miss"
    until_sync(lambda: pair.has(first), what="it is in Redis")
    hits = pair.cache(pair.two)["shared_hits"]
    second = answer_of(pair.two.url + CHAT, body, headers)
    assert said(second) == "hit"
    assert pair.cache(pair.two)["shared_hits"] == hits + 1
    return first, second


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_what_one_router_was_answered_the_other_has(pair: Pair, more: dict[str, Any]) -> None:
    first, second = answered_by_both(pair, f"shared {more}", **more)
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-creche-service"] == "up"


def test_what_is_there_is_named_by_a_hash_and_has_an_end(pair: Pair) -> None:
    """Who may list the names learns no prompt, and nothing stays for ever."""
    answered_by_both(pair, "the colour of the safe")
    with Redis(port=pair.redis.port, password=PASSWORD, socket_timeout=20) as client:
        for name in pair.kept():
            assert re.fullmatch(r"creche:cache:[0-9a-f]{64}", name)
            assert 0 < client.pttl(name) <= 3_600_000


async def test_a_redis_that_dies_and_comes_back_costs_no_request(pair: Pair) -> None:
    """Under load over both routers: killed, started anew, frozen, thawed."""
    again = asyncio.Event()

    async def accident(number: int) -> None:
        if number == 60:
            pair.redis.kill9()
        elif number == 120:
            await asyncio.to_thread(pair.redis.start)
            again.set()
        elif number >= 180:
            await again.wait()
        if number == 180:
            pair.redis.freeze()
        elif number == 240:
            pair.redis.thaw()

    one, two = await asyncio.gather(
        many(pair.one.url, 300, model="m", at_once=8, during=accident, temperature=0),
        many(pair.two.url, 300, model="m", at_once=8, temperature=0),
    )
    assert statuses(one) == statuses(two) == {200: 300}
    failures = [pair.cache(router)["shared_failures"] for router in (pair.one, pair.two)]
    assert failures[0] > 0
    assert max(failures) < 100, "while it is away nobody asks it, but one now and then"


def test_one_that_was_away_is_used_again(pair: Pair) -> None:
    count = 0

    def back() -> bool:
        nonlocal count
        for router in (pair.one, pair.two):
            answer_of(router.url + CHAT, cold(f"are you back {count}"))
            count += 1
        return not any(pair.cache(router)["shared_away"] for router in (pair.one, pair.two))

    until_sync(back, what="both ask it again")
    answered_by_both(pair, "after")


# --- tenants --------------------------------------------------------------------------------------


class Guarded:
    def __init__(self, fleet: Fleet, engine: ProcessMock) -> None:
        self.engine = engine
        token = fleet.folder / "cluster.token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.router = fleet.router(
            token_file=str(token), client_keys="required", **provided(engine)
        )
        self.keys = {
            name: self._key(name, tenant)
            for name, tenant in (("ana", "one"), ("bob", "one"), ("eve", "two"), ("dan", None))
        }

    def _key(self, name: str, tenant: str | None) -> str:
        body = {"name": name, "tenant": tenant}
        operator = {"authorization": f"Bearer {TOKEN}"}
        status, made = ask(self.router.url + "/admin/keys", body, operator)
        assert status == 201, made
        text: str = made["text"]
        return text

    def post(self, who: str, body: object, **headers: str) -> Answer:
        key = {"authorization": f"Bearer {self.keys[who]}"}
        return answer_of(self.router.url + CHAT, body, {**key, **headers})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Fleet(tmp_path_factory.mktemp("tenants")) as fleet:
        yield Guarded(fleet, asyncio.run(start_mock(fleet.processes, name="up", models=["m"])))


def test_keys_of_one_tenant_share_answers(guarded: Guarded) -> None:
    assert said(guarded.post("ana", cold("of one"))) == "miss"
    assert said(guarded.post("bob", cold("of one"))) == "hit"


def test_no_other_key_has_them(guarded: Guarded) -> None:
    guarded.post("ana", cold("of one alone"))
    for who in ("eve", "dan"):
        before = asked(guarded.engine)
        assert said(guarded.post(who, cold("of one alone"))) == "miss"
        assert asked(guarded.engine) == before + 1


def test_a_poisoned_answer_reaches_nobody_else(guarded: Guarded) -> None:
    """Eve has the engine say something of hers for a request that others will make too: by her
    headers, by a body that two readers read differently, and by claims to be somebody else."""
    plain = cold("what is our bank account")
    twice = json.dumps(plain)[:-1] + ', "messages": [{"role": "user", "content": "pay eve"}]}'
    attempts: list[tuple[object, dict[str, str]]] = [
        (plain, {"x-mock-delay-ms": "1"}),
        (twice.encode(), {}),
        (plain, {"x-creche-tenant": "one"}),
        (plain, {"x-tenant": "one", "x-creche-caller": "ana"}),
        (plain, {"x-api-key": guarded.keys["ana"]}),
        ({**plain, "tenant": "one"}, {}),
        (plain, {"cache-control": "no-cache"}),
    ]
    for body, headers in attempts:
        guarded.post("eve", body, **headers)
    before = asked(guarded.engine)
    answer = guarded.post("ana", plain)
    assert said(answer) == "miss"
    assert asked(guarded.engine) == before + 1
    assert "pay eve" not in json.dumps(answer.body)
    again = guarded.post("bob", plain)
    assert (said(again), again.body) == ("hit", answer.body)


def test_nor_does_eve_learn_what_others_asked(guarded: Guarded) -> None:
    """Neither by an answer nor by how fast it comes."""
    secret = cold("the merger is on")
    guarded.post("ana", secret, **SLOW)
    began = time.monotonic()
    assert said(guarded.post("eve", secret, **SLOW)) == "miss"
    assert time.monotonic() - began >= 0.25
