"""The scripts against a real Redis: they decide as a router's own limits do, whatever comes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router import limit_scripts as scripts
from router.limits import Counted, Grant, Limiter
from router.named import Limits
from tests.support.processes import Processes
from tests.support.redis import RedisServer

pytestmark = pytest.mark.real

#: The test's clock, in the place of the server's.
NOW = "local now = tonumber(redis.call('GET', 'now'))\n"
LEASE_MS = 30_000
#: What was sent and not answered in time may have been done: it is sent once.
ONCE = Retry(NoBackoff(), 0)
#: A server that stands still for a while fails nothing.
TIMEOUT_S = 60
#: Every example begins anew by itself, and may take its time.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
FOR_EVER_MS = 10**9
NS = 1_000_000


class Server:
    """Limited names in a Redis whose clock stands unless it is told."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self._take = redis.register_script(scripts.take(NOW))
        self._settle = redis.register_script(scripts.settle(NOW))
        self._renew = redis.register_script(scripts.renew(NOW))
        self._add = redis.register_script(scripts.add(NOW))
        self.begin()

    def begin(self) -> None:
        self.redis.flushdb()
        self.clock(0.0)

    def clock(self, seconds: float) -> None:
        self.redis.set("now", round(seconds * 1000))

    def take(
        self,
        id: str,
        wanted: dict[str, tuple[Limits, int]],
        *,
        lease_ms: int = FOR_EVER_MS,
        waits_ms: int = 0,
    ) -> tuple[int, list[Counted]]:
        keys = [key for name in wanted for key in scripts.keys("", name)]
        said: list[str | int] = [id, lease_ms, waits_ms]
        for limits, tokens in wanted.values():
            said += [limits.rpm or 0, limits.tpm or 0, limits.max_concurrency or 0, tokens]
        granted, _, *held = self._take(keys=keys, args=said)
        return granted, [counted(held[at : at + 3]) for at in range(0, len(held), 3)]

    def asks(self, id: str, limits: Limits, tokens: int = 1, **more: Any) -> bool:
        return self.take(id, {"one": (limits, tokens)}, **more)[0] == 1

    def settle(self, id: str, limits: Limits, cost: int, used: int | None) -> None:
        said = [id, limits.tpm or 0, cost, -1 if used is None else used]
        self._settle(keys=scripts.keys("", "one"), args=said)

    def renew(self, *ids: str) -> None:
        self._renew(keys=scripts.keys("", "one"), args=[LEASE_MS, *ids])

    def add(
        self, id: str, limits: Limits, requests: int, tokens: int, before: tuple[int, int] = (0, 0)
    ) -> None:
        said = [limits.rpm or 0, limits.tpm or 0]
        said += [one * scripts.ONE for one in (requests, tokens, *before)]
        self._add(keys=[*scripts.keys("", "one"), scripts.added("", id)], args=said)


def counted(held: Sequence[int]) -> Counted:
    requests, tokens, running = (None if one < 0 else one for one in held)
    return Counted(
        None if requests is None else requests * NS,
        None if tokens is None else tokens * NS,
        running,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("scripts")
    processes = Processes(folder)
    try:
        found = RedisServer(processes, folder).start()
        with Redis(port=found.port, socket_timeout=TIMEOUT_S, retry=ONCE) as redis:
            yield Server(redis)
    finally:
        processes.close()


# --- as a router's own ----------------------------------------------------------------------------

maybe = st.none()
limited = st.builds(
    Limits,
    rpm=maybe | st.integers(1, 12),
    tpm=maybe | st.integers(1, 900) | st.just(50_000_000),
    max_concurrency=maybe | st.integers(1, 4),
)
#: Eighths of a second are exact in binary, and whole ms.
moves = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 400)),
    st.tuples(st.just("settle"), st.integers(0, 9), maybe | st.integers(0, 3_000)),
    st.tuples(st.just("wait"), st.integers(1, 40).map(lambda n: n / 8)),
    st.tuples(st.just("wait"), st.sampled_from((30.0, 60.0, 700.0))),
)


@settings(max_examples=150, deadline=None, suppress_health_check=CHECKS)
@given(limited, st.lists(moves, max_size=60))
def test_they_decide_as_a_routers_own_limits_do(
    server: Server, limits: Limits, schedule: list[tuple[Any, ...]]
) -> None:
    server.begin()
    twin, now = Limiter(limits), 0.0
    running: list[tuple[str, int, Grant]] = []
    for at, move in enumerate(schedule):
        match move:
            case ("wait", seconds):
                now += seconds
                server.clock(now)
            case ("take", tokens):
                granted, (held,) = server.take(str(at), {"one": (limits, tokens)})
                expected = twin.decide(tokens, now)
                assert twin.weigh(held, tokens) == expected
                assert granted == all(one.allowed for one in expected)
                grant = twin.take(tokens, now)
                assert (grant is not None) == granted
                if grant is not None:
                    running.append((str(at), tokens, grant))
            case ("settle", which, used):
                if running:
                    id, cost, grant = running.pop(which % len(running))
                    grant.settle(used, now)
                    server.settle(id, limits, cost, used)
                    server.settle(id, limits, cost, used)  # a second time changes nothing


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(
    st.lists(limited, min_size=2, max_size=4),
    st.lists(
        st.tuples(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 300), st.integers(0, 160)),
        max_size=40,
    ),
)
def test_of_several_names_all_grant_or_none_takes_anything(
    server: Server, every: list[Limits], asks: list[tuple[set[int], int, int]]
) -> None:
    server.begin()
    twins, now = [Limiter(one) for one in every], 0.0
    for at, (which, tokens, eighths) in enumerate(asks):
        now += eighths / 8
        server.clock(now)
        asked = [n for n in sorted(which) if n < len(every)] or [0]
        wanted = {f"name {n}": (every[n], tokens) for n in asked}
        granted, held = server.take(str(at), wanted)
        expected = [twins[n].decide(tokens, now) for n in asked]
        assert [twins[n].weigh(one, tokens) for n, one in zip(asked, held, strict=True)] == expected
        assert granted == all(one.allowed for decisions in expected for one in decisions)
        for n in asked if granted else ():
            assert twins[n].take(tokens, now) is not None


@settings(max_examples=60, deadline=None, suppress_health_check=CHECKS)
@given(
    st.integers(1, 30), st.lists(st.integers(0, 80).map(lambda n: n / 8), min_size=5, max_size=60)
)
def test_no_span_of_time_admits_more_than_the_limit_and_what_comes_back(
    server: Server, rpm: int, waits: list[float]
) -> None:
    server.begin()
    limits, now = Limits(rpm=rpm), 0.0
    admitted: list[float] = []
    for at, wait_s in enumerate(waits):
        now += wait_s
        server.clock(now)
        room = all(
            len([one for one in admitted if one >= since]) + 1 <= rpm + (now - since) * rpm / 60
            for since in {*admitted, now}
        )
        assert server.asks(str(at), limits) == room, "neither one too many nor one too few"
        if room:
            admitted.append(now)


# --- places ---------------------------------------------------------------------------------------

ONE_PLACE = Limits(max_concurrency=1)


def test_a_place_of_a_router_that_died_comes_back(server: Server) -> None:
    server.begin()
    assert server.asks("a", ONE_PLACE, lease_ms=LEASE_MS)
    server.clock(29.999)
    assert not server.asks("b", ONE_PLACE)
    server.clock(30.0)
    assert server.asks("b", ONE_PLACE)
    server.settle("a", ONE_PLACE, 1, 0)
    assert not server.asks("c", ONE_PLACE), "the one that lapsed gives nothing back any more"


def test_a_place_that_is_renewed_stays(server: Server) -> None:
    server.begin()
    assert server.asks("a", ONE_PLACE, lease_ms=LEASE_MS)
    server.clock(20.0)
    server.renew("a")
    server.clock(49.0)
    assert not server.asks("b", ONE_PLACE)
    server.settle("a", ONE_PLACE, 1, 0)
    assert server.asks("b", ONE_PLACE)


def test_tokens_of_a_router_that_died_stand_as_reserved(server: Server) -> None:
    server.begin()
    limits = Limits(tpm=60)
    assert server.asks("a", limits, 60, lease_ms=LEASE_MS)
    server.clock(31.0)
    assert not server.asks("b", limits, 60), "half of it has come back by time"
    server.settle("a", limits, 60, 0)
    assert not server.asks("c", limits, 60)
    server.clock(60.0)
    assert server.asks("d", limits, 60)


# --- what else may happen -------------------------------------------------------------------------


def test_an_ask_that_comes_too_late_takes_nothing(server: Server) -> None:
    server.begin()
    server.clock(10.0)
    limits = Limits(rpm=1)
    assert server.take("a", {"one": (limits, 1)}, waits_ms=9_999)[0] == -1
    assert server.asks("b", limits, waits_ms=10_000)


def test_a_clock_that_is_set_back_opens_nothing_and_shuts_nobody_out(server: Server) -> None:
    server.begin()
    server.clock(10_000.0)
    limits = Limits(rpm=1, tpm=100)
    assert server.asks("a", limits, 100)
    server.clock(5_000.0)
    assert not server.asks("b", limits)
    server.clock(5_060.0)
    assert server.asks("c", limits, 50)


def test_what_was_granted_elsewhere_counts_here_and_once(server: Server) -> None:
    server.begin()
    limits = Limits(rpm=3, tpm=100)
    for _ in range(2):
        server.add("x:1", limits, 2, 60)
    assert not server.asks("a", limits, 41)
    assert server.asks("a", limits, 40)
    server.clock(1.0)
    assert not server.asks("b", limits, 1)


def test_what_redis_forgot_is_given_back_by_the_first_that_knows_it(server: Server) -> None:
    server.begin()
    limits = Limits(rpm=10)
    server.add("x:1", limits, 1, 0, before=(4, 0))
    server.add("y:1", limits, 2, 0, before=(4, 0))
    assert [server.asks(str(n), limits) for n in range(4)] == [True] * 3 + [False]


def test_a_usage_out_of_all_proportion_shuts_nobody_out_for_ever(server: Server) -> None:
    server.begin()
    limits = Limits(tpm=100)
    assert server.asks("a", limits, 1)
    server.settle("a", limits, 1, 10**9)
    server.clock(540.0)
    assert not server.asks("b", limits, 1)
    server.clock(541.0)
    assert server.asks("b", limits, 1)


def test_nothing_is_kept_of_what_nobody_asks_for(server: Server) -> None:
    server.begin()
    assert server.asks("a", Limits(rpm=1, tpm=10, max_concurrency=1))
    keys = [*scripts.keys("", "one")]
    assert all(0 < server.redis.pttl(key) <= scripts.KEEP_MS for key in keys)
    server.settle("a", Limits(tpm=10), 1, 1)
    assert server.redis.keys("limit-*") == [], "nobody runs, nobody holds anything"
