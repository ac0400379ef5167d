"""One timer for every timeout: it looks at all deadlines a few times a second.

A timer per request costs more than the requests; a deadline is a number on the connection.

Where this process itself stood still, what came meanwhile has yet to be read: nobody is late before
that. So a judgement that comes late is left out, once; the next one stands.
"""

import asyncio
from collections.abc import Callable

from common import clock

#: Timeouts come at most this much late, or twice this. The shortest limit is a connect's second.
INTERVAL_S = 0.2
#: A sweep that is later than this says that the process stood still.
LATE_S = INTERVAL_S


class Sweep:
    """Calls both with the time, until closed. `judge` ends what is late, `tidy` closes what is not
    used."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        judge: Callable[[float], None],
        tidy: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._judge = judge
        self._tidy = tidy
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._left_out = False

    def start(self) -> None:
        self._again(clock.monotonic())

    def _again(self, now: float) -> None:
        self._due = now + INTERVAL_S
        self._timer = self._loop.call_later(INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        now = clock.monotonic()
        is_late = now - self._due > LATE_S
        self._again(now)
        self._left_out = is_late and not self._left_out
        if not self._left_out:
            self._judge(now)
        self._tidy(now)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
