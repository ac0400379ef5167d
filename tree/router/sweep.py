"""One timer for every timeout: it looks at all deadlines a few times a second.

A timer per request costs more than the requests; a deadline is a number on the connection.
"""

import asyncio
from collections.abc import Callable

from common import clock

#: Timeouts come at most this much late. The shortest limit is a connect's second.
INTERVAL_S = 0.2


class Sweep:
    """Calls each of `looks` with the time, until closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *looks: Callable[[float], None]) -> None:
        self._loop = loop
        self._looks = looks
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(INTERVAL_S, self._sweep)
        now = clock.monotonic()
        for look in self._looks:
            look(now)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
