"""Names, and times on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import clock
from common.names import NAME_LENGTH_MAX, is_name, why_not_a_name


@pytest.mark.parametrize(
    "name", ["a", "qwen3-32b@gpu-07", "A_b.c", ".a", "...", "x" * NAME_LENGTH_MAX]
)
def test_a_name_is_taken(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "may not be empty"),
        ("x" * 129, "at most 128 characters, this one has 129"),
        ("a b/c", "not ' ' '/'"),
        ("a\n", "not '\\n'"),
        ("é", "not 'é'"),
        (".", "means a folder"),
        ("..", "means a folder"),
    ],
)
def test_a_text_that_is_no_name_is_refused_with_a_reason(name: str, why: str) -> None:
    assert not is_name(name)
    assert why in why_not_a_name(name)


def test_times_are_rfc_3339_with_offset_and_microseconds() -> None:
    assert clock.wire_time(1769860800.0) == "2026-01-31T12:00:00.000000+00:00"
    assert clock.parse_wire_time("2026-01-31T12:00:00Z") == 1769860800.0
    assert clock.parse_wire_time("2026-01-31T13:00:00+01:00") == 1769860800.0
    assert clock.parse_wire_time("2026-01-31T12:00:00") == 1769860800.0  # the older clients


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_time_comes_back_to_the_microsecond(microseconds: int) -> None:
    there_and_back = clock.parse_wire_time(clock.wire_time(microseconds / 1e6))
    assert round(there_and_back * 1e6) == microseconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        clock.parse_wire_time(text)
