"""How many attempts may be repeated, so that trouble is not multiplied. Pure.

Per model: as many retries as 20 % of its requests in the last ten seconds, and always ten a
second. Retries after *unreachable* are bounded by attempts alone and never come here.
"""

from router.window import Pace

_SPAN_S = 10


#: Hedges that a quiet time saves up for a bad one.
_SAVED_MAX = 10.0


class HedgeBudget:
    """A share of a model's streams, however fast they come: each earns its part of a hedge.

    So that the first slow one may have one, it begins with one whole.
    """

    __slots__ = ("_saved", "_share")

    def __init__(self, percent: float) -> None:
        self._saved = 1.0
        self.allow(percent)

    def allow(self, percent: float) -> None:
        self._share = percent / 100

    def earned(self) -> None:
        """A stream that may be hedged was asked for."""
        self._saved = min(self._saved + self._share, _SAVED_MAX)

    @property
    def any(self) -> bool:
        return self._share > 0 and self._saved >= 1 - 1e-9

    def take(self) -> None:
        self._saved -= 1


class RetryBudget:
    """`requests` is the model's own Pace, counted elsewhere; `tick` both once a second."""

    __slots__ = ("_floor_per_s", "_requests", "_share", "refused", "retries")

    def __init__(self, requests: Pace, percent: float, floor_per_s: int) -> None:
        self._requests = requests
        self.retries = Pace()
        self.allow(percent, floor_per_s)
        self.refused = 0

    def allow(self, percent: float, floor_per_s: int) -> None:
        """Other limits from now on; what was taken stays taken."""
        self._share = percent / 100
        self._floor_per_s = floor_per_s

    def take(self) -> bool:
        """One retry, if there is any left."""
        if not self._has_any():
            self.refused += 1
            return False
        self.retries.count += 1
        return True

    def _has_any(self) -> bool:
        if self.retries.last(1) < self._floor_per_s:
            return True
        return self.retries.last(_SPAN_S) < self._share * self._requests.last(_SPAN_S)
