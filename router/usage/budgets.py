"""Who has used up a month's budget, by what is known of the month (UTC). Pure.

    sums of the month, read now and then ─┐
    rows that were written since ─────────┼─▶ Spending ─ over ─▶ who, and what they are told
    rows that wait ───────────────────────┘

Decided beside the requests: on their path it is looked up. What runs goes on, so a budget is passed
by what is asked for until the next look.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from router.caller import Caller
from router.errors import Problem
from router.named import Budget, Tenant
from router.usage.rows import COLUMNS, NANOS, Counts, Rows
from router.usage.store import Sums

#: ("key", its id) or ("tenant", its name).
Who = tuple[str, str]
#: What the sums of a month must be divided by.
BY = ("key_id", "tenant")
NO_BUDGET = Budget()
_IN, _OUT, _COST = map(COLUMNS.index, ("tokens_in", "tokens_out", "cost_nanos"))


class Bounds(Struct, frozen=True):
    """Budgets, and what each is called."""

    of: dict[Who, tuple[str, Budget]] = {}


def bounds(tenants: Mapping[str, Tenant], callers: Iterable[Caller]) -> Bounds:
    found: dict[Who, tuple[str, Budget]] = {}
    for name, tenant in tenants.items():
        if tenant.budget != NO_BUDGET:
            found["tenant", name] = (f"tenant '{name}'", tenant.budget)
    for caller in callers:
        if caller.budget is not None:
            found["key", caller.id] = (f"API key '{caller.name}'", caller.budget)
    return Bounds(found)


class Spending:
    """Tokens and billionths that each key and each tenant has used in a month."""

    def __init__(self, start: int = 0, sums: Iterable[Sums] = ()) -> None:
        """`start`: unix seconds at which the month begins. `sums` of it, by BY."""
        self.start = start
        self._used: dict[Who, tuple[int, int]] = {}
        for one in sums:
            values = one.values
            self._add(one.names[0], one.names[1], values[_IN] + values[_OUT], values[_COST])

    def add(self, rows: Rows) -> None:
        """What was counted since."""
        for row, counts in rows.items():
            if row.start >= self.start:
                self._add(row.key_id, row.tenant, *_of(counts))

    def over(self, budgets: Bounds, waiting: Rows, month: str, next_day: str) -> dict[Who, Problem]:
        """`waiting`: rows that were not added yet. `next_day`: when the next month begins."""
        more = Spending(self.start)
        more._used = dict(self._used)
        more.add(waiting)
        found = {}
        for who, (name, budget) in budgets.of.items():
            tokens, nanos = more._used.get(who, (0, 0))
            limit, cost = budget.tokens_monthly, budget.cost_monthly
            if limit is not None and tokens >= limit:
                found[who] = _problem(name, f"{limit:,} tokens", month, next_day)
            elif cost is not None and nanos >= cost * NANOS:
                found[who] = _problem(name, f"{cost:,g} in cost", month, next_day)
        return found

    def _add(self, key_id: str, tenant: str, tokens: int, nanos: int) -> None:
        for who in (("key", key_id), ("tenant", tenant)):
            if who[1]:
                had = self._used.get(who, (0, 0))
                self._used[who] = (had[0] + tokens, had[1] + nanos)


def _of(counts: Counts) -> tuple[int, int]:
    return counts.tokens_in + counts.tokens_out, counts.cost_nanos


def _problem(name: str, what: str, month: str, next_day: str) -> Problem:
    return Problem(
        429,
        f"The {name} has used up its budget for {month} ({what}): it begins anew on {next_day} UTC",
        code="insufficient_quota",
        type="insufficient_quota",
        should_retry=False,
    )
