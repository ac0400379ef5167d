"""Tasks are held, their errors told, fatal ones heard."""

import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from common import tasks


async def fails() -> None:
    raise ValueError("the disk is full")


async def test_an_error_in_a_task_nobody_awaits_is_logged_at_once() -> None:
    with capture_logs() as logs:
        task = tasks.spawn(fails(), "writer")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert [(one["event"], one["task"]) for one in logs] == [("task failed", "writer")]


async def test_a_task_nobody_keeps_is_not_collected() -> None:
    done = asyncio.Event()
    gate = asyncio.Event()

    async def waits() -> None:
        await gate.wait()
        done.set()

    tasks.spawn(waits(), "waiter")
    await asyncio.sleep(0)
    gc.collect()
    gate.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_a_fatal_task_that_fails_is_heard_and_an_ordinary_one_is_not() -> None:
    heard: list[BaseException] = []
    tasks.on_fatal(heard.append)
    with capture_logs():
        await asyncio.wait([tasks.spawn(fails(), "ordinary")])
        await asyncio.sleep(0)
        assert heard == []
        await asyncio.wait([tasks.spawn(fails(), "vital", fatal=True)])
        await asyncio.sleep(0)
    assert [str(one) for one in heard] == ["the disk is full"]


async def test_a_cancelled_task_is_no_failure() -> None:
    heard: list[BaseException] = []
    tasks.on_fatal(heard.append)
    with capture_logs() as logs:
        task = tasks.spawn(asyncio.Event().wait(), "waiter", fatal=True)
        await tasks.cancel(task, None)
    assert task.cancelled()
    assert (heard, logs) == ([], [])


async def test_cancel_waits_for_the_cleaning_up() -> None:
    cleaned = []

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = tasks.spawn(tidy(), "tidy")
    await asyncio.sleep(0)
    await tasks.cancel(task)
    assert cleaned == [True]


async def test_cancelling_the_canceller_is_not_swallowed() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await gate.wait()
                return
            except asyncio.CancelledError:
                continue

    gate = asyncio.Event()
    task = tasks.spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    canceller = tasks.spawn(tasks.cancel(task), "canceller")
    await asyncio.sleep(0)
    canceller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceller
    gate.set()
    await task
