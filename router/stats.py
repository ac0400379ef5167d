"""What was counted: per model, in all, and the histograms behind /metrics. Pure: time is given.

    total = successful + failed + client_errors + cancelled, at every moment

A request counts once, when it ended, whatever its attempts. This module is the one place that
knows how counters are kept, so that several workers can share them later.
"""

from bisect import bisect_left

from router.budget import RetryBudget
from router.choose.rotation import Rotation
from router.outcome import Outcome
from router.window import Samples, Window

#: Upper bounds in seconds: from a cached embedding to a long generation.
BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip


class Histogram:
    """Counts per bucket (not cumulative; the last is +Inf) and the sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class ModelState:
    """One model's load, pace and rotation. Survives table swaps. `name` is "" for none."""

    __slots__ = (
        "budget",
        "durations",
        "first_byte",
        "first_bytes",
        "in_flight",
        "name",
        "outcomes",
        "queued",
        "requests",
        "retries",
        "rotation",
        "tokens",
        "tokens_in",
        "tokens_out",
    )

    def __init__(self, name: str, budget_percent: float, budget_floor_per_s: int) -> None:
        self.name = name
        self.in_flight = 0
        #: Requests that wait before an attempt (today: for a backoff).
        self.queued = 0
        self.requests = Window()
        self.tokens = Window()
        self.tokens_in = 0
        self.tokens_out = 0
        self.outcomes = [0] * len(Outcome)
        self.retries = 0
        self.first_bytes = Samples()
        self.first_byte = Histogram()
        self.durations = Histogram()
        self.budget = RetryBudget(self.requests, budget_percent, budget_floor_per_s)
        self.rotation = Rotation()


class Totals:
    """What `/stats` says about the router as a whole."""

    __slots__ = (
        "active_streams",
        "cancelled",
        "client_errors",
        "duration_sum",
        "failed",
        "requests",
        "successful",
        "tokens",
    )

    def __init__(self) -> None:
        self.successful = 0
        self.failed = 0
        self.client_errors = 0
        self.cancelled = 0
        self.tokens = 0
        #: Requests with `stream: true` whose answer began and has not ended.
        self.active_streams = 0
        self.duration_sum = 0.0
        self.requests = Window()

    @property
    def total(self) -> int:
        return self.successful + self.failed + self.client_errors + self.cancelled

    def count(self, outcome: Outcome, status: int) -> None:
        """One ended request. The router's own refusals count by their status."""
        if outcome is Outcome.OK:
            self.successful += 1
        elif outcome is Outcome.CLIENT or (outcome is Outcome.REFUSED and 400 <= status < 500):
            self.client_errors += 1
        elif outcome is Outcome.CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
