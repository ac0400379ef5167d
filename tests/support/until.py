"""Waiting for something that can be asked for: never a fixed sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
STEP_S = 0.01


async def until(ask: Callable[[], T | Awaitable[T]], timeout_s: float = 30.0, what: str = "") -> T:
    """Ask until the answer is truthy, and return it. Raises AssertionError after `timeout_s`.

    The last question is put when the time is over: where the test itself stood still, an answer
    from before says nothing.
    ConnectionError, OSError and AssertionError in `ask` count as "not yet".
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        is_over = time.monotonic() > deadline
        try:
            answer = ask()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer  # type: ignore[return-value]
            last = answer
        except (OSError, AssertionError) as why:
            last = why
        if is_over:
            raise AssertionError(f"not within {timeout_s:g} s: {what or ask} (last: {last!r})")
        await asyncio.sleep(STEP_S)


def until_sync(ask: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """`until` for tests without a loop."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        is_over = time.monotonic() > deadline
        try:
            if answer := ask():
                return answer
            last = answer
        except (OSError, AssertionError) as why:
            last = why
        if is_over:
            raise AssertionError(f"not within {timeout_s:g} s: {what or ask} (last: {last!r})")
        time.sleep(STEP_S)
