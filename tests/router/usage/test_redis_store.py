"""Usage in a real Redis: the sums of all routers, each batch once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from common import clock, redis_url
from common.redis_url import Access
from router.config import Usage
from router.usage import redis_store, store
from router.usage.book import DIVISIONS, Book
from router.usage.redis_store import RedisStore
from router.usage.rows import DAY_S, Row, Rows
from router.usage.store import BookError, KeptError, Question, TooMuchError
from tests.router.usage.test_book import counts
from tests.support.processes import Processes
from tests.support.redis import RedisServer

pytestmark = pytest.mark.real

#: A Redis that is gone refuses at once; one that is merely slow fails no test.
PATIENT = Access(timeout_s=30)
#: Yesterday's midnight: of what is older Redis may forget some.
DAY = int(clock.wall()) // DAY_S * DAY_S - DAY_S


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    processes = Processes(tmp_path)
    try:
        yield RedisServer(processes, tmp_path, keeps="always").start()
    finally:
        processes.close()


class Stores(list[RedisStore]):
    def one(self, redis: RedisServer, config: Usage | None = None) -> RedisStore:
        where = redis_url.parse(redis.url)
        found = RedisStore(where, PATIENT, "test:", lambda: config or Usage())
        self.append(found)
        return found


@pytest_asyncio.fixture
async def stores() -> Any:
    made = Stores()
    yield made
    for one in made:
        await one.close()


def row(hour: int = 0, key: str = "ana", model: str = "m") -> Row:
    return Row(DAY + hour * 3_600, key[:1], key, "lab", model, model, f"{model}@h")


async def sums(found: RedisStore, *by: str, **more: Any) -> dict[tuple[str, ...], int]:
    return {one.names: one.values[0] for one in await found.read(Question(by=by, **more))}


async def test_two_routers_have_the_sums_that_one_file_would_have(
    redis: RedisServer, stores: Stores, tmp_path: Path
) -> None:
    few_days = Usage(keep_days=30)  # each is asked for, in every reading
    one, two = stores.one(redis, few_days), stores.one(redis, few_days)
    book = Book(tmp_path / "usage.db")
    for number in range(40):
        batch: Rows = {
            row(hour, key, model): counts(number + 1, tokens_in=hour, cost_nanos=10**15 * number)
            for hour in (number % 24, 30)
            for key in ("ana", "bob")
            for model in ("m", "n")
        }
        await (one if number % 3 else two).add(batch)
        book.add(batch)
    for by in [(), *((name,) for name in DIVISIONS), ("key", "day"), ("model", "hour", "key")]:
        for more in ({}, {"key": "a"}, {"model": "n", "start": DAY + 7_300}, {"end": DAY + 7_300}):
            question = Question(by=by, **more)
            assert await one.read(question) == await two.read(question) == book.read(question)
    book.close()


async def test_a_lost_reply_doubles_nothing(
    redis: RedisServer, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = stores.one(redis)
    ask = found._ask

    async def lose(command: Any) -> None:
        await ask(command)
        raise BookError("the reply is lost")

    with monkeypatch.context() as patch:
        patch.setattr(found, "_ask", lose)
        for _ in range(3):
            with pytest.raises(KeptError, match="the reply is lost"):
                await found.add({row(): counts()})
    await found.add({})
    assert await sums(found) == {(): 3}


async def test_while_redis_is_away_all_is_kept(redis: RedisServer, stores: Stores) -> None:
    found = stores.one(redis)
    await found.add({row(): counts()})
    redis.kill9()
    for _ in range(3):
        with pytest.raises(KeptError):
            await found.add({row(): counts()})
    with pytest.raises(BookError):
        await sums(found)
    redis.start()
    await found.add({row(): counts()})
    assert await sums(found) == {(): 5}


async def test_what_waits_for_redis_has_a_bound(
    redis: RedisServer, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "BATCHES_MAX", 2)
    monkeypatch.setattr(redis_store, "ROWS_PER_BATCH", 1)
    found = stores.one(redis)
    redis.kill9()
    with pytest.raises(KeptError):
        await found.add({row(1): counts(), row(2): counts()})
    with pytest.raises(BookError) as refused:
        await found.add({row(3): counts()})
    assert not isinstance(refused.value, KeptError), "who asked keeps it"


async def test_old_days_are_known_by_the_day_and_then_forgotten(
    redis: RedisServer, stores: Stores
) -> None:
    found = stores.one(redis, Usage(hourly_days=3, keep_days=5))
    await found.add({row(2): counts(), row(7): counts()})
    assert len(await sums(found, "hour")) == 2
    client = found._redis
    kept_until = {"h": DAY + 4 * DAY_S, "d": DAY + 6 * DAY_S}
    for kind, until in kept_until.items():
        assert await client.expiretime(f"test:usage:{kind}:{DAY}") == until
    await client.delete(f"test:usage:h:{DAY}")
    assert await sums(found, "hour") == {(clock.wire_time(DAY)[:10],): 2}


async def test_an_answer_has_a_bound(
    redis: RedisServer, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ANSWER_ROWS_MAX", 1)
    found = stores.one(redis)
    await found.add({row(key="ana"): counts(), row(key="bob"): counts()})
    with pytest.raises(TooMuchError):
        await sums(found, "key")
    assert await sums(found) == {(): 2}


async def test_fields_of_a_version_to_come_are_passed_over(
    redis: RedisServer, stores: Stores
) -> None:
    found = stores.one(redis)
    await found.add({row(): counts()})
    for field in ("x", '[1,"a"]', '[1,"a","b","c","d","e","f","images"]'):
        await found._redis.hset(f"test:usage:h:{DAY}", field, "7")
    assert await sums(found) == {(): 1}
