import pytest

from bench import decide
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
