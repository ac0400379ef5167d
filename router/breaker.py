"""When to stop sending to an upstream that keeps failing. Pure: no IO, no clock.

    CLOSED ──5 failures in a row──▶ OPEN ──30 s over──▶ HALF_OPEN (one trial at a time)
    HALF_OPEN ──3 trials succeed──▶ CLOSED          HALF_OPEN ──a trial fails──▶ OPEN

A permit is the number of the state's life in which a request was admitted. Results under an older
permit are stragglers: they change nothing. A trial that is given up goes to the next request.
"""

from enum import Enum


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """`state` as of the last call; `until` is when an open one half-opens (monotonic seconds)."""

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
        #: Counts up with each change of state: what permits are checked against.
        self.life = 0
        self.until = 0.0
        #: A trial is running.
        self.trial = False
        #: Trials that succeeded in a row.
        self.won = 0

    def admits(self, now: float) -> bool:
        """Whether `admit` would. Changes nothing."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            return now >= self.until
        return not self.trial

    def admit(self, now: float) -> int | None:
        """A permit for one request, or None. While half-open it is the trial."""
        if self.state is State.CLOSED:
            return self.life
        if self.state is State.OPEN:
            if now < self.until:
                return None
            self._become(State.HALF_OPEN)
        if self.trial:
            return None
        self.trial = True
        return self.life

    def succeeded(self, permit: int) -> bool:
        """The request was answered. True if the breaker closed by this."""
        if permit != self.life:
            return False
        if self.state is State.CLOSED:
            self.failures = 0
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
        self._become(State.OPEN)
        self.until = now + self._open_s
        return True

    def abandoned(self, permit: int) -> None:
        """It ended without a verdict: a trial goes to the next request."""
        if permit == self.life:
            self.trial = False

    def _become(self, state: State) -> None:
        self.state = state
        self.life += 1
        self.failures = self.won = 0
        self.trial = False
