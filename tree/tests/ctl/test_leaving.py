"""Whom a drain means, what it would leave without engine, what a roll may take: plain values."""

from typing import Any

import pytest

from ctl import durations, leaving, roll
from ctl.errors import CtlError
from ctl.fleet import Fleet
from tests.ctl.fleets import ago, engine, fleet, service

MODELS = {"coder": ["qwen3-coder"], "qwen": ["qwen3-32b"]}


def record(name: str, **more: Any) -> dict[str, Any]:
    """An engine's record in the registry."""
    host = name.rpartition("@")[2]
    return {
        **service(name, MODELS.get(name.partition("@")[0], [])),
        "hostname": host,
        "status": "running",
        "timestamp": ago(1),
        "is_healthy": True,
        **more,
    }


def three(**states: str) -> Fleet:
    """coder on gpu-01 and gpu-02, qwen on gpu-01. `states` by engine and number of its host."""
    names = ["coder@gpu-01", "coder@gpu-02", "qwen@gpu-01"]
    said = {name: states.get(name.replace("@gpu-0", ""), "READY") for name in names}
    return fleet(
        [
            service(name, MODELS[name.partition("@")[0]], healthy=said[name] == "READY")
            for name in names
        ],
        [engine(name, said[name], MODELS[name.partition("@")[0]]) for name in names],
        records=[record(name) for name in names],
    )


def test_a_name_is_a_service_a_host_or_an_engine_of_one_host() -> None:
    one = three()
    assert leaving.meant(one, "coder@gpu-02").services == ("coder@gpu-02",)
    assert leaving.meant(one, "gpu-01").services == ("coder@gpu-01", "qwen@gpu-01")
    assert leaving.meant(one, "qwen").services == ("qwen@gpu-01",)


def test_a_host_is_found_by_its_host_name_and_address_too() -> None:
    one = fleet([], records=[record("a@x", hostname="gpu-09"), record("b@y", host="10.0.0.9")])
    assert leaving.meant(one, "gpu-09").services == ("a@x",)
    assert leaving.meant(one, "10.0.0.9").services == ("b@y",)


def test_engines_of_a_host_without_a_record_are_told_apart() -> None:
    one = fleet(
        [service("a@h", ["m"])],
        [engine("a@h", "READY", ["m"]), engine("b@h", "FATAL", [])],
        records=[record("a@h")],
    )
    found = leaving.meant(one, "h")
    assert (found.services, found.unregistered) == (("a@h",), ("b@h",))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("coder", "name one of:  coder@gpu-01  coder@gpu-02"),
        ("gpu-03", "did you mean"),
        ("qwen3-32b", "it is a model; these engines serve it:  qwen@gpu-01"),
    ],
)
def test_a_name_that_means_none_or_several_is_told_what_it_could_be(name: str, said: str) -> None:
    with pytest.raises(CtlError) as caught:
        leaving.meant(three(), name)
    assert said in caught.value.why


def test_without_a_registry_nothing_can_be_marked() -> None:
    with pytest.raises(CtlError, match="the registry does not answer at"):
        leaving.meant(fleet([service("a@h", ["m"])], registry_silent="refused"), "a@h")


@pytest.mark.parametrize(
    ("going", "lost"),
    [
        (["coder@gpu-01"], []),
        (["coder@gpu-01", "qwen@gpu-01"], ["qwen3-32b"]),
        (["coder@gpu-01", "coder@gpu-02"], ["qwen3-coder"]),
    ],
)
def test_a_model_whose_every_engine_goes_is_stranded(going: list[str], lost: list[str]) -> None:
    services = three().services.services
    assert leaving.stranded(services, going, leaving.served(services, going)) == lost


def test_who_does_not_serve_now_is_no_elsewhere_and_takes_nothing_away() -> None:
    services = three(coder2="FATAL").services.services
    first, second = ["coder@gpu-01"], ["coder@gpu-02"]
    assert leaving.stranded(services, first, leaving.served(services, first)) == ["qwen3-coder"]
    assert leaving.stranded(services, second, leaving.served(services, second)) == []


def test_a_roll_begins_with_what_is_not_ready_and_leaves_what_was_stopped() -> None:
    found = roll.of_model(three(coder2="FATAL"), "qwen3-coder", None, force=False)
    assert [one.service for one in found.engines] == ["coder@gpu-02", "coder@gpu-01"]
    assert found.floors == {"qwen3-coder": 1}
    found = roll.of_model(three(coder2="STOPPED"), "qwen3-coder", None, force=True)
    assert [one.service for one in found.engines] == ["coder@gpu-01"]
    assert found.skipped == ("coder@gpu-02",)


def test_a_roll_goes_on_only_while_enough_others_are_ready() -> None:
    well, ill = three(), three(coder2="FATAL")
    found = roll.of_model(well, "qwen3-coder", None, force=False)
    first, second = found.engines
    assert found.short(first, well.services.services) is None
    assert found.short(first, ill.services.services) == ("qwen3-coder", 0, 1)
    assert found.short(second, ill.services.services) is None, "it serves nothing as it is"
    forced = roll.of_model(well, "qwen3-coder", 0, force=True)
    assert forced.short(first, ill.services.services) is None


def test_a_models_only_engine_is_refused() -> None:
    one = three()
    with pytest.raises(CtlError, match="the only engine that serves qwen3-32b"):
        roll.of_model(one, "qwen3-32b", None, force=False)
    with pytest.raises(CtlError, match="the only engine that serves qwen3-32b"):
        roll.refuse_now(roll.of_services(one, ["qwen"], force=False), one.services.services)
    roll.refuse_now(roll.of_services(one, ["qwen"], force=True), one.services.services)


@pytest.mark.parametrize(
    ("text", "seconds", "told"),
    [("90", 90, "90 s"), ("1s", 1, "1 s"), ("10m", 600, "10 min"), ("1.5h", 5400, "90 min")],
)
def test_times_have_units(text: str, seconds: float, told: str) -> None:
    assert durations.seconds(text) == seconds
    assert durations.told(seconds) == told


@pytest.mark.parametrize("text", ["", "m", "-1", "1w", "nan", "inf", "9999h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        durations.seconds(text)
