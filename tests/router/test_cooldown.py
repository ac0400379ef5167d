from hypothesis import given
from hypothesis import strategies as st

from router import cooldown
from router.config import Retry
from router.cooldown import Errors
from router.nodes import Node


def test_three_errors_within_a_minute_make_it_rest() -> None:
    errors = Errors(3, window_s=60, cooldown_s=300)
    assert errors.failed(now=0.0) is None
    assert errors.failed(now=30.0) is None
    assert errors.failed(now=60.0) == 360.0


def test_errors_that_are_spread_out_do_not() -> None:
    errors = Errors(3, window_s=60, cooldown_s=300)
    for at in range(0, 1_000, 31):
        assert errors.failed(now=at) is None
    assert errors.failed(now=993.0) == 1_293.0, "962, 992 and 993"


def test_after_a_rest_it_begins_anew() -> None:
    errors = Errors(2, window_s=60, cooldown_s=300)
    errors.failed(now=0.0)
    assert errors.failed(now=1.0) == 301.0
    assert errors.failed(now=2.0) is None
    assert errors.failed(now=3.0) == 303.0


def test_one_error_may_be_enough() -> None:
    assert Errors(1, window_s=60, cooldown_s=5).failed(now=7.0) == 12.0


def test_it_is_off_unless_asked_for() -> None:
    assert cooldown.of(Retry()) is None
    errors = cooldown.of(Retry(error_cooldown=1))
    assert errors is not None
    assert errors.failed(now=0.0) == 300.0


def test_recooling_must_not_shorten_a_cooldown() -> None:
    """Seen elsewhere: a second 429 with a short Retry-After put an upstream back too early."""
    node, errors = Node("a", "127.0.0.1", 1), Errors(1, window_s=60, cooldown_s=10)
    node.rest(3_600.0)
    until = errors.failed(now=1.0)
    assert until == 11.0
    node.rest(until)
    node.rest(5.0)
    assert node.rest_until == 3_600.0


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 5), st.floats(0.1, 200))
def test_it_rests_exactly_when_the_errors_since_the_last_rest_say_so(
    gaps: list[float], most: int, window_s: float
) -> None:
    errors = Errors(most, window_s, cooldown_s=7.0)
    now, since_rest = 0.0, list[float]()
    for gap in gaps:
        now += gap
        since_rest.append(now)
        lately = [at for at in since_rest if now - at <= window_s]
        until = errors.failed(now)
        assert until == (now + 7.0 if len(lately) >= most else None)
        if until is not None:
            since_rest.clear()
