"""How many requests an upstream takes at once, and what it is believed to take. Pure.

    declared     as its record says: `metadata.max_concurrency`
    learnt       unknown ──refused at n in flight──▶ n - 1 ──refused at fewer──▶ fewer
                 n ──RAISE_AFTER · n good answers while it was full──▶ n + 1
                 ──FORGET_S without a refusal──▶ unknown
    cap          the smaller of the two

A burst is refused from the top: of 14 in flight where 4 fit, ten refusals come back at 14, 13 … 5
in flight, and the last leaves 4. A single request that was refused says nothing of how many.
"""

#: Each raise may cost a refusal: one in so many full rounds.
RAISE_AFTER = 8
#: What refused at noon may have room in the evening.
FORGET_S = 600.0


class Slots:
    """One upstream's. `cap` counts where it is `known`; who knows neither has no use for this."""

    __slots__ = ("_good", "_refused_at", "cap", "declared", "learnt")

    def __init__(self, declared: int | None = None) -> None:
        self.declared = declared
        self.learnt: int | None = None
        self.cap = 0
        #: Good answers while it was full, since the last change.
        self._good = 0
        self._refused_at = 0.0
        self._settle()

    @property
    def known(self) -> bool:
        return self.cap > 0

    def declare(self, declared: int | None) -> None:
        """Its record changed."""
        self.declared = declared
        self._settle()

    def refused(self, in_flight: int, now: float) -> None:
        """It asked for less. `in_flight`: the one that was refused included."""
        if in_flight < 2 and not self.known:
            return
        self._refused_at = now
        self._good = 0
        less = max(in_flight - 1, 1)
        self.learnt = less if self.learnt is None else min(self.learnt, less)
        self._settle()

    def served(self, in_flight: int) -> None:
        """It answered well. `in_flight`: the one that it answered included."""
        learnt = self.learnt
        if learnt is None or in_flight < learnt:
            return
        self._good += 1
        if self._good >= RAISE_AFTER * learnt:
            self._good = 0
            self.learnt = learnt + 1
            self._settle()

    def forget(self, now: float) -> None:
        """What was learnt too long ago."""
        if self.learnt is not None and now - self._refused_at >= FORGET_S:
            self.learnt = None
            self._settle()

    def _settle(self) -> None:
        if self.learnt is not None and self.declared is not None and self.learnt >= self.declared:
            self.learnt = None  # it takes what it declares
        self.cap = self.learnt or max(self.declared or 0, 0)  # records say what they like
