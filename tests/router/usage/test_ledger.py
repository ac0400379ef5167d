"""What a request leaves behind in the ledger, and that no folding loses any of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire.registry import Service
from router.caller import Caller
from router.config import Config
from router.envelope import Envelope
from router.named import Cost, Model, Pattern
from router.outcome import Outcome
from router.plan import Plan
from router.seam import End
from router.usage import ledger
from router.usage.ledger import OTHERS, Ledger, nanos
from router.usage.rows import COLUMNS, Counts, Row, Rows
from tests.router.making import ask, begin, brain, cloud, end, service, with_file

ENGINE = service("a@h", "m")
PRICED = service(
    "a@h",
    "m",
    metadata={"input_per_million": 0.15, "cached_per_million": 0.075, "output_per_million": 0.6},
)


def ended(
    *services: Service,
    config: Config | None = None,
    model: str = "m",
    caller: Caller | None = None,
    headers: dict[str, str] | None = None,
    path: str = "/v1/chat/completions",
    outcome: Outcome = Outcome.OK,
    **said: Any,
) -> tuple[Plan, End]:
    """One request that a service worked for, if there is one for it."""
    found = with_file(config or Config(), *services)
    asked = ask(model, headers=headers, path=path, envelope=Envelope(model))
    if caller is not None:
        asked.caller = caller
    plan = found.begin(asked, 0.0)
    plan.next(0.0)
    became = end(outcome)
    for name, value in said.items():
        setattr(became, name, value)
    plan.ended(became)
    return plan, became


def folded(*requests: tuple[Plan, End], at: float = 7_200.0) -> Rows:
    found = Ledger()
    for plan, became in requests:
        found.add(plan, became, at)
    return found.take()


def only(rows: Rows) -> tuple[Row, dict[str, int]]:
    ((row, counts),) = rows.items()
    return row, told(counts)


def told(counts: Counts) -> dict[str, int]:
    """What is not 0."""
    return {name: v for name, v in zip(COLUMNS, counts.values(), strict=True) if v}


def test_a_request_is_counted_by_hour_key_tenant_model_target_and_service() -> None:
    ana = Caller("ana", id="1f", tenant="lab")
    row, counts = only(folded(ended(ENGINE, caller=ana, tokens_in=812, tokens_out=240), at=9_000.5))
    assert row == Row(7_200, "1f", "ana", "lab", "m", "m", "a@h")
    assert counts == {
        "requests": 1, "ok": 1, "unpriced": 1, "tokens_in": 812, "tokens_out": 240,
    }  # fmt: skip


def test_prices_are_those_that_the_service_declares() -> None:
    _, counts = only(
        folded(ended(PRICED, tokens_in=1_000, tokens_cached=400, tokens_out=500), at=0)
    )
    assert counts["cost_nanos"] == 600 * 150 + 400 * 75 + 500 * 600
    assert counts["tokens_cached"] == 400
    assert "unpriced" not in counts


def test_a_provider_has_the_prices_of_the_file() -> None:
    prices = Cost(input_per_million=2, output_per_million=8)
    config = Config(providers={"far": cloud(models=("m",), cost=prices)})
    row, counts = only(folded(ended(config=config, tokens_in=10, tokens_cached=4, tokens_out=1)))
    assert row.service == "far"
    assert counts["cost_nanos"] == 10 * 2_000 + 8_000


def test_tokens_without_a_price_for_all_of_them_are_unpriced() -> None:
    embeds = service("a@h", "m", metadata={"input_per_million": 1.0})
    _, counts = only(folded(ended(embeds, tokens_in=7)))
    assert counts == {"requests": 1, "ok": 1, "tokens_in": 7, "cost_nanos": 7_000}
    _, counts = only(folded(ended(embeds, tokens_in=7, tokens_out=1)))
    assert counts["unpriced"] == 1
    assert "cost_nanos" not in counts


def test_a_price_that_is_no_number_is_none() -> None:
    odd = service("a@h", "m", metadata={"input_per_million": float("nan")})
    _, counts = only(folded(ended(odd, tokens_in=7)))
    assert counts["unpriced"] == 1


def test_what_took_no_token_has_no_price_to_lack() -> None:
    _, counts = only(folded(ended(ENGINE, tokens_in=0, tokens_out=0)))
    assert counts == {"requests": 1, "ok": 1}


def test_anthropic_tells_cached_tokens_beside_the_others() -> None:
    request = ended(PRICED, path="/v1/messages", tokens_in=10, tokens_cached=400, tokens_out=1)
    _, counts = only(folded(request))
    assert (counts["tokens_in"], counts["tokens_cached"]) == (410, 400)
    assert counts["cost_nanos"] == 10 * 150 + 400 * 75 + 600


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.CUT, Outcome.CANCELLED, Outcome.SLOW])
def test_what_an_engine_worked_for_without_telling_tokens_is_unknown(outcome: Outcome) -> None:
    _, counts = only(folded(ended(ENGINE, outcome=outcome)))
    assert counts["unknown"] == 1
    assert counts.keys() <= {"requests", "ok", "unknown"}


@pytest.mark.parametrize("outcome", [Outcome.CLIENT, Outcome.UNREACHABLE, Outcome.BROKEN])
def test_what_nobody_worked_for_is_a_failure_and_not_unknown(outcome: Outcome) -> None:
    assert only(folded(ended(ENGINE, outcome=outcome)))[1] == {"requests": 1}


def test_what_is_no_inference_has_no_tokens_to_tell() -> None:
    assert only(folded(ended(ENGINE, path="/tags")))[1] == {"requests": 1, "ok": 1}


@pytest.mark.parametrize("said", [-1, 1 << 60])
def test_tokens_that_cannot_be_are_unknown(said: int) -> None:
    _, counts = only(folded(ended(ENGINE, tokens_in=said, tokens_out=said)))
    assert counts["unknown"] == 1
    assert "tokens_in" not in counts


def test_names_that_clients_make_up_are_one_row() -> None:
    config = Config(providers={"far": cloud()}, patterns=(Pattern(match="x-.*", provider="far"),))
    requests = [ended(config=config, model=f"x-{n}") for n in range(5)]
    requests += [ended(config=config, model=f"typo-{n}") for n in range(5)]
    rows = folded(*requests)
    assert {(row.model, row.served, row.service) for row in rows} == {
        ("x-.*", "x-.*", "far"),
        ("", "", ""),
    }
    assert [counts.requests for counts in rows.values()] == [5, 5]


def test_an_alias_says_what_was_served() -> None:
    config = Config(models={"fast": Model(backend_model="m")})
    row, _ = only(folded(ended(ENGINE, config=config, model="fast")))
    assert (row.model, row.served) == ("fast", "m")


def test_a_request_refused_at_the_door_is_counted() -> None:
    plan = begin(brain(), "typo")
    plan.next(0.0)
    plan.ended(became := end(Outcome.REFUSED, 503))
    row, counts = only(folded((plan, became)))
    assert row[1:] == ("",) * 6
    assert counts == {"requests": 1}


def test_rows_without_end_become_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "ROWS_PER_HOUR_MAX", 3)
    callers = [Caller(f"k{n}", id=f"{n}") for n in range(6)]
    found = Ledger()
    for _ in range(2):  # written in between: the bound is the hour's
        for caller in callers:
            found.add(*ended(ENGINE, caller=caller), 0.0)
        rows = found.take()
        assert {row.key for row in rows} == {"k0", "k1", "k2", OTHERS}
        assert sum(counts.requests for counts in rows.values()) == 6
    found.add(*ended(ENGINE, caller=callers[5]), 3_600.0)
    assert [row.key for row in found.take()] == ["k5"]


requests = st.lists(
    st.tuples(
        st.integers(0, 5 * 3_600),
        st.integers(0, 9),
        st.integers(0, 1_000_000) | st.none(),
        st.integers(0, 1_000_000) | st.none(),
    ),
    max_size=20,
)


@given(requests, st.lists(st.booleans(), max_size=20), st.integers(1, 6), st.integers(1, 8))
def test_sums_are_the_same_however_they_are_folded(
    made: list[tuple[int, int, int | None, int | None]],
    fails: list[bool],
    per_hour: int,
    waiting: int,
) -> None:
    """Rows beyond the bounds, writings that fail and are repeated: nothing is lost or doubled."""
    plan, _ = ended(PRICED)
    want, got = [0] * len(COLUMNS), [0] * len(COLUMNS)
    found = Ledger()
    outcomes = iter(fails)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "ROWS_PER_HOUR_MAX", per_hour)
        patch.setattr(ledger, "ROWS_MAX", waiting)
        for at, who, tokens_in, tokens_out in made:
            plan.caller = Caller(f"k{who}", id=str(who))
            became = end()
            became.tokens_in, became.tokens_out = tokens_in, tokens_out
            want = _plus(want, only(_one(plan, became))[1])
            found.add(plan, became, at)
            if next(outcomes, None) is True:
                found.give_back(found.take())
            assert len(found) <= waiting + 6  # one more for each hour
        for counts in found.take().values():
            got = _plus(got, told(counts))
    assert got == want


def _one(plan: Plan, became: End) -> Rows:
    one = Ledger()
    one.add(plan, became, 0.0)
    return one.take()


def _plus(sums: list[int], more: dict[str, int]) -> list[int]:
    return [have + more.get(name, 0) for have, name in zip(sums, COLUMNS, strict=True)]


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_cost_is_no_more_than_its_parts(fresh: int, cached: int, out: int) -> None:
    whole = nanos((3.0, 0.3, 15.0), fresh, cached, out)
    assert whole == fresh * 3_000 + cached * 300 + out * 15_000
