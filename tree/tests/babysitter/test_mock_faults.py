"""Faults are asked for in three ways and mean the same in each."""

import re
from pathlib import Path

import pytest

from babysitter.mock.faults import (
    NO_FAULTS,
    Faults,
    Rule,
    Standing,
    described,
    faults_from_headers,
    rule_from_flag,
    rule_from_table,
    rules_from_json,
)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "mock-engine.md"


def test_a_header_a_flag_and_json_ask_for_the_same_fault() -> None:
    wanted = Faults(hang="middle", after=5, no_done=True, delay_ms=1.5)
    headers = [
        (b"X-Mock-Hang", b"middle"),
        (b"x-mock-after", b" 5 "),
        (b"x-mock-no-done", b"1"),
        (b"x-mock-delay-ms", b"1.5"),
    ]
    assert faults_from_headers(headers) == wanted
    assert rule_from_flag("hang=middle,after=5,no-done,delay-ms=1.5").faults == wanted
    table = {"hang": "middle", "after": 5, "no_done": True, "delay-ms": 1.5}
    assert rule_from_table(table).faults == wanted


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("bogus=1", "no fault is called 'bogus'; there are: delay-ms,"),
        ("hang=nowhere", "hang: Invalid enum value 'nowhere' of before, head, middle"),
        ("delay-ms=-1", "delay-ms: Expected `float` >= 0.0"),
        ("status=99", "status: Expected `int` >= 200"),
        ("early=200", "early: Expected `str` matching"),
        ("times=often,status=500", "times is a number of requests, not 'often'"),
    ],
)
def test_what_cannot_be_is_told(flag: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        rule_from_flag(flag)


def test_dead_is_hanging_before_any_byte() -> None:
    assert rule_from_flag("dead").faults.hang == "before"


def test_json_may_be_one_rule_many_or_none() -> None:
    assert rules_from_json(b'{"status": 500}') == (Rule(faults=Faults(status=500)),)
    assert len(rules_from_json(b'[{"status": 500}, {"hang": "before"}]')) == 2
    for nothing in (b"", b"{}", b"[]"):
        assert rules_from_json(nothing) == ()
    with pytest.raises(ValueError, match="want a JSON object"):
        rules_from_json(b'"status"')


def test_a_standing_fault_spares_the_control_paths_unless_it_names_one() -> None:
    standing = Standing((rule_from_flag("hang=before"),))
    assert standing.find("/health", None, control=True) is NO_FAULTS
    assert standing.find("/v1/chat/completions", "m", control=False).hang == "before"
    named = Standing((rule_from_flag("path=/health,status=503"),))
    assert named.find("/health", None, control=True).status == 503
    assert named.find("/v1/chat/completions", "m", control=False) is NO_FAULTS


def test_a_standing_fault_ends_after_its_times() -> None:
    standing = Standing((rule_from_flag("status=500,times=2"), rule_from_flag("status=501")))
    found = [standing.find("/x", None, control=False).status for _ in range(4)]
    assert found == [500, 500, 501, 501]


def test_a_standing_fault_can_be_for_one_model() -> None:
    standing = Standing((rule_from_flag("model=a,status=500"),))
    assert standing.find("/x", "b", control=False) is NO_FAULTS
    assert standing.find("/x", "a", control=False).status == 500


def test_looking_ahead_uses_nothing_up() -> None:
    standing = Standing((rule_from_flag("slow-read=10,times=1"),))
    assert standing.peek("/x").slow_read == 10
    assert standing.peek("/x").slow_read == 10
    assert not Standing(()).peek("/x").slow_read


def test_every_fault_is_described_and_documented() -> None:
    text = DOCS.read_text()
    for name, description in described():
        assert description, name
        assert f"`{name}`" in text, f"docs/mock-engine.md does not name {name}"
