import pytest
from msgspec.structs import replace

from registry import query
from tests.registry.test_changes import service

ONE = replace(service("one", type="openai-api", models=["m", "n"]), is_healthy=True)
TWO = replace(
    service("two", type="openai-api", models_list=[{"id": "m"}], models=["n"]),
    is_healthy=False,
    status="backoff",
)
SITTER = service("sitter", type="babysitter")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "one two sitter"),
        ({"healthy": "true"}, "one sitter"),
        ({"healthy": "False"}, "two"),
        ({"status": "backoff"}, "two"),
        ({"type": "babysitter"}, "sitter"),
        ({"model": "m"}, "one two"),
        ({"model": "n"}, "one"),  # models_list comes first, models is its fallback
        ({"model": "m", "healthy": "true"}, "one"),
        ({"status": ""}, "one two sitter"),
        ({"unknown": "x"}, "one two sitter"),
    ],
)
def test_all_filters_that_are_given_must_hold(wanted: dict[str, str], found: str) -> None:
    assert " ".join(one.name for one in query.matching([ONE, TWO, SITTER], wanted)) == found


def test_a_filter_that_means_nothing_is_refused() -> None:
    with pytest.raises(query.Unknown, match="neither true nor false"):
        query.matching([], {"healthy": "perhaps"})


def test_stats_count_by_fitness_status_and_host() -> None:
    counted = query.stats([ONE, TWO, SITTER], 1.23456, "now")
    assert (counted.total_services, counted.healthy_services) == (3, 2)
    assert counted.unhealthy_services == 1
    assert counted.status_distribution == {"running": 2, "backoff": 1}
    assert counted.host_distribution == {"10.0.0.1": 3}
    assert counted.uptime == 1.235
