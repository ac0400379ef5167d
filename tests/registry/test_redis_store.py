"""Registries that share a real Redis decide as one, and none says what another did not."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from redis import Redis

from common.errors import RefusalError
from common.wire.registry import Beat
from registry import commands as ask
from registry import redis_store
from registry.records import Phase
from registry.state import Gone, Put
from registry.store import AwayError, StoreError
from tests.registry.acts import World, is_done, refusal, registration
from tests.registry.peers import LONG, SHORT, peer, same, store_at
from tests.support.processes import Processes
from tests.support.redis import RedisServer
from tests.support.until import until

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that leave it running: each has keys of its own."""
    folder = tmp_path_factory.mktemp("redis")
    processes = Processes(folder)
    try:
        yield RedisServer(processes, folder).start()
    finally:
        processes.close()


@pytest.fixture
def prefix() -> str:
    return f"{uuid.uuid4().hex}:"


@pytest.fixture
def redis(server: RedisServer) -> Iterator["Redis"]:
    with Redis(port=server.port) as client:
        yield client


# one fleet


async def test_what_one_registers_all_serve(server: RedisServer, prefix: str) -> None:
    async with peer(server.url, prefix=prefix) as one, peer(server.url, prefix=prefix) as other:
        assert is_done(await one.post("a"))
        await until(lambda: "a" in other.table.entries)
        assert same([one, other])
        assert [change.revision for change in other.told] == [1]
        assert is_done(await other.delete("a"))
        await until(lambda: not one.table.entries)
        assert isinstance(one.told[-1], Gone)
        assert refusal(await one.post("a"))[1] == "stale_instance"


async def test_a_conflict_is_refused_by_whichever_is_asked(
    server: RedisServer, prefix: str
) -> None:
    """The second follows nobody: it can know only by asking."""
    async with (
        peer(server.url, prefix=prefix, running=False) as one,
        peer(server.url, prefix=prefix, running=False) as other,
    ):
        assert is_done(await one.post("a"))
        assert refusal(await other.post("a", host="10.0.0.2"))[1] == "name_conflict"
        assert is_done(await one.post("b", port=8200))
        assert refusal(await other.post("c", port=8200))[2] == "b"


async def test_what_looks_refused_is_asked_for_first(server: RedisServer, prefix: str) -> None:
    async with (
        peer(server.url, prefix=prefix, running=False) as one,
        peer(server.url, prefix=prefix, running=False) as other,
    ):
        await one.post("a")
        await other.catch_up()
        await one.delete("a")
        assert is_done(await other.post("b")), "its address is free by now"
        assert is_done(await one.drain("b"))


async def test_of_many_at_once_one_gets_the_address(server: RedisServer, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(server.url, prefix=prefix)) for _ in range(4)]
        for round in range(10):
            answers = await asyncio.gather(
                *(one.post(f"s{round}-{n}", port=9000 + round) for n, one in enumerate(peers))
            )
            assert sum(is_done(answer) for answer in answers) == 1
        await until(lambda: same(peers))
        assert len(peers[0].table.entries) == 10
        for one in peers:
            assert [change.revision for change in one.told] == list(range(1, 11))


async def test_a_burst_at_all_of_them_is_taken_whole(server: RedisServer, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(server.url, prefix=prefix)) for _ in range(3)]
        answers = await asyncio.gather(
            *(peers[n % 3].post(f"s{n}", port=1000 + n) for n in range(600))
        )
        assert all(is_done(answer) for answer in answers)
        await until(lambda: same(peers))
        assert len(peers[2].table.entries) == peers[0].table.revision == 600


async def test_marks_and_lives_are_shared_and_outlive_every_registry(
    server: RedisServer, prefix: str
) -> None:
    async with peer(server.url, prefix=prefix) as one, peer(server.url, prefix=prefix) as other:
        await one.post("a", instance_id="old")
        await one.post("a", instance_id="new")
        await other.catch_up()
        await other.drain("a")
        await until(lambda: one.table.service("a") and one.table.entries["a"].draining)
        before = one.view(), one.table.epoch, one.table.revision
    async with peer(server.url, prefix=prefix) as later:
        assert (later.view(), later.table.epoch, later.table.revision) == before
        assert refusal(await later.beat("a", instance_id="old"))[1] == "stale_instance"
        assert "a" in later.table.drained


async def test_fleets_with_another_prefix_do_not_see_each_other(
    server: RedisServer, prefix: str
) -> None:
    async with peer(server.url, prefix=prefix) as one, peer(server.url, prefix="x" + prefix) as two:
        await one.post("a")
        assert is_done(await two.post("a", host="10.0.0.2"))
        assert one.table.epoch != two.table.epoch


# beats and time


async def test_beats_anywhere_keep_a_lease_everywhere(server: RedisServer, prefix: str) -> None:
    async with (
        peer(server.url, prefix=prefix, terms=SHORT) as one,
        peer(server.url, prefix=prefix, terms=SHORT) as other,
    ):
        await one.post("a")
        await one.post("silent", port=1)
        await until(lambda: "silent" in other.table.entries)

        async def lapsed() -> bool:
            assert is_done(await other.beat("a", load={"in_flight": 3.0}))
            return one.table.entries["silent"].phase is Phase.LAPSED

        await until(lapsed)
        assert one.table.entries["a"].phase is Phase.HELD
        assert [c.revision for c in one.told if isinstance(c, Put) and c.service.name == "a"] == [1]
        await until(lambda: one.table.loads.get("a") == {"in_flight": 3.0})
        await until(lambda: same([one, other]))


async def test_nobody_expires_whom_redis_heard_though_this_one_did_not(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    """A notice of a beat was lost: the lapse is refused, and this registry knows better then."""
    async with (
        peer(server.url, prefix=prefix, running=False) as one,
        peer(server.url, prefix=prefix, running=False) as deaf,
    ):
        await one.post("a")
        await deaf.catch_up()
        heard_at = deaf.table.entries["a"].beat_at
        deaf.later(LONG.lease_s)
        assert is_done(await one.beat("a"))
        await one.keeper._tell_beats()
        assert is_done(await deaf.keeper.do(ask.Tick()))
        assert deaf.table.entries["a"].phase is Phase.HELD
        assert deaf.table.entries["a"].beat_at > heard_at
        assert deaf.table.revision == 1
        deaf.later(LONG.lease_s)
        redis.zadd(prefix + "beats", {"a": 1})  # it has not heard of it for long, either
        assert is_done(await deaf.keeper.do(ask.Tick()))
        assert deaf.table.entries["a"].phase is Phase.LAPSED


async def test_a_clock_of_redis_that_was_set_back_keeps_nobody_forever(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix, terms=replace(SHORT, lease_s=0.5)) as one:
        await one.post("a")
        seconds, _ = redis.time()
        redis.zadd(prefix + "beats", {"a": (seconds + 3600) * 1000})
        await until(lambda: "a" not in one.table.entries)


async def test_a_clock_of_redis_that_jumped_ahead_expires_nobody(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix) as one:
        await one.post("a")
        redis.zadd(prefix + "beats", {"a": 1})
        assert is_done(await one.keeper.do(ask.Tick()))
        assert one.table.entries["a"].phase is Phase.HELD


async def test_after_a_restart_of_all_everybody_has_a_full_lease(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix) as one:
        await one.post("a")
    redis.zadd(prefix + "beats", {"a": 1})
    async with peer(server.url, prefix=prefix) as later:
        assert is_done(await later.keeper.do(ask.Tick()))
        assert later.table.entries["a"].phase is Phase.HELD


async def test_a_beat_brings_nobody_back(server: RedisServer, prefix: str, redis: "Redis") -> None:
    async with (
        peer(server.url, prefix=prefix, running=False) as one,
        peer(server.url, prefix=prefix, running=False) as other,
    ):
        await one.post("a")
        await other.catch_up()
        await one.delete("a")
        assert is_done(await other.beat("a"))  # it does not know yet
        await other.keeper._tell_beats()
        assert redis.zcard(prefix + "beats") == 0
        await other.catch_up()
        assert refusal(await other.beat("a"))[0] == 404


# what Redis lost


async def test_lost_data_begins_an_epoch_with_what_is_known(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix) as one, peer(server.url, prefix=prefix) as other:
        await one.post("a", instance_id="old")
        await one.post("a", instance_id="new")
        await one.drain("a")
        await until(lambda: same([one, other]) and other.table.drained)
        before, epoch = one.view(), one.table.epoch
        redis.delete(*redis.keys(prefix + "*"))
        await until(lambda: one.table.epoch != epoch and same([one, other]))
        assert one.view() == before
        assert one.resets == other.resets == 1
        assert one.table.drained
        assert refusal(await other.beat("a", instance_id="old"))[1] == "stale_instance"


async def test_an_older_state_restored_is_found_out_though_others_wrote_on(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix, running=False) as one:
        await one.post("a")
        older = {key: redis.dump(key) for key in redis.keys(prefix + "*")}
        await one.post("b", port=2)
        await one.post("c", port=3)
        epoch = one.table.epoch
        for key in redis.keys(prefix + "*"):
            redis.delete(key)
        for key, value in older.items():
            redis.restore(key, 0, value)
        async with peer(server.url, prefix=prefix, running=False) as restarted:
            for number in range(4):  # past what the first one knows
                await restarted.post(f"d{number}", port=10 + number)
            await restarted.drain("d0")
            await one.catch_up()
            assert set(one.table.drained) == {"d0"}
            assert one.table.epoch != epoch
            theirs = {f"d{number}" for number in range(4)}
            assert set(one.table.entries) == {"a", "b", "c", *theirs}, "what both acknowledged"
            await restarted.catch_up()
            assert same([one, restarted])


async def test_one_that_missed_more_than_is_kept_reads_everything_in_the_same_epoch(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with (
        peer(server.url, prefix=prefix, running=False) as one,
        peer(server.url, prefix=prefix, running=False) as late,
    ):
        for number in range(5):
            await one.post(f"s{number}", port=1 + number)
        redis.xtrim(prefix + "changes", maxlen=2, approximate=False)
        await late.catch_up()
        assert same([one, late])
        assert late.resets == 1


async def test_the_changes_kept_are_bounded(
    server: RedisServer, prefix: str, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "CHANGES_MAX", 50)
    async with peer(server.url, prefix=prefix, running=False) as one:
        await one.post("a")
        for number in range(300):
            await one.drain("a", on=number % 2 == 0)
        assert redis.xlen(prefix + "changes") <= 50 + 100  # Redis trims whole nodes of 100


# Redis is away


async def test_while_it_is_away_reads_go_on_and_the_rest_is_refused_in_time(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        server = RedisServer(processes, tmp_path, keeps="always").start()
        async with (
            peer(server.url, terms=SHORT, timeout_s=4) as one,
            peer(server.url, terms=SHORT, timeout_s=4) as other,
        ):
            await one.post("a")
            await until(lambda: same([one, other]))
            loop = asyncio.get_running_loop()
            heard = loop.time()
            server.freeze()
            async with asyncio.timeout(20):
                with pytest.raises(StoreError):
                    await one.post("b", port=2)
            await until(lambda: one.keeper.away and other.keeper.away)
            at = one.keeper.now().at
            with pytest.raises(StoreError, match="noted"):
                await one.beat("a")
            await until(lambda: loop.time() - heard > 1.5 * SHORT.lease_s)
            assert one.keeper.now().at == at, "lease time stands still"
            assert one.table.entries["a"].phase is Phase.HELD
            server.thaw()
            await until(lambda: one.keeper.away is None and other.keeper.away is None)
            assert one.table.entries["a"].phase is Phase.HELD
            assert (one.table.epoch, one.resets) == (other.table.epoch, 0)
            await until(lambda: one.table.entries["a"].phase is Phase.LAPSED)
            await until(lambda: same([one, other]))
    finally:
        processes.close()


async def test_what_it_is_asked_while_it_hangs_is_not_done_when_it_goes_on(
    processes: Processes, tmp_path: Path
) -> None:
    """What was sent lies in its socket; who sent it has been told that nothing was done."""
    server = RedisServer(processes, tmp_path).start()
    async with peer(server.url, running=False, timeout_s=3) as one:
        await one.post("a")
        server.freeze()
        with pytest.raises(AwayError):
            await one.post("b", port=2)
        server.thaw()
        with Redis(port=server.port) as redis:
            assert redis.hkeys("creche:records") == [b"a"]
        await one.catch_up()
        assert set(one.table.entries) == {"a"}


async def test_a_clock_of_redis_that_jumped_ahead_is_learned_from_its_answer(
    server: RedisServer, prefix: str
) -> None:
    async with peer(server.url, prefix=prefix, running=False) as one:
        one.store._ahead_ms -= 3_600_000
        assert is_done(await one.post("a"))


async def test_a_connection_that_was_closed_in_the_moment_of_writing_means_away() -> None:
    """As uvloop says it, and the client passes on."""

    async def written() -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    with pytest.raises(AwayError, match="unable to perform"):
        await redis_store._asked(written())


async def test_a_registry_does_not_start_without_it_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "OPEN_TRIES_S", 0.0)
    store = store_at("redis://127.0.0.1:1/0")
    with pytest.raises(RefusalError, match=r"redis://127\.0\.0\.1:1/0 can't be read"):
        await store.open()
    await store.close()


async def test_a_password_is_wanted_and_never_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "OPEN_TRIES_S", 0.0)
    processes = Processes(tmp_path)
    try:
        server = RedisServer(processes, tmp_path, password="open-sesame").start()
        async with peer(server.url, password="open-sesame") as one:
            assert is_done(await one.post("a"))
        store = store_at(server.url, password="shut-sesame")
        with pytest.raises(RefusalError) as refused:
            await store.open()
        assert "sesame" not in str(refused.value)
        await store.close()
    finally:
        processes.close()


async def test_a_newer_schema_is_refused(server: RedisServer, prefix: str, redis: "Redis") -> None:
    async with peer(server.url, prefix=prefix):
        pass
    redis.hset(prefix + "meta", "schema", redis_store.SCHEMA + 1)
    store = store_at(server.url, prefix)
    with pytest.raises(RefusalError, match="newer Creche"):
        await store.open()
    await store.close()


async def test_what_redis_refuses_is_told_and_nothing_was_done(
    server: RedisServer, prefix: str, redis: "Redis"
) -> None:
    async with peer(server.url, prefix=prefix, running=False) as one:
        await one.post("a")
        redis.delete(prefix + "records")
        redis.set(prefix + "records", "of another kind")
        with pytest.raises(StoreError, match="WRONGTYPE") as failed:
            await one.post("b", port=2)
        assert not isinstance(failed.value, AwayError)
        assert set(one.table.entries) == {"a"}


async def test_one_of_them_has_a_duty_and_another_takes_it_over(
    server: RedisServer, prefix: str
) -> None:
    one, other = store_at(server.url, prefix), store_at(server.url, prefix)
    assert await one.has_duty("probe", 60)
    assert not await other.has_duty("probe", 60)
    assert await one.has_duty("probe", 0.2)
    await until(lambda: other.has_duty("probe", 60))
    assert not await one.has_duty("probe", 60)
    await one.close()
    await other.close()


# the same rules

names = st.sampled_from(["a", "b", "c"])
ports = st.sampled_from([1, 2, 3])
lives = st.sampled_from([None, "x", "y"])
leases = st.sampled_from([None, 15.0])
statuses = st.sampled_from(["running", "backoff"])

commands = st.one_of(
    st.builds(
        lambda name, port, life, lease, status: ask.Register(
            registration(name, port=port, instance_id=life, lease_s=lease, status=status)
        ),
        names,
        ports,
        lives,
        leases,
        statuses,
    ),
    st.builds(lambda n, p, i: ask.Update(name=n, port=p, instance_id=i), names, ports, lives),
    st.builds(
        lambda n, i, s: ask.Heartbeat(n, Beat(instance_id=i, status=s)),
        names,
        lives,
        st.none() | statuses,
    ),
    st.builds(ask.Remove, names, lives),
    st.builds(ask.Drain, names, st.booleans()),
    st.just(ask.Tick()),
)


def plain(answer: ask.Answer) -> Any:
    """An answer without its times."""
    if isinstance(answer, ask.Done) and answer.service is not None:
        return replace(answer.service, timestamp="", last_heartbeat="")
    return answer


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(st.tuples(st.integers(0, 2), commands), max_size=20))
async def test_three_that_share_it_decide_as_one_alone_would(
    server: RedisServer, acts: list[tuple[int, ask.Command]]
) -> None:
    prefix = f"{uuid.uuid4().hex}:"
    alone = World(LONG)
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer(server.url, prefix=prefix, running=False))
            for _ in range(3)
        ]
        for index, command in acts:
            shared = await peers[index].keeper.do(command)
            assert plain(shared) == plain(alone.do(command)), command
        for one in peers:
            await one.catch_up()
            assert {n: plain(ask.Done(one.table.service(n))) for n in one.table.entries} == {
                n: plain(ask.Done(alone[n])) for n in alone.table.entries
            }
            assert one.table.drained.keys() == alone.table.drained.keys()
            assert one.table.retired.keys() == alone.table.retired.keys()
            assert one.table.revision == alone.table.revision
            assert [(type(told), told.revision) for told in one.told] == [
                (type(told), told.revision) for told in alone.told
            ]
            one.table.validate()
