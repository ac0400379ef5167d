"""The load counts what was answered, and voids the run when an answer was wrong."""

import pytest

from bench.load import LoadError, request, run_json, run_streams
from tests.support.mock import mock_here


async def test_it_asks_exactly_so_often() -> None:
    async with mock_here(models=["m"]) as mock:
        result = await run_json(mock.port, request("m", stream=False), 50, 4)
        assert result.done == len(result.latencies_ms) == 50
        stats = await mock.saw(completions=50)
        assert stats["connections"]["total"] == 4


async def test_it_counts_every_event_of_every_stream() -> None:
    async with mock_here(models=["m"], tokens=20) as mock:
        payload = request("m", stream=True)
        result = await run_streams(mock.port, payload, streams=3, events=23, spread_s=0.001)
        assert result.done == 3 * 23


async def test_events_in_pieces_are_counted_once() -> None:
    async with mock_here(models=["m"], tokens=5, faults=[{"split-bytes": 7}]) as mock:
        payload = request("m", stream=True)
        result = await run_streams(mock.port, payload, streams=2, events=8, spread_s=0)
        assert result.done == 16


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"cut": "middle"}, {"two-answers": True}, {"silent-close": True}]
)
async def test_a_wrong_answer_voids_the_run(fault: dict[str, object]) -> None:
    async with mock_here(models=["m"], faults=[fault]) as mock:
        with pytest.raises(LoadError):
            await run_json(mock.port, request("m", stream=False), 10, 2)


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": "event"}, {"error-event": 1}])
async def test_a_wrong_stream_voids_the_run(fault: dict[str, object]) -> None:
    async with mock_here(models=["m"], tokens=9, faults=[fault]) as mock:
        with pytest.raises(LoadError):
            await run_streams(mock.port, request("m", stream=True), 2, 12, 0)
