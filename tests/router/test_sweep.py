"""Deadlines are looked at five times a second, and by nobody who has just stood still."""

from collections.abc import Callable

import pytest

from common import clock
from router.sweep import INTERVAL_S, LATE_S, Sweep


class Loop:
    """Its one timer comes as late as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self._in_s = 0.0
        self._what: Callable[[], None]
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)

    def call_later(self, in_s: float, what: Callable[[], None]) -> None:
        self._in_s, self._what = in_s, what

    def fires(self, late_s: float = 0.0) -> None:
        self.now += self._in_s + late_s
        self._what()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


@pytest.fixture
def judged(loop: Loop) -> list[float]:
    """When it was judged, in seconds from the start."""
    found: list[float] = []

    def judge(now: float) -> None:
        found.append(round(now - 100, 3))

    Sweep(loop, judge, lambda now: None).start()  # type: ignore[arg-type]
    return found


def test_it_judges_at_every_interval(loop: Loop, judged: list[float]) -> None:
    for _ in range(3):
        loop.fires(LATE_S / 2)
    assert judged == [0.3, 0.6, 0.9]


def test_one_that_stood_still_reads_what_came_before_it_judges(
    loop: Loop, judged: list[float]
) -> None:
    loop.fires()
    loop.fires(3.0)
    assert judged == [INTERVAL_S]
    loop.fires()
    assert judged == [INTERVAL_S, 3.6]


def test_one_that_is_always_late_judges_every_other_time(loop: Loop, judged: list[float]) -> None:
    for _ in range(6):
        loop.fires(1.0)
    assert judged == [2.4, 4.8, 7.2]
