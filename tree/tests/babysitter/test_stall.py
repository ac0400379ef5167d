"""The progress watchdog on plain numbers."""

import pytest

from babysitter.kinds import llama_cpp, mock, vllm
from babysitter.kinds.base import Progress
from babysitter.stall import Reading, StallWatch, read

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:generation_tokens_total{engine="0",model_name="m"} 100.0
vllm:prompt_tokens_total{engine="0",model_name="a b{c}"} 7e2
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:num_requests_running_ever 9
vllm:other NaN
"""


def seen(watch: StallWatch, *readings: tuple[float, float, float]) -> list[str | None]:
    return [watch.observe(Reading(flight, 0, work), at) for at, flight, work in readings]


def test_requests_in_flight_and_nothing_moves() -> None:
    watch = StallWatch(90)
    assert seen(watch, (0, 1, 5), (60, 1, 5), (89, 1, 5)) == [None] * 3
    assert seen(watch, (90, 1, 5)) == ["1 request in flight and no token for 90 s"]


def test_anything_that_moves_begins_the_time_anew() -> None:
    watch = StallWatch(90)
    assert seen(watch, (0, 3, 5), (80, 3, 6), (160, 3, 6)) == [None] * 3
    assert seen(watch, (171, 3, 6)) == ["3 requests in flight and no token for 91 s"]


def test_an_idle_engine_never_stalls() -> None:
    assert seen(StallWatch(90), *((at, 0, 5) for at in range(0, 1000, 100))) == [None] * 10


def test_the_time_counts_from_when_a_request_came_not_from_the_last_token() -> None:
    assert seen(StallWatch(90), (0, 0, 5), (1000, 1, 5), (1050, 1, 5)) == [None] * 3


def test_off() -> None:
    assert seen(StallWatch(0), (0, 1, 5), (10_000, 1, 5)) == [None, None]


def test_vllms_metrics() -> None:
    assert read(vllm.PROGRESS, VLLM) == Reading(2.0, 1.0, 800.0, 0.5)


def test_the_load_that_a_beat_carries() -> None:
    full = Reading(2.0, 1.0, 800.0, 0.51239)
    assert full.load == {"in_flight": 3.0, "running": 2.0, "waiting": 1.0, "cache_use": 0.512}
    assert "cache_use" not in Reading(2.0, 1.0, 800.0).load


def test_the_older_name_of_vllms_cache_does_as_well() -> None:
    text = b"vllm:num_requests_running 0\nvllm:gpu_cache_usage_perc 0.125\n"
    assert read(vllm.PROGRESS, text) == Reading(0.0, 0.0, 0.0, 0.125)


def test_llama_cpps_metrics_also_as_one_json_string() -> None:
    text = (
        b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\nllamacpp:n_decode_total 9"
    )
    expected = Reading(1.0, 0.0, 9.0)
    assert read(llama_cpp.PROGRESS, text) == expected
    assert read(llama_cpp.PROGRESS, b'"' + text.replace(b"\n", rb"\n") + b'"') == expected


def test_what_is_no_number_is_left_out() -> None:
    text = b"vllm:num_requests_running NaN\nvllm:num_requests_waiting 1\n"
    assert read(vllm.PROGRESS, text) == Reading(0.0, 1.0, 0.0)


@pytest.mark.parametrize("progress", [vllm.PROGRESS, mock.PROGRESS])
@pytest.mark.parametrize("body", [b"", b"<html>404</html>", b"[1]", b'"half', b"\xff\x00{"])
def test_what_tells_nothing_is_nothing(progress: Progress, body: bytes) -> None:
    assert read(progress, body) is None
