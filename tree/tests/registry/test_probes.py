"""Where a record without a lease is looked for, and what is believed."""

from typing import Any

import pytest

from common.wire.registry import Health
from registry import probes
from registry.probes import Answer, Target
from registry.records import Record, Verdict


def record(port: int = 8100, url: str = "http://10.0.0.1:8100", **metadata: Any) -> Record:
    return Record(
        name="a-server",
        host="10.0.0.1",
        port=port,
        hostname="h",
        url=url,
        status="running",
        timestamp="t",
        metadata=metadata,
    )


def urls(one: Record) -> list[str]:
    return [target.url for target in probes.targets(one)]


def test_an_explicit_babysitter_is_asked_alone() -> None:
    assert urls(record(babysitter_url="http://10.0.0.1:9000/")) == ["http://10.0.0.1:9000/health"]


def test_else_the_next_port_and_then_the_service_itself() -> None:
    assert urls(record()) == ["http://10.0.0.1:8101/health", "http://10.0.0.1:8100/health"]
    assert urls(record(port=65535)) == ["http://10.0.0.1:8100/health"]


@pytest.mark.parametrize(
    "bad",
    ["ftp://x", "x", "http://", "http://h/?a=", "http://h/#", "http://u:p@h/", "http://h/ x"],
)
def test_a_url_that_could_be_made_to_mean_something_else_is_not_fetched(bad: str) -> None:
    assert urls(record(babysitter_url=bad)) == []


def test_the_next_ports_answer_counts_only_if_it_names_the_service() -> None:
    beside, itself = probes.targets(record(parent_service="a"))
    names = Answer(200, b'{"status": "healthy", "service": "a"}')
    assert probes.counts(beside, names)
    assert probes.counts(beside, Answer(503, b'{"service": "a-server"}'))
    for other in (b'{"service": "b"}', b'{"service": ["a"]}', b"{}", b"[]", b"ok", b"", b"\xff"):
        assert not probes.counts(beside, Answer(200, other))
    assert not probes.counts(beside, Answer(0, text="refused"))
    assert probes.counts(itself, Answer(200, b"ok"))
    assert probes.counts(itself, Answer(0, text="refused"))


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (200, Health.HEALTHY),
        (404, Health.UNKNOWN),
        (302, Health.UNKNOWN),
        (401, Health.UNKNOWN),
        (500, Health.UNHEALTHY),
        (503, Health.UNHEALTHY),
        (0, Health.UNHEALTHY),
    ],
)
def test_what_an_answer_says(status: int, health: Health) -> None:
    assert probes.judge(Target("http://x/health"), Answer(status, text="gone")).health is health


def test_only_failures_in_a_row_are_believed() -> None:
    tally = probes.Tally(failures=2)
    bad, good = Verdict(Health.UNHEALTHY, "x"), Verdict(Health.HEALTHY)
    assert tally.conclude("a", bad) is None
    assert tally.conclude("b", bad) is None
    assert tally.conclude("a", good) == good
    assert tally.conclude("a", bad) is None
    assert tally.conclude("a", bad) == bad
    tally.keep(set())
    assert tally.conclude("a", bad) is None
