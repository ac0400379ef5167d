"""Keys in a real Redis: shared, one holder of a name, known through an outage and after a loss."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common import redis_link, redis_url
from common.redis_url import Access
from router.keys.keeper import Keeper
from router.keys.orders import Order
from router.keys.record import Key
from router.keys.redis_hash import RedisKeys
from router.keys.ring import KeyRing
from router.keys.store import StoreError, TakenError
from tests.support.processes import Processes
from tests.support.redis import RedisServer
from tests.support.until import until

pytestmark = pytest.mark.real

#: A Redis that is gone refuses at once; one that is merely slow fails no test.
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> object:
    found = Processes(tmp_path_factory.mktemp("keys"))
    yield found
    found.close()


@pytest.fixture
async def server(processes: Processes, tmp_path: Path) -> AsyncIterator[RedisServer]:
    found = RedisServer(processes, tmp_path).start()
    yield found
    found.kill9()


def store(server: RedisServer, known: Path) -> RedisKeys:
    redis, sentinel = redis_link.client(
        redis_url.parse(server.url), Access(timeout_s=TIMEOUT_S), connections_max=4
    )
    return RedisKeys(redis, sentinel, "t:", known / "known.json")


async def answers(keys: RedisKeys) -> bool:
    """A connection to a Redis that is gone is noticed when it is used."""
    try:
        await keys.mark()
    except StoreError:
        return False
    return True


def made(name: str, number: int) -> Key:
    return Key(id=f"{number:012x}", name=name, digest="d", created=1.0)


async def test_two_routers_share_them_and_a_name_holds_once(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    one, other = store(server, tmp_path), store(server, tmp_path / "b")
    await one.open()
    before = await other.mark()
    await one.add(made("ana", 1))
    assert await other.mark() != before
    assert await other.load() == [made("ana", 1)]
    with pytest.raises(TakenError):
        await other.add(made("ana", 2))
    gone = await other.revoke("ana", 9.0)
    assert gone is not None
    assert gone.revoked == 9.0
    assert await one.revoke("ana", 9.0) is None
    await one.add(made("ana", 3))
    assert [(key.id, key.revoked) for key in await one.load()] == [
        (made("", 1).id, 9.0),
        (made("", 3).id, None),
    ]
    await one.close()
    await other.close()


async def test_a_router_that_starts_while_redis_is_away_lets_in_whom_it_knew(
    server: RedisServer, tmp_path: Path
) -> None:
    rings: list[KeyRing] = []
    first = Keeper(store(server, tmp_path), rings.append)
    await first.open()
    key, text = await first.create(Order(name="ana"))
    await first.close()
    server.kill9()
    (tmp_path / "fresh").mkdir()
    with pytest.raises(StoreError, match="cannot be reached"):
        await Keeper(store(server, tmp_path / "fresh"), rings.append).open()
    again = Keeper(store(server, tmp_path), rings.append)
    await again.open()
    assert getattr(rings[-1].find(text, 0.0), "id", None) == key.id
    with pytest.raises(StoreError):
        await again.create(Order(name="bob"))
    await again.close()
    server.start()


async def test_a_revocation_is_final_whatever_a_redis_says_that_lost_its_last_writes(
    server: RedisServer, tmp_path: Path
) -> None:
    keys = store(server, tmp_path)
    await keys.open()
    await keys.add(made("ana", 1))
    await keys.revoke("ana", 5.0)
    assert [key.revoked for key in await keys.load()] == [5.0]
    (tmp_path / "b").mkdir()
    stale = store(server, tmp_path / "b")  # knows nothing of it, as a replica that took over
    await stale._redis.delete("t:keys", "t:keys:names")
    await stale.add(made("ana", 1))
    assert [key.revoked for key in await stale.load()] == [None]
    assert [key.revoked for key in await keys.load()] == [5.0]
    assert [key.revoked for key in await stale.load()] == [5.0]
    await keys.close()
    await stale.close()


async def test_a_key_of_a_shape_that_is_not_known_holds_for_nobody_and_stops_no_other(
    server: RedisServer, tmp_path: Path
) -> None:
    keys = store(server, tmp_path)
    await keys.open()
    await keys.add(made("ana", 1))
    newer = b'{"id":"9","name":"new","digest":"d","created":1,"limits":{"rph":5}}'
    await keys._redis.hset("t:keys", "9", newer)
    assert [key.name for key in await keys.load()] == ["ana"]
    await keys.close()


async def test_a_redis_that_lost_them_is_given_those_known_by_the_first_who_looks(
    server: RedisServer, tmp_path: Path
) -> None:
    rings: list[KeyRing] = []
    keys = store(server, tmp_path)
    keeper = Keeper(keys, rings.append)
    await keeper.open()
    _, text = await keeper.create(Order(name="ana"))
    _, gone = await keeper.create(Order(name="bob"))
    await keeper.revoke("bob")
    server.kill9()
    server.start()  # keeps nothing
    await until(lambda: answers(keys), what="a connection to the new one")
    ring = KeyRing(await keys.load())
    assert getattr(ring.find(text, 0.0), "name", None) == "ana"
    assert getattr(ring.find(gone, 0.0), "status", None) == 401
    with pytest.raises(TakenError):
        await keys.add(made("ana", 7))
    await keeper.close()
