"""Pace over the last minute, and percentiles of what was really seen. Pure.

Both cost a request one addition or one append; the rest is done when somebody asks.
"""

from bisect import bisect_right
from collections import deque
from math import fsum

SECONDS = 60
#: Enough for a 99th percentile, few enough to sort when asked.
SAMPLES_MAX = 256


class Pace:
    """A running `count`, noted once a second by `tick`."""

    __slots__ = ("_marks", "count", "minute_ago")

    def __init__(self) -> None:
        self.count = 0
        #: The count a minute ago, as of the last tick: `last()` is the difference.
        self.minute_ago = 0
        #: The count at the end of each of the last seconds, oldest first.
        self._marks: deque[int] = deque([0], maxlen=SECONDS)

    def tick(self) -> None:
        """Once a second."""
        self._marks.append(self.count)
        self.minute_ago = self._marks[0]

    def last(self, seconds: int = SECONDS) -> int:
        """How many in the last `seconds` (at most 60), the running one included."""
        marks = self._marks
        return self.count - (marks[-seconds] if seconds <= len(marks) else marks[0])


class Samples(deque[float]):
    """The last 256 measurements, in seconds. `append` adds one."""

    #: The newest and how many there were, when the median was last measured.
    _measured: tuple[float | None, int] = (None, 0)
    #: What `median` gave when it was last called: for those to whom an older one will do.
    p50: float | None = None

    def __init__(self) -> None:
        super().__init__(maxlen=SAMPLES_MAX)

    def median(self) -> float | None:
        """`percentile(50)`, sorted anew only after another measurement."""
        if not self:
            return None
        newest, count = self._measured
        if self[-1] is not newest or len(self) != count:
            self._measured = self[-1], len(self)
            self.p50 = self.percentile(50)
        return self.p50

    def percentile(self, percent: float) -> float | None:
        """The nearest-rank percentile: always a value that was measured. None before the first."""
        if not self:
            return None
        ordered = sorted(self)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(int(rank), 1) - 1]

    def mean(self) -> float | None:
        return round(fsum(self) / len(self), 9) if self else None


#: Upper bounds in seconds: from a cached embedding to a long generation.
BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
_FOLD_AT = 512


class Histogram:
    """Counts per bucket. Values are sorted in by hundreds: a fifth of the cost of one at a time."""

    __slots__ = ("_counts", "_sum", "_waiting")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0
        self._waiting: list[float] = []

    def add(self, seconds: float) -> None:
        waiting = self._waiting
        waiting.append(seconds)
        if len(waiting) >= _FOLD_AT:
            self._fold()

    def read(self) -> tuple[list[int], float]:
        """Counts (not cumulative; the last is +Inf) and the sum of all values."""
        self._fold()
        return self._counts, self._sum

    def merge(self, other: "Histogram") -> None:
        counts, total = other.read()
        self._fold()
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, counts, strict=True)]
        self._sum += total

    def _fold(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        waiting.sort()
        self._sum += sum(waiting)
        below = 0
        for at, bound in enumerate(BUCKETS):
            upto = bisect_right(waiting, bound, below)  # on the bound is in it, as `le` says
            self._counts[at] += upto - below
            below = upto
        self._counts[-1] += len(waiting) - below
        self._waiting = []
