"""`creche usage`: the table, its notes and its CSV, from fixed answers."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from common.wire.usage import Usage, UsageCounts, UsageRow
from ctl import usage
from ctl.judge import judge
from tests.ctl.fleets import NOW, all_well


def answer(*rows: UsageRow, by: str = "key,key_id,model", **total: object) -> Usage:
    sums = {
        name: sum(getattr(row, name) for row in rows)
        for name in usage.NUMBERS
    }  # fmt: skip
    return Usage(
        by=by.split(","),
        rows=list(rows),
        total=UsageCounts(**{**sums, **total}),  # type: ignore[arg-type]
        since="2026-10-22T12:00:00.000000+00:00",
    )


def row(key: str, model: str, id: str = "", **counts: object) -> UsageRow:
    names = {"key": key, "key_id": id or key, "model": model}
    return UsageRow(names=names, **counts)  # type: ignore[arg-type]


def test_a_line_for_each_with_their_sum_and_what_is_not_in_it() -> None:
    found = answer(
        row("", "", requests=2, failed=2),
        row("ana", "code", requests=1_204, ok=1_201, failed=3, unknown=2, tokens_in=812_000,
            tokens_cached=400_000, tokens_out=24_000, cost=0.10625),
        row("bob", "local", requests=7, ok=7, unpriced=7, tokens_in=70, tokens_out=700),
        cost=0.10625,
    )  # fmt: skip
    assert usage.lines(found) == [
        "KEY       MODEL  REQUESTS  FAILED  TOKENS IN  TOKENS CACHED  TOKENS OUT  UNKNOWN    COST",
        "(no key)  -             2       2          0              0           0        0       -",
        "ana       code      1,204       3    812,000        400,000      24,000        2  0.1062",
        "bob       local         7       0         70              0         700        0       -",
        "total               1,213       5    812,070        400,000      24,700        2  0.1062",
        "",
        "unknown: 2 requests whose service told no tokens, in no other sum; streams tell them with"
        '  "stream_options": {"include_usage": true}',
        "cost: without 7 requests whose service declares no price for them",
        "since 2026-10-22 12:00 UTC: this router's own requests; others count theirs",
    ]


def test_what_nobody_has_is_no_column() -> None:
    found = answer(row("ana", "m", requests=1, ok=1, unpriced=1, tokens_in=3, tokens_out=2))
    assert usage.lines(found)[0] == (
        "KEY    MODEL  REQUESTS  FAILED  TOKENS IN  TOKENS OUT  UNKNOWN"
    )


def test_two_keys_of_one_name_are_told_apart() -> None:
    found = answer(row("ana", "m", "1f", requests=1), row("ana", "m", "2e", requests=1))
    assert [line.split()[:2] for line in usage.lines(found)[1:3]] == [["ana", "1f"], ["ana", "2e"]]


def test_nothing_is_said_so_and_what_went_wrong_besides() -> None:
    found = Usage(by=["key"], rows=[], total=UsageCounts(), of="all routers", message="away")
    assert usage.lines(found) == [
        "Nothing was asked for in this time.",
        "all that is kept: all routers together",
        "! away",
    ]


def test_a_name_cannot_command_a_terminal() -> None:
    found = answer(row("ana", "m\x1b[2J", requests=1))
    assert "m?[2J" in usage.lines(found)[1]


def test_csv_has_every_number_and_a_cost_only_where_there_is_one() -> None:
    found = answer(
        row("ana", "a, b", "1f", requests=3, ok=2, failed=1, unknown=1, tokens_in=9, cost=1.5),
        row("bob", "m", "2e", requests=1, ok=1, unpriced=1, tokens_in=4, tokens_out=2),
    )
    assert usage.as_csv(found) == [
        "key,key_id,model,requests,ok,failed,unknown,unpriced,tokens_in,tokens_cached,tokens_out,cost",
        'ana,1f,"a, b",3,2,1,1,0,9,0,0,1.500000000',
        "bob,2e,m,1,1,0,0,1,4,0,2,",
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "＝x", "\t=1", "\r=1", "=a\nb"])
def test_no_name_is_a_formula_for_a_spreadsheet(name: str) -> None:
    _, line = usage.as_csv(answer(row("ana", name, requests=1)))
    cell = next(csv.reader([line]))[2]
    assert cell[0] in "'?"


@given(st.text(max_size=8))
def test_any_name_is_one_cell_of_one_line(name: str) -> None:
    lines = usage.as_csv(answer(row("ana", name, requests=1)))
    assert len(lines) == 2
    cells = next(csv.reader([lines[1]]))
    assert len(cells) == 12
    assert not cells[2].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_times_are_ago_or_dates() -> None:
    now = usage.wall()
    assert now - 7 * 86_400 <= usage.moment("7d") <= usage.wall() - 7 * 86_400
    assert usage.moment("2026-01-31") == 1_769_817_600
    assert usage.moment("2026-01-31T12:00:00+01:00") == 1_769_817_600 + 11 * 3_600
    for wrong in ("", "d", "yesterday", "99999d", "-1d"):
        with pytest.raises(ValueError):
            usage.moment(wrong)


@pytest.mark.parametrize("wrong", ["", "key,", "keys", "cost"])
def test_what_it_cannot_be_divided_by_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        usage.division(wrong)


def test_status_notes_what_keeps_it_from_being_written() -> None:
    well = all_well()
    full = replace(well, health=replace(well.health, usage_message="the disk is full"))
    assert judge(full, NOW).notes == (*judge(well, NOW).notes, "the disk is full")
