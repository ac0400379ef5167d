"""Who has used up a month's budget: tokens and cost, of keys and tenants."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import clock
from router.caller import Caller
from router.config import Usage
from router.errors import Problem
from router.named import Budget, Tenant
from router.seam import Attempt
from router.usage import budgets, meter
from router.usage.book import SqliteStore
from router.usage.budgets import Bounds, Spending, Who
from router.usage.meter import Meter, months
from router.usage.rows import Counts, Row, Rows
from router.usage.store import BookError, Question, Sums
from tests.router.making import ask, brain
from tests.router.usage.test_ledger import PRICED, ended

MONTH = 1_767_225_600  # 2026-01-01
ANA = Caller("ana", id="1f", tenant="lab", budget=Budget(tokens_monthly=100))


def rows(key_id: str, tenant: str, tokens: int, nanos: int = 0, at: int = MONTH) -> Rows:
    counts = Counts()
    counts.tokens_in, counts.tokens_out, counts.cost_nanos = (
        tokens // 2,
        tokens - tokens // 2,
        nanos,
    )
    return {Row(at, key_id, key_id, tenant, "m", "m", "a@h"): counts}


def over(spending: Spending, bounds: Bounds, waiting: Rows | None = None) -> Mapping[Who, Problem]:
    return spending.over(bounds, waiting or {}, "2026-01", "2026-02-01")


def of(**tenants: Budget) -> Bounds:
    return budgets.bounds({n: Tenant(budget=b) for n, b in tenants.items()}, [ANA, Caller("bob")])


def test_what_has_no_budget_has_no_bound() -> None:
    assert budgets.bounds({"lab": Tenant()}, [Caller("bob", budget=Budget())]) == Bounds()


def test_a_budget_that_is_reached_is_used_up_and_the_answer_says_until_when() -> None:
    spending = Spending(MONTH)
    spending.add(rows("1f", "lab", 99))
    assert over(spending, of()) == {}
    ((who, problem),) = over(spending, of(), rows("1f", "lab", 1)).items()
    assert who == ("key", "1f")
    assert (problem.status, problem.code, problem.should_retry) == (
        429,
        "insufficient_quota",
        False,
    )
    assert problem.message == (
        "The API key 'ana' has used up its budget for 2026-01 (100 tokens): "
        "it begins anew on 2026-02-01 UTC"
    )
    assert over(spending, of()) == {}, "what waits was not added by looking at it"


def test_a_tenants_keys_have_one_budget() -> None:
    spending = Spending(MONTH)
    spending.add(rows("2e", "lab", 1, nanos=600_000_000))
    spending.add(rows("3d", "lab", 1, nanos=400_000_000))
    spending.add(rows("3d", "other", 1, nanos=10**12))
    ((who, problem),) = over(
        spending, of(lab=Budget(cost_monthly=1), x=Budget(tokens_monthly=1))
    ).items()
    assert who == ("tenant", "lab")
    assert "tenant 'lab' has used up its budget for 2026-01 (1 in cost)" in problem.message


def test_what_was_used_before_the_month_does_not_count() -> None:
    spending = Spending(MONTH)
    spending.add(rows("1f", "lab", 1_000, at=MONTH - 3_600))
    assert over(spending, of()) == {}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 50))))
def test_however_it_is_known_it_is_the_same(used: list[tuple[str, str, int]]) -> None:
    """Read as sums, added as rows, or waiting: any split of the same usage decides the same."""
    limits = Budget(tokens_monthly=100)
    callers = [Caller(name, id=name, budget=limits) for name in "ab"]
    bounds = budgets.bounds({"x": Tenant(budget=limits)}, callers)
    third = len(used) // 3
    sums = [
        Sums((key, tenant), (0, 0, 0, 0, tokens, 0, 0, 0)) for key, tenant, tokens in used[:third]
    ]
    spending = Spending(MONTH, sums)
    for key, tenant, tokens in used[third : 2 * third]:
        spending.add(rows(key, tenant, tokens))
    waiting: dict[Row, Counts] = {}
    for number, (key, tenant, tokens) in enumerate(used[2 * third :]):
        waiting.update(rows(key, tenant, tokens, at=MONTH + number * 3_600))
    want = {("key", k) for k in "ab" if sum(t for key, _, t in used if key == k) >= 100}
    want |= {("tenant", "x")} if sum(t for _, x, t in used if x == "x") >= 100 else set()
    assert set(over(spending, bounds, waiting)) == want


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (MONTH, ("2026-01-01", "2026-02-01")),
        (MONTH - 1, ("2025-12-01", "2026-01-01")),
        (MONTH + 31 * 86_400, ("2026-02-01", "2026-03-01")),
    ],
)
def test_a_month_is_the_calendars(now: float, said: tuple[str, str]) -> None:
    assert months(now) == said


def test_who_is_over_is_refused_before_anything_is_taken() -> None:
    found = brain(PRICED)
    problem = Problem(429, "used up", code="insufficient_quota", should_retry=False)
    bob = Caller("bob", id="2e")
    asks = {caller.name: ask("m") for caller in (ANA, bob)}
    for caller in (ANA, bob):
        asks[caller.name].caller = caller
    for who in (("key", "1f"), ("tenant", "lab")):
        found.overspent = {who: problem}
        assert found.begin(asks["ana"], 0.0).next(0.0) is problem
        assert isinstance(found.begin(asks["bob"], 0.0).next(0.0), Attempt)


@pytest.fixture
def january(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended is of this month, whenever this runs and however long its machine has."""
    monkeypatch.setattr(clock, "wall", lambda: MONTH + 86_400.0)
    monkeypatch.setattr(clock, "monotonic", lambda: 1.0)


class Told:
    def __init__(self, folder: Path) -> None:
        self.now: Mapping[Who, Problem] = {}
        self.store = SqliteStore(folder / "usage.db")
        self.meter = Meter(self.store, Usage(write_s=0.01), self._take)
        self.meter.bounds = of()

    def _take(self, now: Mapping[Who, Problem]) -> None:
        self.now = now


@pytest.mark.usefixtures("january")
async def test_it_is_looked_at_as_it_is_written_and_known_after_a_restart(
    tmp_path: Path,
) -> None:
    first = Told(tmp_path)
    for count in (1, 2):
        first.meter.append(*ended(PRICED, caller=ANA, tokens_in=40, tokens_out=10))
        await first.meter.look()
        assert bool(first.now) is (count == 2), "what is not written counts as well"
        await first.meter.write()
        await first.meter.look()
        assert bool(first.now) is (count == 2), "… and once"
    await first.meter.close()
    second = Told(tmp_path)
    await second.meter.look()
    assert set(second.now) == {("key", "1f")}
    second.meter.bounds = Bounds()
    await second.meter.look()
    assert second.now == {}
    await second.meter.close()


@pytest.mark.usefixtures("january")
async def test_what_others_add_is_seen_with_the_next_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Told(tmp_path), Told(tmp_path)
    await one.meter.look()
    other.meter.append(*ended(PRICED, caller=ANA, tokens_in=100))
    await other.meter.write()
    await one.meter.look()
    assert not one.now
    monkeypatch.setattr(meter, "LOOK_EVERY_S", 0.0)
    await one.meter.look()
    assert one.now
    for told in (one, other):
        await told.meter.close()


@pytest.mark.usefixtures("january")
async def test_a_month_that_cannot_be_read_refuses_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path)

    async def fail(question: Question) -> list[Sums]:
        await asyncio.sleep(0)
        raise BookError("away")

    monkeypatch.setattr(told.store, "read", fail)
    await told.meter.look()
    assert not told.now
    told.meter.append(*ended(PRICED, caller=ANA, tokens_in=100))
    await told.meter.look()
    assert told.now, "what this router counted itself is known"
    monkeypatch.undo()
    await told.meter.close()
