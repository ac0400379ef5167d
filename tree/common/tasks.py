"""Background tasks that somebody holds, so none is collected and no error is lost.

`spawn` keeps a reference until the task ends. An error in it is logged at once; where the task is
`fatal`, the error also ends the daemon (`common.daemon.run` listens through `on_fatal`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import structlog

_log = structlog.get_logger("tasks")
_held: set["asyncio.Task[Any]"] = set()
_on_fatal: "WeakKeyDictionary[asyncio.AbstractEventLoop, Callable[[BaseException], None]]" = (
    WeakKeyDictionary()
)

T = TypeVar("T")


def spawn(coro: Coroutine[Any, Any, T], name: str, *, fatal: bool = False) -> "asyncio.Task[T]":
    """Start `coro` as a held task called `name`. The caller cancels it, or lets it end.

    With `fatal`, an error in it ends the daemon with that error.
    """
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _held.add(task)
    task.add_done_callback(_ended_fatally if fatal else _ended)
    return task


async def cancel(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel `tasks` and wait until each has ended. Errors in them were logged by `spawn`."""
    present = [task for task in tasks if task is not None]
    for task in present:
        task.cancel()
    if present:  # `wait`, not `gather`: who cancels the caller must not wait for a stubborn task
        await asyncio.wait(present)


def on_fatal(act: Callable[[BaseException], None]) -> None:
    """Have `act(error)` called in this loop when a fatal task fails."""
    _on_fatal[asyncio.get_running_loop()] = act


def _ended(task: "asyncio.Task[Any]") -> None:
    _held.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        _log.error("task failed", task=task.get_name(), exc_info=error)


def _ended_fatally(task: "asyncio.Task[Any]") -> None:
    _ended(task)
    if task.cancelled():
        return
    error = task.exception()
    act = _on_fatal.get(task.get_loop())
    if error is not None and act is not None:
        act(error)
