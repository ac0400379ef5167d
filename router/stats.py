"""What was counted, per model; the totals are their sum. Pure.

    total = successful + failed + client_errors + cancelled, at every moment

A request counts once, when it ended, whatever its attempts. This module is the one place that
knows how counters are kept, so that several workers can share them later.
"""

from collections.abc import Iterable

from msgspec import Struct

from router.budget import HedgeBudget, RetryBudget
from router.choose.rotation import Rotation
from router.config import Retry
from router.outcome import Outcome
from router.window import Histogram, Pace, Samples


class ModelState:
    """One model's load, pace and rotation. Survives table swaps. `name` is "" for none."""

    __slots__ = (
        "budget",
        "cache_hits",
        "cache_misses",
        "durations",
        "fallbacks",
        "first_byte",
        "first_bytes",
        "hedges",
        "hedging",
        "in_flight",
        "name",
        "outcomes",
        "queued",
        "refused_client",
        "requests",
        "resumes",
        "retries",
        "rotation",
        "tokens_in",
        "tokens_out",
        "unqueued",
        "waits",
    )

    def __init__(self, name: str, retry: Retry) -> None:
        self.name = name
        self.in_flight = 0
        #: Requests that wait before an attempt: for a place, or for a backoff.
        self.queued = 0
        #: How long those waited for a place that had to, and why others did not get one.
        self.waits = Histogram()
        self.unqueued: dict[str, int] = {}
        self.requests = Pace()
        self.tokens_out = Pace()
        self.tokens_in = 0
        self.outcomes = [0] * len(Outcome)
        #: Of the refused: those that were the caller's fault, by their 4xx.
        self.refused_client = 0
        self.retries = 0
        #: Streams that broke off where they may be resumed, by what became of them.
        self.resumes: dict[str, int] = {}
        #: Streams that a second upstream was asked for too, by whether it answered: won or lost.
        self.hedges: dict[str, int] = {}
        self.hedging = HedgeBudget(retry.hedge_percent)
        #: Requests that a model of the chain answered.
        self.fallbacks = 0
        #: Requests that the cache answered, and those that it might have.
        self.cache_hits = 0
        self.cache_misses = 0
        self.first_bytes = Samples()
        self.first_byte = Histogram()
        self.durations = Histogram()
        self.budget = RetryBudget(self.requests, retry.budget_percent, retry.budget_floor_per_s)
        self.rotation = Rotation()

    def reconfigure(self, retry: Retry) -> None:
        self.budget.allow(retry.budget_percent, retry.budget_floor_per_s)
        self.hedging.allow(retry.hedge_percent)

    def resumed(self, outcome: str) -> None:
        """ok, failed, no_upstream, refused or cancelled."""
        self.resumes[outcome] = self.resumes.get(outcome, 0) + 1

    def refused_place(self, reason: str) -> None:
        """share, wait, full, late or displaced."""
        self.unqueued[reason] = self.unqueued.get(reason, 0) + 1

    def hedged(self, how: str) -> None:
        """won or lost."""
        self.hedges[how] = self.hedges.get(how, 0) + 1

    def tick(self) -> None:
        """Once a second."""
        self.requests.tick()
        self.tokens_out.tick()
        self.budget.retries.tick()

    def absorb(self, other: "ModelState") -> None:
        """Keep what a state counted that is about to be dropped: totals never fall."""
        self.outcomes = [a + b for a, b in zip(self.outcomes, other.outcomes, strict=True)]
        self.refused_client += other.refused_client
        self.retries += other.retries
        for outcome, count in other.resumes.items():
            self.resumes[outcome] = self.resumes.get(outcome, 0) + count
        for reason, count in other.unqueued.items():
            self.unqueued[reason] = self.unqueued.get(reason, 0) + count
        self.waits.merge(other.waits)
        for how, count in other.hedges.items():
            self.hedges[how] = self.hedges.get(how, 0) + count
        self.fallbacks += other.fallbacks
        self.cache_hits += other.cache_hits
        self.cache_misses += other.cache_misses
        self.tokens_in += other.tokens_in
        self.tokens_out.count += other.tokens_out.count
        self.first_byte.merge(other.first_byte)
        self.durations.merge(other.durations)


class Totals(Struct, frozen=True):
    successful: int = 0
    failed: int = 0
    client_errors: int = 0
    cancelled: int = 0
    tokens: int = 0
    duration_sum_s: float = 0.0

    @property
    def total(self) -> int:
        return self.successful + self.failed + self.client_errors + self.cancelled


def totals(states: Iterable[ModelState]) -> Totals:
    """The router's own refusals count by their status: 4xx is the caller's, the rest is failed."""
    successful = failed = client = cancelled = tokens = 0
    duration_sum_s = 0.0
    for state in states:
        outcomes = state.outcomes
        successful += outcomes[Outcome.OK]
        client += outcomes[Outcome.CLIENT] + state.refused_client
        cancelled += outcomes[Outcome.CANCELLED]
        failed += sum(outcomes) - state.refused_client - sum(outcomes[o] for o in _NOT_FAILED)
        tokens += state.tokens_in + state.tokens_out.count
        duration_sum_s += state.durations.read()[1]
    return Totals(successful, failed, client, cancelled, tokens, duration_sum_s)


_NOT_FAILED = (Outcome.OK, Outcome.CLIENT, Outcome.CANCELLED)
