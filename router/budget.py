"""How many attempts may be repeated, so that trouble is not multiplied. Pure: time is given.

Per model: as many retries as 20 % of its requests in the last ten seconds, and always ten a
second. Retries after *unreachable* are bounded by attempts alone and never come here.
"""

from router.window import Window

_SPAN_S = 10


class RetryBudget:
    """`requests` is the model's own Window, counted elsewhere."""

    __slots__ = ("_floor_per_s", "_requests", "_retries", "_share", "refused")

    def __init__(self, requests: Window, percent: float, floor_per_s: int) -> None:
        self._requests = requests
        self._retries = Window()
        self._share = percent / 100
        self._floor_per_s = floor_per_s
        self.refused = 0

    def take(self, now: float) -> bool:
        """One retry, if there is any left."""
        if not self._within(now):
            self.refused += 1
            return False
        self._retries.add(now)
        return True

    def _within(self, now: float) -> bool:
        if self._retries.total(now, 1) < self._floor_per_s:
            return True
        allowed = self._share * self._requests.total(now, _SPAN_S)
        return self._retries.total(now, _SPAN_S) < allowed
