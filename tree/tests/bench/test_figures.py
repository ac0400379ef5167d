"""Numbers into words."""

from bench.figures import spread, table, tail, verdict


def test_a_spread_is_what_the_rounds_measured() -> None:
    three = spread([3.0, 1.0, 2.0])
    assert (three.min, three.median, three.max) == (1.0, 2.0, 3.0)


def test_percentiles_are_values_that_were_measured() -> None:
    found = tail([float(n) for n in range(1, 1001)])
    assert (found.count, found.p50, found.p99, found.max) == (1000, 500.0, 990.0, 1000.0)
    assert tail([7.0]).p99 == 7.0


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert table(["a", "bb"], [["long", "1"]]) == "  a      bb\n  long    1"


def test_a_budget_may_be_used_up_but_not_more() -> None:
    assert verdict(2.0, 2.0) == "within budget"
    assert verdict(2.01, 2.0) == "OVER BUDGET"
