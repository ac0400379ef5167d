"""The status page from fixed fleets: what is broken, who feels it, what next."""

import re

import msgspec

from ctl import render
from ctl.fleet import Fleet
from ctl.judge import judge
from ctl.render import Paint
from tests.ctl.fleets import (
    NOW,
    ago,
    all_well,
    babysitter_record,
    engine,
    exit_of,
    fleet,
    provider,
    service,
)


def page(one: Fleet) -> list[str]:
    return render.status(judge(one, NOW))


def test_all_well_is_one_line_and_the_models() -> None:
    assert page(all_well()) == [
        "All well   2 hosts   3 engines ready   2 models   41 requests/s",
        "",
        "MODEL        READY  IN FLIGHT  QUEUE  FIRST TOKEN p50 / p99  TOKENS/s",
        "qwen3-32b      1/1         22      4       640 ms / 4.1 s !     1,902",
        "qwen3-coder    2/2          9      0      180 ms / 900 ms         611",
    ]


def test_a_fatal_engine_comes_first_with_its_effect_and_what_next() -> None:
    one = fleet(
        [service("qwen@gpu-01", ["qwen3"])],
        [
            engine("qwen@gpu-01", "READY", ["qwen3"]),
            engine("qwen@gpu-02", "BACKOFF", ["qwen3"], last_exit=exit_of("exit status 1")),
            engine(
                "qwen@gpu-07",
                "FATAL",
                ["qwen3"],
                last_exit=exit_of("CUDA out of memory"),
                restarts=5,
                pid=None,
            ),
        ],
        stats={"total_requests": 7, "models": {"qwen3": {"ready": 1, "total": 1}}},
    )
    assert page(one)[:8] == [
        "2 problems    3 hosts   1 of 3 engines ready   1 model   0 requests/s",
        "",
        "✗ qwen@gpu-07   FATAL 14 min     CUDA out of memory; 5 restarts",
        "    effect  qwen3 on 1 of 3 engines; no request failed",
        "    next    creche logs qwen@gpu-07",
        "! qwen@gpu-02   BACKOFF 14 min   exit status 1",
        "    effect  qwen3 on 1 of 3 engines; no request failed",
        "    next    creche logs qwen@gpu-02",
    ]


def test_a_model_without_a_ready_engine_says_that_its_requests_fail() -> None:
    one = fleet([], [engine("q@h", "FATAL", ["qwen3"], last_exit=exit_of("no such file"))])
    assert "    effect  nobody serves qwen3: its requests get 503" in page(one)


def test_no_request_failed_is_not_claimed_before_there_was_one_or_after_one_did() -> None:
    broken = [engine("q@h", "FATAL", ["m"]), engine("q@i", "READY", ["m"])]
    for counts in ({}, {"total_requests": 9, "failed_requests": 1}):
        stats = {**counts, "models": {"m": {"ready": 1, "total": 1}}}
        assert "no request failed" not in "\n".join(page(fleet([], broken, stats=stats)))


def test_a_fatal_engine_that_never_registered_is_found_in_its_babysitters_record() -> None:
    brief = {"state": "FATAL", "last_exit": exit_of("bad argument"), "restarts": 10}
    one = fleet([], records=[babysitter_record("gpu-09", {"coder": brief})])
    lines = page(one)
    assert lines[0].startswith("1 problem ")
    assert lines[2] == "✗ coder@gpu-09   FATAL   bad argument; 10 restarts"


def test_a_babysitters_own_word_outweighs_its_record() -> None:
    brief = {"state": "FATAL", "last_exit": exit_of("bad argument")}
    one = fleet(
        [service("coder@gpu-09", ["m"])],
        [engine("coder@gpu-09", "READY", ["m"])],
        records=[babysitter_record("gpu-09", {"coder": brief})],
    )
    assert page(one)[0].startswith("All well")


def test_a_lapsed_lease_tells_its_reason_and_the_last_heartbeat() -> None:
    reasons = [{"code": "lease_lapsed", "text": "lease lapsed"}]
    coder = service(
        "coder@gpu-11",
        ["m"],
        healthy=False,
        reasons=reasons,
        last_heartbeat=ago(23),
        babysitter_url=None,
    )
    one = fleet([coder, service("coder@gpu-12", ["m"], babysitter_url=None)])
    lines = page(one)
    assert lines[2] == "! coder@gpu-11   unfit   lease lapsed; last heartbeat 23 s ago"


def test_a_host_that_fell_silent_is_one_problem_not_one_per_engine() -> None:
    lapsed = {"healthy": False, "last_heartbeat": ago(30)}
    one = fleet(
        [service("a@gpu-11", ["m"], **lapsed), service("b@gpu-11", ["n"], **lapsed)],
        silent=[("http://gpu-11:8101", "no answer in time")],
    )
    lines = page(one)
    assert lines[0].startswith("1 problem ")
    assert lines[2].startswith("! gpu-11   silent 30 s   2 engines (a, b) unfit; babysitter silent")
    assert lines[3] == "    effect  nobody serves m: its requests get 503; " + (
        "nobody serves n: its requests get 503"
    )


def test_an_engine_that_came_back_is_a_note_not_a_problem() -> None:
    one = fleet(
        [service("a@h", ["m"])],
        [engine("a@h", "READY", ["m"], restarts=1, last_exit=exit_of("killed by SIGKILL", 4))],
    )
    lines = page(one)
    assert lines[0].startswith("All well")
    assert "· a@h is back: killed by SIGKILL 4 s ago; ready again" in lines


def test_an_engine_that_starts_for_the_first_time_is_a_note_with_its_progress() -> None:
    one = fleet([], [engine("a@h", "STARTING", [], since=ago(70), progress="loading 31 %")])
    assert page(one)[:3] == [
        "All well   1 host   0 of 1 engine ready   0 models   0 requests/s",
        "",
        "· a@h STARTING 1 min   loading 31 %",
    ]


def test_a_model_whose_only_engine_still_starts_is_a_problem_with_something_to_wait_for() -> None:
    one = fleet([], [engine("a@h", "STARTING", ["m"])])
    lines = page(one)
    assert lines[2] == "! m   no engine   0 of 1 ready: starting"
    assert lines[4] == "    next    creche wait m"


def test_stopped_engines_are_no_problem_and_not_counted() -> None:
    one = fleet(
        [service("a@h", ["m"])],
        [engine("a@h", "READY", ["m"]), engine("b@h", "STOPPED", ["n"], pid=None)],
    )
    lines = page(one)
    assert lines[0] == "All well   1 host   1 engine ready   1 model   0 requests/s"
    assert "· b@h is stopped   (creche engine start b@h)" in lines


def test_draining_is_somebodys_will_and_so_no_problem() -> None:
    one = fleet(
        [service("a@h", ["m"], draining=True, in_flight=3, healthy=False), service("b@h", ["m"])],
        [engine("a@h", "READY", ["m"]), engine("b@h", "READY", ["m"])],
        stats={"models": {"m": {"ready": 1, "total": 2}}},
    )
    lines = page(one)
    assert lines[0].startswith("All well")
    assert "· a@h takes no new requests (ready); 3 in flight" in lines


def test_a_router_without_its_registry_says_what_still_works() -> None:
    one = fleet(
        [service("a@h", ["m"])],
        [engine("a@h", "READY", ["m"])],
        stats={"models": {"m": {"ready": 1, "total": 1}}},
        connected=False,
        registry_silent="connection refused",
    )
    lines = page(one)
    assert lines[2] == "! registry   away   http://10.0.0.10:18000: connection refused"
    assert lines[3].startswith("    effect  requests go on with the engines known so far")


def test_a_registry_that_only_we_cannot_reach_is_a_note() -> None:
    one = fleet(
        [service("a@h", ["m"])],
        [engine("a@h", "READY", ["m"])],
        stats={"models": {"m": {"ready": 1, "total": 1}}},
        registry_silent="no answer in time",
    )
    lines = page(one)
    assert lines[0].startswith("All well")
    assert any("the registry did not tell" in line for line in lines)


def test_an_open_breaker_and_a_set_aside_upstream_are_told() -> None:
    one = fleet(
        [service("a@h", ["m"]), service("b@h", ["m"], set_aside=True)],
        [engine("a@h", "READY", ["m"]), engine("b@h", "READY", ["m"])],
        stats={
            "services": {"a@h": {"breaker": "open"}},
            "models": {"m": {"ready": 2, "total": 2}},
        },
    )
    text = "\n".join(page(one))
    assert "! a@h   breaker open" in text
    assert "! b@h   set aside" in text


def test_what_the_routers_traffic_leaves_out_is_not_counted_and_says_why() -> None:
    one = fleet(
        [
            service("a@h", ["m"]),
            service("b@h", ["m"], set_aside=True, why_out="connect"),
            service("c@h", ["m"], set_aside=True, why_out="answers", node_health="unhealthy"),
            service("d@h", ["m"], breaker="open"),
            service("e@h", ["m"], resting_s=11.2),
        ],
        [engine(f"{name}@h", "READY", ["m"]) for name in "abcde"],
        stats={"total_requests": 9, "models": {"m": {"ready": 1, "total": 5}}},
    )
    lines = page(one)
    assert lines[0].startswith("4 problems    1 host   1 of 5 engines ready")
    text = "\n".join(lines)
    assert "! b@h   set aside      the router could not connect; it tries every second" in text
    assert "! c@h   set aside      several requests in a row failed on it" in text
    assert "! d@h   breaker open   several requests in a row failed on it" in text
    assert "! e@h   resting 12 s   it answered 429" in text
    assert "    effect  m on 1 of 5 engines; no request failed" in text


def test_one_that_is_tried_since_nobody_else_is_left_gets_no_503() -> None:
    rests = {"m": {"ready": 0, "total": 1, "last_resort": True}}
    one = fleet(
        [service("a@h", ["m"], resting_s=3)],
        [engine("a@h", "READY", ["m"])],
        stats={"models": rests},
    )
    assert "    effect  nobody else serves m: it is tried all the same" in page(one)


def test_other_names_that_lead_to_what_is_out_are_told_with_it() -> None:
    down = {"ready": 0, "total": 1, "services": ["a@h"]}
    models = {"m": down, "fast": {**down, "configured": True}}
    models["code"] = {**down, "configured": True, "by_chain": True}
    one = fleet([], [engine("a@h", "FATAL", ["m"])], stats={"models": models})
    assert page(one)[0].startswith("1 problem ")
    assert (
        "    effect  nobody serves code: its fallbacks do; nobody serves fast: its requests get "
        "503; nobody serves m: its requests get 503"
    ) in page(one)


def test_a_model_that_the_file_expects_and_nobody_has_is_a_problem() -> None:
    absent = {"ready": 0, "total": 0, "configured": True}
    stats = {"models": {"qwen3": absent}, "absent_expected": ["qwen3"]}
    lines = page(fleet([service("a@h", ["m"])], [engine("a@h", "READY", ["m"])], stats=stats))
    assert lines[0].startswith("1 problem ")
    assert lines[2] == "! qwen3   absent   the router's file expects it, and nobody serves it"
    assert lines[3:5] == [
        "    effect  requests for qwen3 get 503",
        "    next    creche wait qwen3",
    ]


def test_a_configured_name_that_nobody_can_serve_is_a_problem_unless_its_chain_does() -> None:
    one = {"ready": 0, "total": 0, "configured": True}
    stats = {"models": {"code": one, "chained": {**one, "by_chain": True}}}
    lines = page(fleet([service("a@h", ["m"])], [engine("a@h", "READY", ["m"])], stats=stats))
    assert lines[0].startswith("1 problem ")
    assert lines[2].startswith("! code   unserved   the router's file names it, and nobody serves")
    assert lines[4] == "    next    creche explain --model code"


def test_a_provider_is_no_engine_and_on_no_host_and_nobody_knows_of_it_before_traffic() -> None:
    stats = {"models": {"gpt": {"ready": 1, "total": 1, "unasked": 1}}}
    one = fleet(
        [service("a@h", ["m"]), provider("cloud", ["gpt"])],
        [engine("a@h", "READY", ["m"])],
        stats=stats,
    )
    lines = page(one)
    assert lines[0] == ("All well   1 host   1 engine ready   1 provider   2 models   0 requests/s")
    assert lines[3].split()[:2] == ["gpt", "?/1"]


def test_what_to_do_about_a_provider_is_something_that_works() -> None:
    away = provider("cloud", ["gpt"], request_count=3, set_aside=True, why_out="connect")
    lines = page(fleet([away], stats={"models": {"gpt": {"ready": 0, "total": 1}}}))
    assert lines[2].startswith("! cloud   set aside   the router could not connect")
    assert lines[4] == (
        "    next    is http://10.9.9.9:443/v1 well?   "
        "to leave it out:  creche provider disable cloud --reload"
    )


def test_a_file_that_no_restart_would_take_is_a_problem_before_the_restart() -> None:
    engines = [engine("a@h", "READY", ["m"])]
    broken = {"file_differs": True, "file_problem": 'unknown key "strategey"', "message": "failed"}
    lines = page(fleet([service("a@h", ["m"])], engines, config=broken))
    assert lines[0].startswith("1 problem ")
    assert lines[2:5] == [
        '✗ configuration   broken   /etc/creche/router.toml: unknown key "strategey"',
        "    effect  the router goes on with version 12; a restart would not come up",
        "    next    creche config check /etc/creche/router.toml   or:  creche config rollback",
    ]


def test_a_reload_that_was_refused_or_undone_is_a_problem_until_one_goes_well() -> None:
    engines = [engine("a@h", "READY", ["m"])]
    undone = {"file_differs": True, "message": "the reload was undone: nothing would serve"}
    lines = page(fleet([service("a@h", ["m"])], engines, config=undone))
    assert lines[2].startswith("! configuration   not in force   the reload was undone")
    assert lines[4] == "    next    creche config reload   or:  creche config rollback"


def test_a_file_that_waits_for_its_reload_is_worth_knowing() -> None:
    engines = [engine("a@h", "READY", ["m"])]
    lines = page(fleet([service("a@h", ["m"])], engines, config={"file_differs": True}))
    assert lines[0].startswith("All well")
    assert lines[2] == (
        "· /etc/creche/router.toml says something else by now   (creche config reload)"
    )


def test_a_name_conflict_is_told_in_full() -> None:
    text = "the name a@h is leased at 10.0.0.9:8100"
    one = fleet([], [engine("a@h", "READY", ["m"], conflict=text)])
    assert page(one)[2] == f"✗ a@h   conflict   {text}"


def test_a_ready_engine_that_no_router_sees_is_a_problem_after_a_moment() -> None:
    fresh = fleet([], [engine("a@h", "READY", [], since=ago(1))])
    stale = fleet([], [engine("a@h", "READY", [], since=ago(60))])
    assert page(fresh)[0].startswith("All well")
    assert page(stale)[2].startswith("! a@h   unseen 1 min   ready, but the router has no record")


def test_an_empty_fleet_is_not_well() -> None:
    lines = page(fleet([]))
    assert lines[0].startswith("1 problem ")
    assert lines[2] == "! fleet   empty   no engine is registered"


def test_a_fleet_whose_every_engine_was_stopped_is_as_somebody_wanted_it() -> None:
    assert page(fleet([], [engine("a@h", "STOPPED", ["m"])]))[0].startswith("All well")


def test_engines_of_older_clients_without_a_babysitter_count_as_the_router_sees_them() -> None:
    one = fleet([service("old", ["m"], babysitter_url=None, metadata={})])
    assert judge(one, NOW).engines_ready == 1


def test_the_report_as_json_holds_what_the_page_says() -> None:
    table = msgspec.json.decode(msgspec.json.encode(judge(all_well(), NOW)))
    assert table["engines_total"] == 3
    assert table["problems"] == []
    assert table["models"][0]["ttft_p99_ms"] == 4100.0


def test_colour_changes_no_width() -> None:
    plain = render.status(judge(all_well(), NOW))
    coloured = render.status(judge(all_well(), NOW), Paint(True))
    assert coloured != plain
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain
