"""The store on real servers of other kinds: under sentinels, over TLS, and Valkey."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from common.errors import RefusalError
from registry import redis_store
from registry.store import StoreError
from tests.registry.acts import is_done, refusal
from tests.registry.peers import Peer, peer, same, store_at
from tests.support.fake_provider import Authority
from tests.support.processes import Processes
from tests.support.redis import RedisServer, Sentinels, valkey_program
from tests.support.until import until

pytestmark = pytest.mark.real


# a primary and its replica


class Guarded:
    """A primary with a replica, and three sentinels that two of them suffice to agree."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.primary = RedisServer(processes, folder, keeps="always").start()
        self.replica = RedisServer(
            processes, folder, keeps="always", replica_of=self.primary
        ).start()
        self.sentinels = Sentinels(processes, folder, self.primary)

    @asynccontextmanager
    async def peers(self) -> AsyncIterator[tuple[Peer, Peer]]:
        url = self.sentinels.url
        async with peer(url, timeout_s=4) as one, peer(url, timeout_s=4) as other:
            yield one, other

    async def replaced(self) -> None:
        """Until all sentinels say that the replica is the primary now: peers ask any of them."""
        await until(
            lambda: asyncio.to_thread(
                lambda: self.sentinels.primary_ports() == {self.replica.port}
            ),
            self.sentinels.REPLACED_S,
            "a fail-over",
        )

    def replicated(self) -> bool:
        """Whether the replica has all that the primary acknowledged."""
        with Redis(port=self.primary.port) as client:
            return client.wait(1, 20_000) == 1


async def missed(peers: Sequence[Peer]) -> None:
    """Each has noticed, at its own time: the one may have another primary before the other."""

    async def noticed(one: Peer) -> None:
        await until(lambda: one.keeper.away)

    await asyncio.gather(*map(noticed, peers))


async def back(peers: Sequence[Peer]) -> None:
    await until(lambda: all(one.keeper.away is None for one in peers), 30, "the store is back")


@pytest.fixture
def guarded(processes: Processes, tmp_path: Path) -> Guarded:
    return Guarded(processes, tmp_path)


async def test_a_dead_primary_is_replaced_and_nothing_acknowledged_is_lost(
    guarded: Guarded,
) -> None:
    """Registrations go on all the while, at both; what is refused meanwhile is asked again."""
    async with guarded.peers() as (one, other):
        acknowledged: set[str] = set()
        refused = 0
        over = asyncio.Event()

        async def keep_registering(who: Peer, number: int) -> None:
            nonlocal refused
            turn = 0
            while not over.is_set():
                name = f"s{number}-{turn}"
                try:
                    assert is_done(await who.post(name, port=1 + turn * 2 + number))
                    acknowledged.add(name)
                    turn += 1
                except StoreError:
                    refused += 1
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as both:
            both.create_task(keep_registering(one, 0))
            both.create_task(keep_registering(other, 1))
            await until(lambda: len(acknowledged) > 20)
            guarded.primary.kill9()
            await missed([one, other])
            await guarded.replaced()
            await back([one, other])
            before = len(acknowledged)
            await until(lambda: len(acknowledged) > before + 20, what="it goes on")
            over.set()
        assert refused
        await until(lambda: same([one, other]))
        assert acknowledged <= set(one.table.entries)


async def test_a_replicated_table_goes_on_in_the_same_epoch(guarded: Guarded) -> None:
    """No watcher is reset: the new primary has every batch."""
    async with guarded.peers() as (one, other):
        await one.post("a", instance_id="old")
        await one.post("a", instance_id="new")
        await one.drain("a")
        await until(lambda: same([one, other]))
        assert await asyncio.to_thread(guarded.replicated)
        before, epoch = one.view(), one.table.epoch
        guarded.primary.freeze()  # takes connections still, and answers nobody
        await missed([one, other])
        await guarded.replaced()
        await back([one, other])
        assert is_done(await other.post("b", port=2))
        await until(lambda: same([one, other]))
        assert {name: told for name, told in one.view().items() if name != "b"} == before
        assert (one.table.epoch, one.resets, other.resets) == (epoch, 0, 0)
        assert refusal(await one.beat("a", instance_id="old"))[1] == "stale_instance"
        guarded.primary.thaw()  # it still thinks itself the primary, until a sentinel tells it
        assert is_done(await one.post("c", port=3))
        await until(lambda: same([one, other]) and "c" in other.table.entries)
        assert one.table.epoch == epoch


async def test_what_was_not_replicated_is_given_again_in_a_new_epoch(guarded: Guarded) -> None:
    async with guarded.peers() as (one, other):
        await one.post("a")
        await until(lambda: same([one, other]))
        assert await asyncio.to_thread(guarded.replicated)
        epoch = one.table.epoch
        guarded.replica.freeze()
        guarded.primary.ask("CLIENT KILL TYPE replica")
        await one.post("b", port=2)
        await one.drain("b")
        await until(lambda: same([one, other]))
        guarded.primary.kill9()
        guarded.replica.thaw()
        await missed([one, other])
        await guarded.replaced()
        await back([one, other])
        await until(lambda: one.table.epoch != epoch and same([one, other]))
        assert set(one.table.entries) == {"a", "b"}
        assert one.table.drained


# TLS


async def test_over_tls_it_is_the_same_and_certificates_are_checked(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "OPEN_TRIES_S", 0.0)
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server = RedisServer(processes, tmp_path, authority=ours).start()
    assert server.url.startswith("rediss://")
    trusted = str(ours.ca_file)
    async with (
        peer(server.url, ca_file=trusted) as one,
        peer(server.url, ca_file=trusted) as other,
    ):
        assert is_done(await one.post("a"))
        await until(lambda: same([one, other]) and "a" in other.table.entries)
    for distrusting in (str(theirs.ca_file), None):
        store = store_at(server.url, ca_file=distrusting)
        with pytest.raises(RefusalError, match="certificate verify failed"):
            await store.open()
        await store.close()
    plain = store_at(server.url.replace("rediss", "redis"))
    with pytest.raises(RefusalError):
        await plain.open()
    await plain.close()


async def test_a_certificate_for_another_host_is_refused(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "OPEN_TRIES_S", 0.0)
    authority = Authority(tmp_path)
    server = RedisServer(processes, tmp_path, authority=authority, hosts=("redis.test",)).start()
    store = store_at(server.url, ca_file=str(authority.ca_file))
    with pytest.raises(RefusalError, match="certificate verify failed"):
        await store.open()
    await store.close()


# Valkey


async def test_valkey_serves_as_redis_does(processes: Processes, tmp_path: Path) -> None:
    """Everything that is asked of it: scripts, the stream, marks, lives, notices, an expiry."""
    server = RedisServer(processes, tmp_path, program=valkey_program(), keeps="always").start()
    assert "valkey" in server.ask("INFO server")
    async with peer(server.url) as one, peer(server.url) as other:
        await one.post("a", instance_id="old")
        await one.post("a", instance_id="new")
        await other.drain("a")
        assert refusal(await other.post("b", port=8100))[1] == "address_conflict"
        await until(lambda: same([one, other]) and one.table.drained)
        before, epoch = one.view(), one.table.epoch
        server.kill9()
        await missed([one, other])
        server.start()
        await back([one, other])
        assert refusal(await other.beat("a", instance_id="old"))[1] == "stale_instance"
        assert is_done(await other.beat("a", instance_id="new"))
        assert (one.view(), one.table.epoch) == (before, epoch)
        with Redis(port=server.port) as client:
            client.flushall()
        await until(lambda: one.table.epoch != epoch and same([one, other]))
        assert one.view() == before
