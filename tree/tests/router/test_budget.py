from router.budget import RetryBudget
from router.window import Pace


def test_ten_a_second_are_always_there() -> None:
    budget = RetryBudget(Pace(), percent=20, floor_per_s=10)
    assert [budget.take() for _ in range(12)] == [True] * 10 + [False] * 2
    assert budget.refused == 2
    budget.retries.tick()
    assert budget.take()


def test_above_that_a_fifth_of_the_requests() -> None:
    requests = Pace()
    requests.count = 1_000
    budget = RetryBudget(requests, percent=20, floor_per_s=10)
    assert sum(budget.take() for _ in range(500)) == 200


def test_old_requests_earn_nothing() -> None:
    requests = Pace()
    requests.count = 1_000
    budget = RetryBudget(requests, percent=20, floor_per_s=0)
    for _ in range(11):
        requests.tick()
        budget.retries.tick()
    assert not budget.take()
