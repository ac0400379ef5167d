"""Entries in a real Redis: written and read as they were, by each process's own clock; and what
becomes of requests while it is away, slow, or not to be believed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from common import clock, redis_url
from common.redis_url import Access
from router.cache.entry import Entry
from router.shared_cache import SharedCache, read
from tests.support.ports import free_port
from tests.support.processes import Processes
from tests.support.redis import RedisServer
from tests.support.until import until

KEY, OTHER = b"k" * 32, b"o" * 32
#: Longer than a machine stands still.
PATIENT_S = 30.0


@pytest.fixture(autouse=True)
def standing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks stand unless they are told, so that a test that stands still is no later."""
    monkeypatch.setattr(clock, "monotonic", lambda: 1_000.0)
    monkeypatch.setattr(clock, "wall", lambda: 1_800_000_000.0)


def entry(body: bytes = b'{"a":1}', ttl_s: float = 60.0) -> Entry:
    now = clock.monotonic()
    return Entry(b"application/json", False, body, "gpu@h", "m", now - 2.0, now + ttl_s)


@asynccontextmanager
async def store(url: str) -> AsyncIterator[SharedCache]:
    found = SharedCache(redis_url.parse(url), Access(timeout_s=PATIENT_S), "test:")
    try:
        yield found
    finally:
        await found.close()


async def look(found: SharedCache, key: bytes = KEY) -> Entry | None:
    told: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
    assert found.get(key, told.set_result)
    return await asyncio.wait_for(told, PATIENT_S / 2)


async def has(found: SharedCache, key: bytes = KEY) -> Entry:
    """What is written beside a request is there a little later."""
    kept: list[Entry] = []

    async def there() -> bool:
        one = await look(found, key)
        kept.extend([one] if one is not None else [])
        return one is not None

    await until(there)
    return kept[-1]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("cache")
    processes = Processes(folder)
    try:
        yield RedisServer(processes, folder).start()
    finally:
        processes.close()


@pytest.mark.real
async def test_what_is_put_is_found_by_all(redis: RedisServer) -> None:
    async with store(redis.url) as one, store(redis.url) as other:
        assert await look(one) is None
        made = entry()
        one.put(KEY, made)
        found = await has(other)
        assert (found.type, found.events, found.body) == (made.type, made.events, made.body)
        assert (found.service, found.model) == ("gpu@h", "m")
        assert (found.made, found.until) == (made.made, made.until)
        assert await look(other, OTHER) is None
        assert redis.ask(f"PTTL test:cache:{KEY.hex()}").startswith(":")


@pytest.mark.real
async def test_a_redis_that_freezes_is_waited_for_once(redis: RedisServer) -> None:
    async with store(redis.url) as found:
        await look(found)
        assert not found.away
        found.timeout_s = 0.1
        redis.freeze()
        try:
            assert await look(found) is None, "long before its connection gives up"
            assert found.away
            assert not found.get(KEY, _never)
            found.put(KEY, entry())
            assert found.failures == 1
        finally:
            redis.thaw()


async def test_one_that_is_not_there_costs_nothing_but_the_first_look() -> None:
    async with store(f"redis://127.0.0.1:{free_port()}/0") as found:
        assert await look(found) is None
        assert (found.away, found.failures) == (True, 1)
        assert not found.get(KEY, _never)


async def test_one_look_tries_it_again_and_all_go_on(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store(redis.url) as found:
        found._failed(OSError("gone"))
        now = clock.monotonic()
        monkeypatch.setattr(clock, "monotonic", lambda: now + 5.1)
        assert await look(found, OTHER) is None
        assert not found.away
        assert await look(found, OTHER) is None


async def test_no_more_look_at_once_than_may(redis: RedisServer) -> None:
    async with store(redis.url) as found:
        told: list[Entry | None] = []
        looks = [found.get(KEY, told.append) for _ in range(30)]
        assert looks == [True] * 24 + [False] * 6
        await until(lambda: len(told) == 24)


def stored(
    key: bytes = KEY,
    until: float = 200.0,
    kind: bytes = b"application/json",
    service: str = "gpu@h",
) -> bytes:
    return msgspec.msgpack.encode([key, 100.0, until, kind, False, service, None, b"{}"])


def test_an_entry_is_read_by_this_processs_clock() -> None:
    found = read(KEY, stored(), 130.0, 7.0)
    assert found == Entry(b"application/json", False, b"{}", "gpu@h", None, -23.0, 77.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not msgpack",
        stored(OTHER),  # another's, in its place
        stored(until=130.0),  # over
        stored(kind=b"text/html\r\nset-cookie: a=b"),
        stored(service="gpu@h\r\nset-cookie: a=b"),
        msgspec.msgpack.encode([KEY, 100.0]),
    ],
)
def test_what_is_no_entry_of_this_key_is_none(data: bytes) -> None:
    assert read(KEY, data, 130.0, 7.0) is None


def test_one_made_by_a_clock_ahead_is_not_older_than_now() -> None:
    found = read(KEY, stored(), 90.0, 7.0)
    assert found is not None
    assert (found.made, found.until) == (7.0, 117.0)


def _never(_: Entry | None) -> None:
    raise AssertionError("told of what was not looked up")
