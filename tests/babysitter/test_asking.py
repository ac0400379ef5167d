"""An idle engine is asked for a token: the shell, against a mock engine on this loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from babysitter import events
from babysitter.asking import Asking
from babysitter.kinds import Given
from babysitter.kinds.mock import KIND
from babysitter.probe import Prober
from babysitter.settings import Settings
from common.http import client
from common.tasks import cancel, spawn
from tests.support.mock import MockHere, mock_here
from tests.support.until import until

QUICK: dict[str, Any] = {"canary_idle_s": 0.1, "canary_timeout_s": 0.2, "canary_failures": 2}
#: For one that answers: no machine is so slow that it answers too late.
PATIENT: dict[str, Any] = {"canary_timeout_s": 60}


class Watched:
    def __init__(self, mock: MockHere, asking: Asking, task: asyncio.Task[None]) -> None:
        self.mock = mock
        self.asking = asking
        self.task = task
        self.posted: list[events.Event] = []


@contextlib.asynccontextmanager
async def watched(**changes: Any) -> AsyncIterator[Watched]:
    faults = changes.pop("faults", [])
    async with mock_here(models=["m"], faults=faults) as mock, client() as http:
        given = Given(name="coder", host="127.0.0.1", port=mock.port, python="python3")
        settings = Settings(given=given, kind="mock", **{**QUICK, **changes})
        prober = Prober(http, "127.0.0.1", mock.port, KIND.plan(given).probe, ("m",))
        posted: list[events.Event] = []
        asking = Asking("a", settings, prober, ready=lambda: True, post=posted.append)
        asking.model = "m"
        task = spawn(asking.run(), "asking")
        found = Watched(mock, asking, task)
        found.posted = posted
        try:
            yield found
        finally:
            await cancel(task)


async def generated(mock: MockHere, count: int) -> bool:
    return int((await mock.stats())["completions"]) >= count


async def test_an_idle_engine_that_generates_is_asked_and_left_alone() -> None:
    async with watched(**PATIENT) as found:
        await until(lambda: generated(found.mock, 2))
        assert found.posted == [] and found.asking.doubt is None


async def test_one_that_generates_nothing_is_doubted_then_sick() -> None:
    async with watched(faults=[{"hang": "before"}]) as found:
        await until(lambda: len(found.posted) == 2)
        doubted, stalled = found.posted
        assert isinstance(doubted, events.Doubted) and isinstance(stalled, events.Stalled)
        assert doubted.text == (
            "idle, and generates nothing: no answer on /v1/chat/completions within 0.2 s"
        )
        await until(found.task.done)


async def test_one_that_comes_to_is_believed_again() -> None:
    async with watched(faults=[{"hang": "before", "times": 1}], canary_failures=1000) as found:
        await until(lambda: found.posted)
        await until(lambda: found.asking.doubt is None)
        assert {type(event) for event in found.posted} == {events.Doubted}


async def test_without_a_chat_template_a_completion_does() -> None:
    faults = [{"status": 400, "path": "/v1/chat/completions"}]
    async with watched(faults=faults, **PATIENT) as found:
        await until(lambda: generated(found.mock, 2))
        assert found.posted == []


async def test_a_stop_does_not_wait_for_our_own_request() -> None:
    async with watched(faults=[{"hang": "before"}], canary_timeout_s=60) as found:
        await until(lambda: found.asking._question is not None)
        found.asking.stop()
        await until(lambda: found.asking._question is None)
        assert found.posted == [] and not found.task.done()


async def test_off_it_asks_nothing_until_a_reload_says_so() -> None:
    async with watched(canary_idle_s=0.0, faults=[{"hang": "before"}]) as found:
        assert not found.asking._wanted.is_set()
        found.asking.retune(
            Settings(given=found.asking._settings.given, kind="mock", **QUICK), found.asking._prober
        )
        await until(lambda: bool(found.posted))


async def test_an_embedder_is_not_asked() -> None:
    async with watched(metadata={"capabilities": ("embed",)}) as found:
        assert not found.asking._wanted.is_set()
