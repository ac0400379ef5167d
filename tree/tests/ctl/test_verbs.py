"""The pure parts of each verb, from fixed answers."""

import msgspec
import pytest

from common.wire.babysitter import Engine
from common.wire.router import RouterServices, RouterStats
from ctl import engines, models, services, which
from ctl.engine import done
from ctl.errors import CtlError
from ctl.views import engine_views
from ctl.wait import served
from tests.ctl.fleets import NOW, all_well, engine, exit_of, fleet, provider, service


def test_engines_lists_everyone_and_why_the_broken_ended() -> None:
    one = fleet(
        [service("a@h1", ["m"])],
        [
            engine("a@h1", "READY", ["m"], restarts=2),
            engine("b@h2", "FATAL", [], last_exit=exit_of("exit status 2"), pid=None),
        ],
    )
    assert engines.lines(engine_views(one), one, NOW) == [
        "   ENGINE  STATE     FOR  KIND  PORT   PID  RESTARTS  MODELS",
        "✓  a@h1    READY  14 min  vllm  8100  4121         2  m",
        "✗  b@h2    FATAL  14 min  vllm  8100     -         0  -",
        "",
        "✗ b@h2   ended 14 min ago: exit status 2",
    ]


def test_services_lists_the_routers_table() -> None:
    some = [
        service("b@h", ["m"], request_count=3, error_count=1, response_time=0.12),
        service("a@h", ["m", "n"], healthy=False, reasons=[{"code": "x", "text": "lease lapsed"}]),
    ]
    table = msgspec.convert({"services": some, "total": 2, "registry_url": ""}, RouterServices)
    assert services.lines(table.services) == [
        "   SERVICE  MODELS  IN FLIGHT  REQUESTS  ERRORS  RESPONSE  WEIGHT  URL",
        "!  a@h      m, n            0         0       0         -       1  http://h:8100",
        "✓  b@h      m               0         3       1    120 ms       1  http://h:8100",
        "",
        "! a@h   lease lapsed",
    ]


def test_models_tells_who_serves_each() -> None:
    one = all_well()
    listing = [{"id": "qwen3-coder", "owned_by": "vllm"}]
    assert models.lines(listing, one.services, one.stats) == [
        "MODEL        READY  IN FLIGHT  OWNED BY  SERVED BY",
        "qwen3-coder    2/2          9  vllm      coder@gpu-01, coder@gpu-02",
    ]


def test_models_tells_who_is_behind_the_names_of_the_file_before_any_request() -> None:
    served = {"ready": 2, "total": 2, "configured": True}
    one = fleet(
        [service("a@h", ["m"]), provider("cloud", ["gpt"])],
        stats={
            "models": {
                "code": {**served, "services": ["a@h", "cloud"]},
                "gpt": {"ready": 1, "total": 1, "unasked": 1, "services": ["cloud"]},
                "chained": {"ready": 0, "total": 0, "configured": True, "by_chain": True},
                "lost": {"ready": 0, "total": 0, "configured": True},
            }
        },
    )
    listing = [{"id": name, "owned_by": "creche"} for name in ("code", "gpt", "chained")]
    assert models.lines(listing, one.services, one.stats) == [
        "MODEL    READY  IN FLIGHT  OWNED BY  SERVED BY",
        "chained    0/0          0  creche    its fallbacks",
        "code       2/2          0  creche    a@h, cloud",
        "gpt        ?/1          0  creche    cloud",
        "lost       0/0          0  -         -",
    ]


def test_a_provider_is_not_called_ready_before_anybody_asked_it() -> None:
    one = fleet([provider("cloud", ["gpt"]), provider("lab", ["m"], request_count=2)])
    lines = engines.lines(engine_views(one), one, NOW)
    assert lines[1].startswith("·  cloud   not asked yet ")
    assert lines[2].startswith("✓  lab     READY ")
    listed = services.lines(one.services.services)
    assert [line[0] for line in listed[1:3]] == ["·", "✓"]
    assert "· cloud   a provider, not asked yet" in listed


def test_engines_and_services_tell_what_the_routers_traffic_leaves_out() -> None:
    one = fleet(
        [
            service("a@h", ["m"], set_aside=True, why_out="answers"),
            service("b@h", ["m"], resting_s=4.2),
            service("c@h", ["m"], breaker="open"),
        ],
        [engine(f"{name}@h", "READY", ["m"]) for name in "abc"],
    )
    states = [line[11:].split("  ")[0] for line in engines.lines(engine_views(one), one, NOW)[1:]]
    assert states == ["READY set aside", "READY resting", "READY breaker open"]
    told = "\n".join(services.lines(one.services.services))
    assert "! a@h   set aside: several requests in a row failed on it" in told
    assert "! b@h   resting for 5 s" in told
    assert "! c@h   breaker open" in told


def test_models_says_so_when_there_is_none() -> None:
    nothing = msgspec.convert({"services": [], "total": 0, "registry_url": ""}, RouterServices)
    assert models.lines([], nothing, RouterStats()) == [
        "No model is served now.   creche status tells why"
    ]


def test_a_name_means_the_one_engine_that_has_it() -> None:
    views = engine_views(all_well())
    assert which.engine(views, "coder@gpu-02").service == "coder@gpu-02"
    assert which.engine(views, "qwen").service == "qwen@gpu-01"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("coder", "coder runs on 2 hosts"),
        ("qwem", "did you mean  qwen"),
        ("qwen3-coder", "these engines serve it:  coder@gpu-01  coder@gpu-02"),
    ],
)
def test_a_name_that_means_none_or_several_is_told_what_it_could_be(name: str, said: str) -> None:
    with pytest.raises(CtlError) as caught:
        which.engine(engine_views(all_well()), name)
    assert said in f"{caught.value.what} {caught.value.why}"


def test_an_engine_without_a_babysitter_cannot_be_told_anything() -> None:
    views = engine_views(fleet([service("old", ["m"], babysitter_url=None)]))
    with pytest.raises(CtlError, match="no babysitter"):
        which.babysitter_of(views[0])


def one_engine(**more: object) -> Engine:
    return msgspec.convert(engine("a@h", str(more.pop("state", "READY")), [], **more), Engine)


def test_a_restart_is_done_only_with_a_new_life() -> None:
    before = one_engine(instance_id="1")
    assert not done("restart", before, before)
    assert not done("restart", before, one_engine(instance_id="2", state="STARTING"))
    assert done("restart", before, one_engine(instance_id="2"))


def test_a_start_of_a_running_engine_and_a_stop_of_a_stopped_one_are_done() -> None:
    assert done("start", one_engine(), one_engine())
    assert done("stop", one_engine(), one_engine(state="STOPPED"))
    assert not done("stop", one_engine(), one_engine(state="DRAINING"))


def test_wait_takes_models_services_and_engine_names() -> None:
    table = all_well().services
    listing = {"data": [{"id": "qwen3-coder"}, {"id": "virtual"}]}
    assert served("qwen3-coder", table, listing) == ["coder@gpu-01", "coder@gpu-02"]
    assert served("virtual", table, listing) == []
    assert served("qwen@gpu-01", table, listing) == ["qwen@gpu-01"]
    assert served("qwen", table, listing) == ["qwen@gpu-01"]
    assert served("nobody", table, listing) is None


def test_wait_does_not_take_an_unfit_service() -> None:
    one = fleet([service("a@h", ["m"], healthy=False)])
    assert served("a@h", one.services, {"data": []}) is None
