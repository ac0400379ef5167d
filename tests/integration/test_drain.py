"""`creche drain` on a real fleet: streams end by themselves, no model is left without an engine."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import begin, creche
from tests.support.fleet import Fleet, Part, ask, chat, mock
from tests.support.streaming import Streaming, Turns
from tests.support.until import until_sync

pytestmark = pytest.mark.real

HOSTS = ("gpu-01", "gpu-02")
ROUTERS = ("router", "other")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts that both serve "shared"; gpu-01 alone serves "only"."""
    with Fleet(tmp_path_factory.mktemp("drain")) as fleet:
        fleet.registry()
        for host in HOSTS:
            more = [mock("single", "only")] if host == "gpu-01" else []
            coder = mock("coder", "shared", "code", args=["--max-concurrency", "1"])
            fleet.babysitter(f"babysitter@{host}", [coder, *more], host={"name": host})
        for name in ROUTERS:
            fleet.router(name=name)
        fleet.wait_models("shared", "code", "only")
        wait_undrained(fleet)
        yield fleet


@pytest.fixture(autouse=True)
def undrained(fleet: Fleet) -> Iterator[None]:
    yield
    registry = fleet.parts["registry"]
    for one in registry.get("/services")["services"]:
        if one["draining"]:
            registry.post(f"/services/{one['name']}/undrain")
    wait_undrained(fleet)


def wait_undrained(fleet: Fleet) -> None:
    """Until both routers may use all of them, and neither does."""
    until_sync(lambda: all(_has_all(fleet.parts[one]) for one in ROUTERS), what="all are back")


def _has_all(router: Part) -> bool:
    services = router.get("/services")["services"]
    idle = [one["healthy"] and not one["draining"] and not one["in_flight"] for one in services]
    return idle == [True] * 3


def in_flight(fleet: Fleet, service: str) -> int:
    found = fleet.service(service)
    assert found is not None
    number: int = found["in_flight"]
    return number


@contextmanager
def alone(fleet: Fleet, service: str, router: str) -> Iterator[str]:
    """The url of a router, which sends to this very service: the other is drained for the
    moment."""
    [other] = [f"coder@{host}" for host in HOSTS if f"coder@{host}" != service]
    registry = fleet.parts["registry"]
    registry.post(f"/services/{other}/drain")
    part = fleet.parts[router]
    until_sync(lambda: _draining(part.get("/services")["services"], other), what="it is drained")
    yield part.url
    registry.post(f"/services/{other}/undrain")
    fleet.wait_service(other, healthy=True)


def _draining(services: list[dict[str, object]], name: str) -> bool:
    return any(one["name"] == name and one["draining"] for one in services)


def stream_on(fleet: Fleet, service: str) -> Streaming:
    """One that outlasts the test, unless it leaves."""
    with alone(fleet, service, "router") as url:
        stream = Streaming(url, "shared", tokens=4000)
        until_sync(lambda: stream.service == service, what="it streams")
    return stream


def turns_on(fleet: Fleet, service: str, router: str = "router") -> Turns:
    found = fleet.service(service)
    assert found is not None
    with alone(fleet, service, router) as url:
        return Turns(url, "shared", engine=found["url"])


def test_streams_end_by_themselves_and_nothing_new_comes(fleet: Fleet) -> None:
    streams = turns_on(fleet, "coder@gpu-02")
    running = begin(fleet, "drain", "gpu-02")
    fleet.wait_service("coder@gpu-02", draining=True, healthy=False)
    for _ in range(4):
        status, said = ask(fleet.url + "/v1/chat/completions", chat("shared"))
        assert status == 200
        assert said["choices"][0]["message"]["content"].startswith("coder")
    until_sync(lambda: "2 requests ending" in running.log, what="it waits")
    assert streams.alive, "they go on meanwhile"
    streams.first.leave()
    assert running.wait() == 0
    assert streams.last.done()
    heading, *rest = running.log.splitlines()
    assert heading == "gpu-02: 1 engine takes no new requests; 2 requests ending (limit 10 min)"
    assert rest[-2:] == [
        "  ✓ coder  0 left",
        "Models still served elsewhere: all. Undo: creche undrain gpu-02",
    ]
    said = creche(fleet, "undrain", "gpu-02")
    assert (said.code, said.out) == (0, "✓ gpu-02: 1 engine takes requests again   coder@gpu-02\n")
    fleet.wait_service("coder@gpu-02", draining=False, healthy=True)


def test_streams_of_another_router_are_waited_for_too(fleet: Fleet) -> None:
    streams = turns_on(fleet, "coder@gpu-02", router="other")
    assert in_flight(fleet, "coder@gpu-02") == 0, "the asked router has nothing to do with it"
    running = begin(fleet, "drain", "coder@gpu-02")
    until_sync(lambda: "2 requests ending" in running.log, what="it knows of them")
    assert running.alive and streams.alive
    streams.first.leave()
    assert running.wait() == 0
    assert "✓ coder@gpu-02  0 left" in running.log
    assert streams.last.done()


def test_after_the_limit_what_is_left_goes_on_and_is_told(fleet: Fleet) -> None:
    stream = stream_on(fleet, "coder@gpu-02")
    said = creche(fleet, "drain", "gpu-02", "--limit", "1s")
    assert said.code == 1
    assert "! 1 request left after 1 s; they go on, no new ones come" in said.out
    assert stream.alive
    stream.leave()


def test_a_drain_that_would_leave_a_model_without_an_engine_is_refused(fleet: Fleet) -> None:
    said = creche(fleet, "drain", "gpu-01")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "✗ gpu-01 is not drained: 1 model would have no engine\n"
        "    nobody else serves  only\n"
        "    If that is what you want:  creche drain --force gpu-01\n"
    )
    assert not any(one["draining"] for one in fleet.parts["router"].get("/services")["services"])


def test_with_force_it_is_drained_all_the_same(fleet: Fleet) -> None:
    said = creche(fleet, "drain", "gpu-01", "--force", "--json")
    assert said.code == 0
    assert [one["service"] for one in said.json["services"]] == ["coder@gpu-01", "single@gpu-01"]
    assert said.json["models_without_engine"] == ["only"]
    assert ask(fleet.url + "/v1/chat/completions", chat("only"))[0] == 503


def test_both_hosts_at_once_are_one_drain_and_refused(fleet: Fleet) -> None:
    said = creche(fleet, "drain", *HOSTS)
    assert said.code == 1
    assert "nobody else serves  code  only  shared" in said.err


def test_ctrl_c_leaves_the_drain_and_says_so(fleet: Fleet) -> None:
    stream = stream_on(fleet, "coder@gpu-02")
    running = begin(fleet, "drain", "gpu-02")
    until_sync(lambda: "1 request ending" in running.log, what="it waits")
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    assert "the drain goes on. Undo: creche undrain gpu-02" in running.log
    assert fleet.wait_service("coder@gpu-02")["draining"]
    assert stream.alive
    stream.leave()


def test_a_name_that_nobody_has_is_told(fleet: Fleet) -> None:
    said = creche(fleet, "drain", "gpu-0")
    assert said.code == 1
    assert "no service and no host is called gpu-0" in said.err
    assert "did you mean" in said.err
    assert "it is a model" in creche(fleet, "drain", "shared").err


def test_a_mark_outlives_its_service_and_can_be_taken_away(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.registry()
        part = fleet.babysitter("sitter", [mock("one", "m"), mock("two", "m")])
        fleet.router()
        fleet.wait_service("one@test", healthy=True)
        fleet.wait_service("two@test", healthy=True)
        assert creche(fleet, "drain", "one@test").code == 0
        part.post("/engines/one/stop")
        until_sync(lambda: fleet.service("one@test") is None, what="it is deregistered")
        said = creche(fleet, "undrain", "one@test")
        assert (said.code, said.out) == (0, "✓ one@test: 1 engine takes requests again\n")
        part.post("/engines/one/start")
        assert not fleet.wait_service("one@test", healthy=True)["draining"]
        said = creche(fleet, "undrain", "three@test")
        assert said.code == 1
        assert "no service is called three@test" in said.err
