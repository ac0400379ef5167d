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
        config = {**provided(engine), **shared, "redis_timeout_ms": 100}
        self.one = fleet.router(name="router-1", **config)
        self.two = fleet.router(name="router-2", **config)

    def away(self, router: Part) -> bool:
        found: bool = router.get("/stats")["cache"]["shared_away"]
        return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("shared")
    with Fleet(folder) as fleet:
        engine = asyncio.run(start_mock(fleet.processes, name="up", models=["m"]))
        redis = RedisServer(fleet.processes, folder, password=PASSWORD).start()
        yield Pair(fleet, engine, redis)
        for process in fleet.processes.all:
            assert PASSWORD not in process.log, f"{process.name} wrote a secret down"


def other_has_it(pair: Pair, text: str, **more: Any) -> Answer:
    """The answer at the other router, once it is there: it is written beside the request."""
    found: list[Answer] = []

    def look() -> bool:
        found.append(answer_of(pair.two.url + CHAT, cold(text, **more), {"x-pair": text}))
        return said(found[-1]) == "hit"

    until_sync(look, 10, "the other router has it")
    return found[-1]


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_what_one_router_was_answered_the_other_has(pair: Pair, more: dict[str, Any]) -> None:
    text = f"shared {more}"
    first = answer_of(pair.one.url + CHAT, cold(text, **more), {"x-pair": text})
    assert said(first) == "miss"
    before = pair.two.get("/stats")["cache"]["shared_hits"]
    second = other_has_it(pair, text, **more)
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-creche-service"] == "up"
    stats = pair.two.get("/stats")["cache"]
    assert stats["shared_hits"] in (before, before + 1)  # it may have asked the engine itself first


def test_what_is_there_is_named_by_a_hash_and_has_an_end(pair: Pair) -> None:
    """Who may list the names learns no prompt, and nothing stays for ever."""
    text = "the colour of the safe"
    answer_of(pair.one.url + CHAT, cold(text), {"x-pair": text})
    other_has_it(pair, text)
    with Redis(port=pair.redis.port, password=PASSWORD, socket_timeout=5) as client:
        names = [name.decode() for name in client.scan_iter("creche:cache:*")]
        assert names
        for name in names:
            assert re.fullmatch(r"creche:cache:[0-9a-f]{64}", name)
            assert 0 < client.pttl(name) <= 3_600_000


async def test_a_redis_that_dies_and_comes_back_costs_no_request(pair: Pair) -> None:
    """Under load over both routers: killed, started anew, frozen, thawed."""
    done = 0

    async def accident(number: int) -> None:
        nonlocal done
        if number == 60:
            pair.redis.kill9()
        elif number == 120:
            await asyncio.to_thread(pair.redis.start)
        elif number == 180:
            pair.redis.freeze()
        elif number == 240:
            pair.redis.thaw()
        done = number

    began = time.monotonic()
    one, two = await asyncio.gather(
        many(pair.one.url, 300, model="m", at_once=8, during=accident, temperature=0),
        many(pair.two.url, 300, model="m", at_once=8, temperature=0),
    )
    assert statuses(one) == statuses(two) == {200: 300}
    assert done == 300
    assert time.monotonic() - began < 30, "nobody waited for a Redis that was not there"


def test_one_that_was_away_is_used_again(pair: Pair) -> None:
    count = 0

    def back() -> bool:
        nonlocal count
        for router in (pair.one, pair.two):
            answer_of(router.url + CHAT, cold(f"are you back {count}"))
            count += 1
        return not (pair.away(pair.one) or pair.away(pair.two))

    until_sync(back, 30, "both ask it again")
    answer_of(pair.one.url + CHAT, cold("after"), {"x-pair": "after"})
    assert said(other_has_it(pair, "after")) == "hit"


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
    assert time.monotonic() - began >= 0.3
