"""Counting over the last minute, and percentiles of what was really seen. Pure: time is given."""

from array import array

SECONDS = 60
_SAMPLES = 256


class Window:
    """A count per second, for a sliding minute."""

    __slots__ = ("_buckets", "_second")

    def __init__(self) -> None:
        self._buckets = [0] * SECONDS
        self._second = 0

    def add(self, now: float, count: int = 1) -> None:
        second = int(now)
        if second != self._second:
            self._roll(second)
        self._buckets[second % SECONDS] += count

    def total(self, now: float, seconds: int = SECONDS) -> int:
        """The sum of the last `seconds` (at most 60), the running one included."""
        second = int(now)
        if second != self._second:
            self._roll(second)
        if seconds >= SECONDS:
            return sum(self._buckets)
        return sum(self._buckets[(second - back) % SECONDS] for back in range(seconds))

    def _roll(self, second: int) -> None:
        gone = second - self._second
        if gone < 0:
            return  # a caller with an older `now`: its count lands a second off, no more
        for ahead in range(1, min(gone, SECONDS) + 1):
            self._buckets[(self._second + ahead) % SECONDS] = 0
        if gone >= SECONDS:
            self._buckets = [0] * SECONDS
        self._second = second


class Samples:
    """The last 256 measurements, in seconds."""

    __slots__ = ("_at", "_ring", "_sum", "seen")

    def __init__(self) -> None:
        self._ring = array("d")
        self._at = 0
        self.seen = 0
        self._sum = 0.0

    def add(self, value: float) -> None:
        if self.seen < _SAMPLES:
            self._ring.append(value)
        else:
            self._ring[self._at] = value
            self._at = (self._at + 1) % _SAMPLES
        self.seen += 1
        self._sum += value

    def percentile(self, percent: float) -> float | None:
        """The nearest-rank percentile: always a value that was measured. None before the first."""
        if not self._ring:
            return None
        ordered = sorted(self._ring)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(int(rank), 1) - 1]

    def mean(self) -> float | None:
        """Over everything seen, not only what is kept."""
        return self._sum / self.seen if self.seen else None
