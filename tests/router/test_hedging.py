"""The second lane's own connection, where the process that makes it stands still."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from common import clock
from router.hedging import Lane
from router.outcome import Failure
from router.sweep import LATE_S
from tests.support.until import until

LIMIT_S = 0.01


class Pool:
    """Its first connection never comes about; while that is waited for, so much time passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, passes_s: float) -> None:
        self.asked = 0
        self.link = Link()
        self._now = 100.0
        self._passes_s = passes_s
        monkeypatch.setattr(clock, "monotonic", lambda: self._now)

    async def connect(self, _: object) -> "Link":
        self.asked += 1
        if self.asked == 1:
            self._now += self._passes_s
            await asyncio.Event().wait()
        return self.link


class Link:
    def __init__(self) -> None:
        self.written = b""
        self.transport = SimpleNamespace(is_closing=lambda: False, write=self._write)

    def _write(self, data: bytes) -> None:
        self.written += data

    def ask(self, *_: object) -> None:
        pass

    def drop(self) -> None:
        pass


class Exchange:
    method = "POST"

    def __init__(self) -> None:
        self.failed: list[Failure] = []

    def request_for(self, _: object) -> bytes:
        return b"the request"

    def lane_failed(self, _: object, failure: Failure) -> None:
        self.failed.append(failure)


def lane(pool: Pool, exchange: Exchange) -> Lane:
    gateway: Any = SimpleNamespace(limits=SimpleNamespace(event_bytes_max=1_000), pool=pool)
    attempt: Any = SimpleNamespace(upstream=SimpleNamespace(connect_timeout_s=LIMIT_S))
    of: Any = exchange
    return Lane(of, gateway, attempt)


async def test_a_connection_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, exchange = Pool(monkeypatch, LIMIT_S), Exchange()
    lane(pool, exchange)
    await until(lambda: exchange.failed)
    assert (exchange.failed, pool.asked) == ([Failure.CONNECT], 1)


async def test_one_that_nobody_read_of_is_made_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, exchange = Pool(monkeypatch, LIMIT_S + LATE_S + 0.1), Exchange()
    lane(pool, exchange)
    await until(lambda: pool.link.written or exchange.failed)
    assert (exchange.failed, pool.asked, pool.link.written) == ([], 2, b"the request")
