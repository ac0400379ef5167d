"""Time that stands still while the registry itself did. Pure: the real time is an argument.

A registry that was stopped, starved or swapped out could not hear beats, so the time it missed must
not count against anybody. It looks at the clock at least every `tick_s`; a longer gap than
`stall_s` means that it stalled, and what it missed is taken out. `pause` does the same for a time
in which a store that others share could not be asked who was heard.
"""


class LeaseClock:
    """`read(monotonic_s)` gives lease time. `stalled_s` is all that was taken out so far."""

    def __init__(self, now: float, *, tick_s: float, stall_s: float) -> None:
        self._tick_s = tick_s
        self._stall_s = stall_s
        self._seen = now
        self._told = now
        self._paused_at: float | None = None
        self.stalled_s = 0.0

    def read(self, now: float) -> float:
        """Lease time at monotonic time `now`. Never goes back."""
        gap = now - self._seen
        if gap > self._stall_s:
            self.stalled_s += gap - self._tick_s
        self._seen = max(self._seen, now)
        if self._paused_at is None:
            self._told = max(self._told, self._seen - self.stalled_s)
        return self._told

    @property
    def paused(self) -> bool:
        return self._paused_at is not None

    def pause(self, now: float, since: float) -> None:
        """Lease time stands still from `now`; when it goes on, all since `since` is taken out."""
        if self._paused_at is None:
            self.read(now)
            self._paused_at = since - self.stalled_s

    def resume(self, now: float) -> None:
        if self._paused_at is None:
            return
        # What a stall took out meanwhile is part of this.
        self._seen = max(self._seen, now)
        self.stalled_s = max(self.stalled_s, self._seen - self._paused_at)
        self._paused_at = None
