"""Ended requests, folded into rows of usage. Pure: the time is given.

    (Plan, End) ─ add ─▶ Ledger ─ take ─▶ rows to write ─ give_back ─▶ Ledger, where nobody could

What an engine does not tell is never guessed: the request is counted as unknown. A cost is taken by
the prices of the service that answered, as they were when it was chosen.
"""

from router.caller import Caller
from router.names.target import Target
from router.outcome import Outcome
from router.plan import Plan
from router.route import Family
from router.seam import End
from router.stats import ModelState
from router.upstream import Prices, Upstream
from router.usage.rows import HOUR_S, Counts, Row, Rows

#: Different rows of one hour. Names are an operator's, but a trusted proxy may name tenants without
#: end: what comes then is summed in one row.
ROWS_PER_HOUR_MAX = 20_000
#: Rows that wait to be written: so much is kept while the disk is full.
ROWS_MAX = 100_000
#: Says so where names are left out.
OTHERS = "(others)"
#: An engine that tells more of one request is mistaken.
TOKENS_MAX = 1_000_000_000

#: Rows that are found without making one.
NEAR_MAX = 1_000

_OK = Outcome.OK
_MESSAGES = Family.MESSAGES
#: A service may have worked for a request that ended so.
_WORKED = frozenset({Outcome.OK, Outcome.CUT, Outcome.CANCELLED, Outcome.SLOW})
#: Targets of these have names that the file or a service says; other names may be a client's.
_NAMED = frozenset({"exact", "capability", "default"})

_Near = tuple[Caller, ModelState, Target | None, Upstream | None, str, str | None]


class Ledger:
    def __init__(self) -> None:
        self._rows: dict[Row, Counts] = {}
        #: Rows of the present hour that were seen, also those that are written already.
        self._seen: set[Row] = set()
        self._start = 0
        #: Counts by what decides their row, of one hour and of rows that wait: a Row is dear.
        self._near: dict[_Near, Counts] = {}
        self._near_start = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Rows:
        """Those that wait."""
        return self._rows

    def add(self, plan: Plan, end: End, ended: float) -> None:
        """`ended`: unix seconds."""
        if not 0 <= ended - self._near_start < HOUR_S:
            self._near_start = int(ended) // HOUR_S * HOUR_S
            self._near.clear()
        upstream = plan.upstream
        how, tenant = plan.resolution.how, plan.needs.tenant
        near = (plan.caller, plan.state, plan.target, upstream, how, tenant)
        counts = self._near.get(near)
        if counts is None:
            counts = self._found(near, plan)
        counts.requests += 1
        if end.outcome is _OK:
            counts.ok += 1
        tokens_in, tokens_out = end.tokens_in, end.tokens_out
        if tokens_in is None or not 0 <= tokens_in <= TOKENS_MAX:
            tokens_in = None
        if tokens_out is None or not 0 <= tokens_out <= TOKENS_MAX:
            if tokens_in is None:
                if plan.attempts and plan.route.inference and end.outcome in _WORKED:
                    counts.unknown += 1
                return
            tokens_out = 0
        fresh = tokens_in or 0
        cached = end.tokens_cached
        if cached is None or not 0 <= cached <= TOKENS_MAX:
            cached = 0
        elif plan.route.family is not _MESSAGES:
            cached = min(cached, fresh)
            fresh -= cached
        counts.tokens_in += fresh + cached
        counts.tokens_cached += cached
        counts.tokens_out += tokens_out
        if not (fresh or cached or tokens_out):
            return  # an answer of the cache, for one: nobody worked for it
        prices = None if upstream is None else upstream.prices
        cost = None if prices is None else nanos(prices, fresh, cached, tokens_out)
        if cost is None:
            counts.unpriced += 1
        else:
            counts.cost_nanos += cost

    def take(self) -> Rows:
        """All that was folded since the last time."""
        rows, self._rows = self._rows, {}
        self._near.clear()
        return rows

    def give_back(self, rows: Rows) -> None:
        """What was taken and could not be written."""
        for row, counts in rows.items():
            (self._rows.get(row) or self._counts(row)).add(counts)

    def _found(self, near: _Near, plan: Plan) -> Counts:
        caller = plan.caller
        counts = self._counts(
            Row(
                self._near_start,
                caller.id,
                caller.name,
                plan.needs.tenant or "",
                plan.state.name,
                _served(plan),
                plan.service or "",
            )
        )
        if len(self._near) >= NEAR_MAX:  # names that patterns take make targets without end
            self._near.clear()
        self._near[near] = counts
        return counts

    def _counts(self, row: Row) -> Counts:
        """Of a row that does not wait yet, or of what stands for it."""
        if row.start > self._start:
            self._start = row.start
            self._seen.clear()
        if row not in self._seen:
            if len(self._seen) < ROWS_PER_HOUR_MAX:
                self._seen.add(row)
            else:
                row = _others(row.start)
        if len(self._rows) >= ROWS_MAX:
            row = _others(row.start)
        found = self._rows.get(row)
        if found is None:
            found = self._rows[row] = Counts()
        return found


def nanos(prices: Prices, fresh: int, cached: int, out: int) -> int | None:
    """What so many tokens cost. None: some of them have no price."""
    price_in, price_cached, price_out = prices
    if price_cached is None:
        price_cached = price_in
    total = 0.0
    for tokens, price in ((fresh, price_in), (cached, price_cached), (out, price_out)):
        if tokens:
            if price is None:
                return None
            total += tokens * price
    # A price is of a million tokens, and a billionth is what is counted.
    return round(total * 1_000)


def _served(plan: Plan) -> str:
    target, upstream = plan.target, plan.upstream
    if target is None or upstream is None:
        return ""
    name = upstream.model_of(target)
    if name is None:
        return ""
    known = target.fallback or plan.resolution.how in _NAMED or name in upstream.models
    return name if known else plan.state.name


def _others(start: int) -> Row:
    return Row(start, "", OTHERS, OTHERS, OTHERS, OTHERS, OTHERS)
