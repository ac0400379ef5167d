"""Words and numbers for people."""

import pytest

from ctl import render
from ctl.errors import CtlError, Exit
from ctl.judge import age_s, duration
from tests.ctl.fleets import NOW, ago


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (840, "14 min"), (7199, "119 min"), (7200, "2 h")],
)
def test_durations_are_one_number(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.4, "0.4 ms"), (9.96, "10 ms"), (640, "640 ms"), (999, "1.0 s"), (4100, "4.1 s")],
)
def test_latencies_have_two_figures(ms: float, text: str) -> None:
    assert render.milliseconds(ms) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.04, "<0.1"), (1204.4, "1,204"), (41, "41")]
)
def test_rates(rate: float, text: str) -> None:
    assert render.rate(rate) == text


def test_an_age_is_never_negative_and_a_malformed_time_has_none() -> None:
    assert age_s(ago(-5), NOW) == 0
    assert age_s("yesterday", NOW) is None
    assert age_s(None, NOW) is None


def test_tables_align_and_have_no_trailing_spaces() -> None:
    lines = render.table(
        ("A", "B", "C"), [("x", "10", "y"), ("long", "9", "")], "<><", render.PLAIN
    )
    assert lines == ["A      B  C", "x     10  y", "long   9"]


@pytest.mark.parametrize(
    ("tty", "environ", "wanted"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
        (False, {"TERM": "xterm"}, False),
    ],
)
def test_colour_only_where_it_is_wanted(tty: bool, environ: dict[str, str], wanted: bool) -> None:
    assert render.wants_colour(tty, environ) is wanted


def test_an_error_is_what_why_and_one_fix() -> None:
    end = CtlError("no engine is called x", "did you mean  y?", "All:  creche engines", Exit.USAGE)
    assert render.error(end) == [
        "✗ no engine is called x",
        "    did you mean  y?",
        "    All:  creche engines",
    ]
