"""`creche drain` on a real fleet: streams end by themselves, no model is left without an engine."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import begin, creche
from tests.support.fleet import Fleet, ask, chat, mock
from tests.support.streaming import Streaming
from tests.support.until import until_sync

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HOSTS = ("gpu-01", "gpu-02")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts that both serve "shared"; gpu-01 alone serves "only"."""
    with Fleet(tmp_path_factory.mktemp("drain")) as fleet:
        fleet.registry()
        for host in HOSTS:
            more = [mock("single", "only")] if host == "gpu-01" else []
            fleet.babysitter(
                f"babysitter@{host}",
                [mock("coder", "shared", "code"), *more],
                host={"name": host},
            )
        fleet.router()
        fleet.router(name="other")
        fleet.wait_models("shared", "code", "only")
        for host in HOSTS:
            fleet.wait_service(f"coder@{host}", healthy=True)
        yield fleet


@pytest.fixture(autouse=True)
def undrained(fleet: Fleet) -> Iterator[None]:
    yield
    registry = fleet.parts["registry"]
    for one in registry.get("/services")["services"]:
        if one["draining"]:
            registry.post(f"/services/{one['name']}/undrain")
    for host in HOSTS:
        fleet.wait_service(f"coder@{host}", healthy=True, draining=False, in_flight=0)


def in_flight(fleet: Fleet, service: str) -> int:
    found = fleet.service(service)
    assert found is not None
    number: int = found["in_flight"]
    return number


def stream_on(fleet: Fleet, service: str, tokens: int, router: str = "router") -> Streaming:
    """A stream that this very service serves: the other is drained for the moment."""
    [other] = [f"coder@{host}" for host in HOSTS if f"coder@{host}" != service]
    registry = fleet.parts["registry"]
    registry.post(f"/services/{other}/drain")
    part = fleet.parts[router]
    until_sync(lambda: _draining(part.get("/services")["services"], other), 10, "it is drained")
    stream = Streaming(part.url, "shared", tokens=tokens)
    until_sync(lambda: stream.service == service, 10, "it streams")
    registry.post(f"/services/{other}/undrain")
    fleet.wait_service(other, healthy=True)
    return stream


def _draining(services: list[dict[str, object]], name: str) -> bool:
    return any(one["name"] == name and one["draining"] for one in services)


def test_streams_end_by_themselves_and_nothing_new_comes(fleet: Fleet) -> None:
    stream = stream_on(fleet, "coder@gpu-02", tokens=240)
    running = begin(fleet, "drain", "gpu-02")
    fleet.wait_service("coder@gpu-02", draining=True, healthy=False)
    for _ in range(4):
        status, said = ask(fleet.url + "/v1/chat/completions", chat("shared"))
        assert status == 200
        assert said["choices"][0]["message"]["content"].startswith("coder")
    assert stream.alive, "it goes on meanwhile"
    assert running.wait(20) == 0
    assert stream.done()
    heading, *rest = running.log.splitlines()
    assert heading == ("gpu-02: 1 engine takes no new requests; 1 request ending (limit 10 min)")
    assert rest[-2:] == [
        "  ✓ coder  0 left",
        "Models still served elsewhere: all. Undo: creche undrain gpu-02",
    ]
    said = creche(fleet, "undrain", "gpu-02")
    assert (said.code, said.out) == (0, "✓ gpu-02: 1 engine takes requests again   coder@gpu-02\n")
    fleet.wait_service("coder@gpu-02", draining=False, healthy=True)


def test_streams_of_another_router_are_waited_for_too(fleet: Fleet) -> None:
    stream = stream_on(fleet, "coder@gpu-02", tokens=200, router="other")
    assert in_flight(fleet, "coder@gpu-02") == 0, "the asked router has nothing to do with it"
    said = creche(fleet, "drain", "coder@gpu-02", "--json")
    assert not stream.alive, "it had ended before the drain had"
    assert (said.code, said.json["left"]) == (0, 0)
    assert stream.done()


def test_after_the_limit_what_is_left_goes_on_and_is_told(fleet: Fleet) -> None:
    stream = stream_on(fleet, "coder@gpu-02", tokens=4000)
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
    stream = stream_on(fleet, "coder@gpu-02", tokens=4000)
    running = begin(fleet, "drain", "gpu-02")
    until_sync(lambda: "1 request ending" in running.log, 10, "it waits")
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
        until_sync(lambda: fleet.service("one@test") is None, 10, "it is deregistered")
        said = creche(fleet, "undrain", "one@test")
        assert (said.code, said.out) == (0, "✓ one@test: 1 engine takes requests again\n")
        part.post("/engines/one/start")
        assert not fleet.wait_service("one@test", healthy=True)["draining"]
        said = creche(fleet, "undrain", "three@test")
        assert said.code == 1
        assert "no service is called three@test" in said.err
