"""When to stop sending to an upstream that keeps failing. Pure: no IO, no clock.

    CLOSED ──5 failures in a row──▶ OPEN ──30 s over──▶ HALF_OPEN (one trial at a time)
    HALF_OPEN ──3 trials succeed──▶ CLOSED          HALF_OPEN ──a trial fails──▶ OPEN

A permit is the number of the life in which a request was admitted: a life ends with each change of
state, and each trial is a life of its own. Results under an older permit are stragglers: they
change nothing. A trial that is given up goes to the next request.
"""

from enum import Enum
from math import ceil


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`state` as of the last call: an open one half-opens when it next admits somebody."""

    __slots__ = (
        "_failures",
        "_open_s",
        "_trials",
        "failures",
        "life",
        "state",
        "trial",
        "until",
        "won",
    )

    def __init__(self, failures: int = 5, open_s: float = 30.0, trials: int = 3) -> None:
        self._failures = failures
        self._open_s = open_s
        self._trials = trials
        self.state = State.CLOSED
        #: Failures in a row while closed.
        self.failures = 0
        #: What permits are checked against. Counts up.
        self.life = 0
        #: While open: when a trial may begin, in monotonic seconds. Else 0.
        self.until = 0.0
        #: A trial is running.
        self.trial = False
        #: Trials that succeeded in a row.
        self.won = 0

    def change(self, failures: int, open_s: float, trials: int) -> None:
        """Other numbers from now on. What it has counted stays counted, and an open one opens to
        trials when it was to."""
        self._failures = failures
        self._open_s = open_s
        self._trials = trials

    def admits(self, now: float) -> bool:
        """Whether `admit` would. Changes nothing."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            return now >= self.until
        return not self.trial

    def admit(self, now: float) -> int | None:
        """A permit for one request, or None. While half-open the request is the trial."""
        if self.state is State.CLOSED:
            return self.life
        if self.state is State.OPEN:
            if now < self.until:
                return None
            self._become(State.HALF_OPEN)
        elif self.trial:
            return None
        self.trial = True
        self.life += 1
        return self.life

    def succeeded(self, permit: int) -> bool:
        """The request was answered. True if the breaker closed by this."""
        if permit != self.life:
            return False
        if self.state is State.CLOSED:
            self.failures = 0
            return False
        if not self.trial:
            return False
        self.trial = False
        self.won += 1
        if self.won < self._trials:
            return False
        self._become(State.CLOSED)
        return True

    def failed(self, permit: int, now: float) -> bool:
        """The upstream failed it. True if the breaker opened by this."""
        if permit != self.life:
            return False
        if self.state is State.CLOSED:
            self.failures += 1
            if self.failures < self._failures:
                return False
        elif not self.trial:
            return False
        self._become(State.OPEN)
        self.until = now + self._open_s
        return True

    def abandoned(self, permit: int) -> None:
        """It ended without a verdict: a trial goes to the next request."""
        if permit == self.life:
            self.trial = False

    def describe(self, now: float) -> str:
        """For people: `breaker open, trial in 12 s`."""
        if self.state is State.CLOSED:
            return f"breaker closed, {self.failures} of {self._failures} failures"
        if self.state is State.OPEN:
            left_s = ceil(self.until - now)
            return f"breaker open, trial in {left_s} s" if left_s > 0 else "breaker open, trial due"
        running = "a trial runs" if self.trial else "trial due"
        return f"breaker half-open, {running}, {self.won} of {self._trials} won"

    def _become(self, state: State) -> None:
        self.state = state
        self.life += 1
        self.failures = self.won = 0
        self.until = 0.0
        self.trial = False
