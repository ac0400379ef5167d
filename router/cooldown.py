"""When an upstream that errs too often must rest, though its errors never come in a row. Pure.

    an error ─▶ `error_cooldown` of them within `error_window_s`? ─▶ it rests for `error_cooldown_s`

A breaker counts failures in a row: one that fails every other request never trips it. Off by
default; then there is nothing to ask. A rest ends when it was said to, or later: never earlier,
whatever says so after.
"""

from collections import deque

from router.config import Retry


class Errors:
    """One upstream's errors of late. Bounded: only as many are kept as make it rest."""

    __slots__ = ("_at", "_cooldown_s", "_most", "_window_s")

    def __init__(self, errors: int, window_s: float, cooldown_s: float) -> None:
        self._at: deque[float] = deque(maxlen=errors)
        self._most = errors
        self._window_s = window_s
        self._cooldown_s = cooldown_s

    def failed(self, now: float) -> float | None:
        """Until when it must rest because of this error. None: it need not."""
        at = self._at
        at.append(now)
        if len(at) < self._most or now - at[0] > self._window_s:
            return None
        at.clear()  # counted once: after its rest it begins anew
        return now + self._cooldown_s


def of(retry: Retry) -> Errors | None:
    """A new upstream's. None: off."""
    if not retry.error_cooldown:
        return None
    return Errors(retry.error_cooldown, retry.error_window_s, retry.error_cooldown_s)
