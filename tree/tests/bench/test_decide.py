import pytest

from bench import decide, decisions
from router import choose


@pytest.mark.parametrize("name", sorted(choose.MAKERS))
def test_every_strategy_is_measured_on_a_fleet_that_it_can_choose_from(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "ROUND_S", 0.0)
    monkeypatch.setattr(decide, "ROUNDS", 1)
    assert isinstance(decide.microseconds(name, 4, weighted=True), float)


def test_over_budget_is_said() -> None:
    cost = object.__new__(decide.Cost)
    cost.name, cost.few, cost.many, cost.weighted = "slow", 4.0, 900.0, 1_200.0
    row = ["slow", "4.00", "+1.50", "900", "1200", "OVER BUDGET"]
    assert decide.rows([cost], baseline=2.5) == [row]


def test_whole_decisions_are_measured_with_whatever_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decisions, "ROUND_S", 0.0)
    monkeypatch.setattr(decisions, "ROUNDS", 1)
    monkeypatch.setattr(decisions, "COUNTS", (1, 16, 20))
    shown, over = decisions.rows(budget_us=1e9, over_us=1e9)
    assert [row[0] for row in shown] == list(decisions.CASES)
    assert not over
    _, over = decisions.rows(budget_us=0, over_us=-1e9)
    assert over == [*decisions.CASES, "the default at 16"]
