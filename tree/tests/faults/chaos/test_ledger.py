"""The account is strict where it must be, and excuses only what was excepted."""

from collections import defaultdict

from tests.faults.chaos.ledger import Account, Became, Entry, Line, Rules, Spans, judge

RULES = Rules(upstreams={"m": ("one", "two")}, attempts_max=4)


def entry(became: Became, status: int = 200, **more: object) -> Entry:
    return Entry("id", "r1", "m", False, 10.0, 11.0, became, status, **more)  # type: ignore[arg-type]


def account(
    one: Entry,
    *lines: Line,
    unwell: dict[tuple[str, str], tuple[float, float]] | None = None,
    down: tuple[float, float] | None = None,
) -> Account:
    spans: dict[tuple[str, str], Spans] = defaultdict(Spans)
    for key, span in (unwell or {}).items():
        spans[key].all.append(span)
    away: dict[str, Spans] = defaultdict(Spans)
    if down:
        away["r1"].all.append(down)
    return judge([one], {"id": lines}, rules=RULES, unwell=spans, down=away)


def said(found: Account) -> list[str]:
    return [one.what.partition(":")[0] for one in found.wrong]


def test_a_whole_answer_is_right_if_the_router_says_so_too() -> None:
    assert said(account(entry(Became.WHOLE), Line("id", "ok"))) == []
    assert said(account(entry(Became.WHOLE), Line("id", "cut"))) == [
        "answered whole, and the router thinks otherwise"
    ]
    assert said(account(entry(Became.WHOLE, right=False), Line("id", "ok"))) == [
        "an answer to something else"
    ]


def test_every_answer_has_one_line() -> None:
    assert said(account(entry(Became.WHOLE))) == ["answered, and no line in the access log says so"]
    twice = account(entry(Became.WHOLE), Line("id", "ok"), Line("id", "ok"))
    assert said(twice) == ["one request, several lines in the access log"]


def test_a_killed_router_takes_its_last_lines_with_it() -> None:
    found = account(entry(Became.WHOLE), down=(11.3, 12.0))
    assert said(found) == []
    assert found.unwritten == 1


def test_no_answer_is_excused_by_the_routers_own_death_alone() -> None:
    assert said(account(entry(Became.LOST, 0))) == ["no answer, and no router was killed"]
    found = account(entry(Became.LOST, 0), down=(10.5, 12.0))
    assert said(found) == []
    assert found.became == {"router-lost": 1}


def test_an_error_is_wrong_while_another_upstream_is_well() -> None:
    refused = entry(Became.REFUSED, 502)
    line = Line("id", "unreachable", 502, attempts=1)
    sick = {("r1", "one"): (9.0, 12.0)}
    assert said(account(refused, line, unwell=sick)) == ["a permitted retry would have saved it"]
    both = {**sick, ("r1", "two"): (10.9, 12.0)}
    assert said(account(refused, line, unwell=both)) == []


def test_an_error_is_right_when_every_permitted_retry_was_made() -> None:
    refused = entry(Became.REFUSED, 502)
    assert said(account(refused, Line("id", "unreachable", 502, attempts=4))) == []
    slow = Line("id", "slow", 504, attempts=2, error="no answer in time")
    assert said(account(refused, slow)) == []
    once = Line("id", "slow", 504, attempts=1, error="no answer in time")
    assert said(account(refused, once)) == ["a permitted retry would have saved it"]


def test_a_client_is_never_blamed() -> None:
    assert said(account(entry(Became.REFUSED, 404), Line("id", "client", 404))) == [
        "an error that blames the client"
    ]


def test_what_began_may_be_broken_off_if_the_router_knows() -> None:
    assert said(account(entry(Became.TOLD), Line("id", "cut"))) == []
    assert said(account(entry(Became.CUT), Line("id", "ok"))) == [
        "broken off, and the router thinks otherwise"
    ]


def test_spans_that_are_open_last_for_ever() -> None:
    spans = Spans()
    spans.since(5.0)
    assert spans.touch(100.0, 101.0)
    assert not spans.touch(1.0, 4.0)
    spans.until(6.0)
    assert not spans.touch(100.0, 101.0)
    assert spans.touch(5.5, 5.6)
