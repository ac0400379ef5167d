"""Framing, ids, and who may resume."""

import json

import pytest

from common.wire.registry import Health, Service
from registry import changes
from registry.changes import ChangeLog
from registry.state import Change, Gone, Put


def service(name: str = "a", **more: object) -> Service:
    return Service(
        name=name,
        host="10.0.0.1",
        port=8100,
        hostname="h",
        url="http://10.0.0.1:8100",
        status="running",
        timestamp="t",
        last_heartbeat="t",
        health_status=Health.HEALTHY,
        metadata=dict(more),
    )


def log_of(*news: Change, events_max: int = 100, bytes_max: int = 1 << 20) -> ChangeLog:
    log = ChangeLog("e", 10, events_max=events_max, bytes_max=bytes_max)
    log.append(news)
    return log


def puts(first: int, last: int) -> list[Change]:
    return [Put(n, service()) for n in range(first, last + 1)]


def test_events_are_framed_with_data_on_one_line() -> None:
    raw = changes.put(service(text="two\nlines\r and \u2028 more"))
    lines = raw.decode().split("\n")
    assert lines[0] == "event: put"
    assert lines[1].startswith("data: {")
    assert lines[2:] == ["", ""]
    assert json.loads(lines[1].removeprefix("data: "))["metadata"]["text"].startswith("two\nl")


def test_every_event_has_data_and_only_synced_and_live_ones_have_ids() -> None:
    assert changes.reset("e") == b'event: reset\ndata: {"epoch":"e"}\n\n'
    assert changes.synced("e", 7) == b'id: e-7\nevent: synced\ndata: {"revision":7}\n\n'
    assert changes.put(service()).startswith(b"event: put\ndata: ")
    assert changes.live("e", Put(8, service())).startswith(b"id: e-8\nevent: put\ndata: ")
    gone = changes.live("e", Gone(9, "a", "x"))
    assert gone == b'id: e-9\nevent: delete\ndata: {"name":"a","instance_id":"x"}\n\n'
    (load,) = changes.loads({"a": {"in_flight": 2.0}})
    assert load == b'event: load\ndata: {"a":{"in_flight":2.0}}\n\n'


def test_loads_of_a_large_fleet_are_split_into_short_lines() -> None:
    loads = {f"service-{n:05}@{'h' * 100}": {"in_flight": float(n)} for n in range(10_000)}
    events = list(changes.loads(loads))
    assert len(events) > 1
    assert max(map(len, events)) < 512 * 1024
    together: dict[str, dict[str, float]] = {}
    for one in events:
        together |= json.loads(one.split(b"data: ")[1])
    assert together == loads


@pytest.mark.parametrize("text", ["", "e", "e-", "-5", "e-x", "e-1.5", "e-²", "e-" + "9" * 19])
def test_an_id_that_is_none_of_ours_is_no_id(text: str) -> None:
    assert changes.parse_event_id(text) is None


def test_a_cursor_gets_exactly_what_came_after_it() -> None:
    log = log_of(*puts(11, 15))
    assert (log.first, log.last) == (11, 15)
    assert [event.split(b"\n")[0] for event in log.after(12, 2)] == [b"id: e-13", b"id: e-14"]
    assert log.after(15, 10) == []


def test_who_may_resume() -> None:
    log = log_of(*puts(11, 15), events_max=3)
    assert log.first == 13
    assert log.resumes("e-15") == 15
    assert log.resumes("e-12") == 12
    for last in (None, "", "e-11", "e-16", "other-15", "nonsense"):
        assert log.resumes(last) is None


def test_a_restarted_registry_resumes_nobody_who_heard_only_the_one_before() -> None:
    log = ChangeLog("e", 10, events_max=10, bytes_max=10_000)
    assert log.resumes("e-10") is None
    assert log.resumes("e-9") is None
    log.append(puts(11, 12))
    assert log.resumes("e-10") is None
    assert log.resumes("e-11") == 11


def test_the_log_is_bounded_in_bytes_too() -> None:
    log = log_of(*puts(11, 1000), events_max=10_000, bytes_max=2000)
    assert sum(map(len, log.after(log.first - 1, 10_000))) <= 2000
    assert log.last == 1000


def test_one_event_above_the_byte_bound_leaves_an_empty_log_without_a_gap() -> None:
    log = log_of(*puts(11, 11), bytes_max=10)
    assert (log.first, log.last) == (12, 11)
    assert log.has(11)
    assert not log.has(10)
