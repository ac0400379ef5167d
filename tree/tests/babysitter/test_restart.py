"""Backoff and giving up: arithmetic on a clock that tests move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysitter.restart import GiveUp, Policy, Restarts, Wait

DICE_LOW, DICE_HIGH = 0.0, 0.999


def waits(restarts: Restarts, times: list[float], dice: float = DICE_LOW) -> list[float | str]:
    found: list[float | str] = []
    for now in times:
        verdict = restarts.after_failure(now, None, dice)
        found.append(verdict.seconds if isinstance(verdict, Wait) else verdict.text)
    return found


def test_the_wait_doubles_from_one_second_to_sixty() -> None:
    restarts = Restarts(Policy())
    assert waits(restarts, [0] * 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_dice_take_up_to_a_quarter_so_that_a_fleet_does_not_start_at_once() -> None:
    lowest = Restarts(Policy()).after_failure(0, None, DICE_HIGH)
    assert isinstance(lowest, Wait)
    assert 0.75 <= lowest.seconds < 0.76


def test_sixty_seconds_of_health_begin_the_waits_anew() -> None:
    restarts = Restarts(Policy())
    waits(restarts, [0, 0, 0])
    assert restarts.after_failure(100, 40.0, 0) == Wait(1.0)


def test_fifty_nine_seconds_of_health_do_not() -> None:
    restarts = Restarts(Policy())
    waits(restarts, [0, 0, 0])
    assert restarts.after_failure(100, 41.0, 0) == Wait(8.0)


def test_the_eleventh_failure_within_ten_minutes_is_the_last() -> None:
    restarts = Restarts(Policy())
    times = [float(at) for at in range(0, 550, 50)]
    assert waits(restarts, times)[-1] == "10 restarts in 8 min"
    assert restarts.total == 10


def test_ten_failures_spread_over_more_than_ten_minutes_go_on() -> None:
    restarts = Restarts(Policy())
    assert all(isinstance(one, float) for one in waits(restarts, [62.0 * n for n in range(40)]))


def test_an_operators_word_begins_the_count_anew_but_not_the_total() -> None:
    restarts = Restarts(Policy(max_restarts=1))
    waits(restarts, [0])
    restarts.forget()
    assert restarts.after_failure(1, None, 0) == Wait(1.0)
    assert restarts.total == 2


def test_no_restart_at_all_where_none_is_wanted() -> None:
    verdict = Restarts(Policy(max_restarts=0)).after_failure(0, None, 0)
    assert verdict == GiveUp("not restarted, as configured (max_restarts = 0)")


def test_a_successor_goes_on_where_it_was_killed() -> None:
    restarts = Restarts(Policy(max_restarts=3))
    waits(restarts, [100, 110])
    total, streak, ages = restarts.snapshot(120)
    heir = Restarts.resumed(Policy(max_restarts=3), 5000, total, streak, ages)
    assert waits(heir, [5000, 5001]) == [4, "3 restarts in 21 s"]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 0.999)), max_size=60),
    st.integers(0, 12),
)
def test_a_wait_is_never_negative_never_above_the_limit_and_restarts_stay_bounded(
    steps: list[tuple[float, float]], max_restarts: int
) -> None:
    policy = Policy(max_restarts=max_restarts)
    restarts = Restarts(policy)
    now, allowed = 0.0, []
    for pause, dice in steps:
        now += pause
        verdict = restarts.after_failure(now, None, dice)
        if isinstance(verdict, Wait):
            assert 0 < verdict.seconds <= policy.max_s
            allowed.append(now)
        assert sum(now - at < policy.window_s for at in allowed) <= max_restarts


@pytest.mark.parametrize("streak", [1024, 10**6])
def test_a_long_streak_does_not_overflow(streak: int) -> None:
    restarts = Restarts.resumed(Policy(), 0, streak, streak, [])
    assert restarts.after_failure(0, None, 0) == Wait(60.0)
