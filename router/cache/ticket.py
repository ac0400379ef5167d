"""A request whose answer may come from the cache, or go there: a Plan that looks first. Pure.

    NEW ─┬─ in memory ──────────────────────────────────────▶ Replay
         ├─ another asks it already ─▶ WAITS ─┬─ it lands ──▶ Replay, or SETTLED: nothing was kept
         │                                    └─ its turn, or waited too long ─▶ SETTLED
         └─ first ─▶ LOOKS in the shared store ─┬─ there ───▶ Replay
                                                └─ not, or not in time ─▶ SETTLED

SETTLED: an upstream is asked, as for any other request. `ended` leaves the flight on every path:
whoever leads one hands it on, or tells what became of it.
"""

from enum import Enum
from typing import TYPE_CHECKING

from router.cache import answer
from router.cache.collected import Collected, may_be_kept
from router.cache.entry import Entry
from router.cache.flights import Role
from router.outcome import Outcome
from router.plan import Plan
from router.seam import Attempt, Collector, End, Replay, Step, Wait

if TYPE_CHECKING:
    from router.cache.keeper import Cache
    from router.cache.question import Question
    from router.head import AnswerHead
    from router.upstream import Upstream

#: Of those that are passed on: overload, and what broke.
_MAYBE_NEXT = frozenset({408, 429, *range(500, 600)}) - {501}
_MISS_LINE = b"x-creche-cache: miss\r\n"


class _Phase(Enum):
    NEW = 0
    WAITS = 1
    LOOKS = 2
    SETTLED = 3


class Cached(Plan):
    """`asks` must be called before anything else is."""

    _phase = _Phase.NEW
    #: What it is answered with.
    _entry: Entry | None = None
    #: Its answer, once it has begun and may be kept.
    _collected: Collected | None = None
    #: It was told what became of the request that it waits for.
    _told = False
    _since = 0.0

    def asks(self, question: "Question", cache: "Cache") -> None:
        self._cache = cache
        self._key = question.key
        self._anew = question.anew
        self.keeps = True
        self.special = True

    # --- what the relay calls ---------------------------------------------------------------------

    def next(self, now: float) -> Step:
        if self._phase is _Phase.SETTLED:
            return super().next(now)
        if self._phase is _Phase.NEW and self.problem is not None:
            self._phase = _Phase.SETTLED  # refused before it could ask for anything
            return super().next(now)
        if self._phase is _Phase.NEW:
            wait = self._begin(now)
            if wait is not None:
                self._since = now
                return wait
        else:
            self.queued_s += now - self._since
            if self._phase is _Phase.WAITS and not self._told:
                self._cache.left(self._key, self)
        self._phase = _Phase.SETTLED
        if self._entry is not None:
            return self._replay(self._entry, now)
        self.cache = "miss"
        self.state.cache_misses += 1
        return super().next(now)

    def collect(self, head: "AnswerHead") -> Collector | None:
        """Where an answer begins that will not be kept nobody need wait for its end; but for one
        that may be due to whoever gave it, which the next may have otherwise."""
        self._uncollect()
        bytes_max = self._cache.entry_bytes_max
        if head.event_stream is self.envelope.stream and may_be_kept(head, bytes_max):
            self._collected = Collected(
                head.type, self._cache.room, bytes_max, self._unkept, events=head.event_stream
            )
        elif head.status not in _MAYBE_NEXT:
            self._unkept()
        return self._collected

    def ended(self, end: End) -> None:
        if not self._ended:
            self._land(end)
        super().ended(end)

    # --- what the cache tells ---------------------------------------------------------------------

    def lands(self, entry: Entry | None) -> None:
        """The request that it waits for has its answer. None: it may not be given twice."""
        self._told = True
        self._entry = entry

    def leads(self) -> None:
        """It is this one's turn to ask."""
        self._told = True

    def rouse(self) -> None:
        """What it was told may have come late: whatever else it waits for by now is not this."""
        if self.wake is not None and self._phase is not _Phase.SETTLED and not self._ended:
            self.wake()

    # --- its parts --------------------------------------------------------------------------------

    def _begin(self, now: float) -> Wait | None:
        """None: it is known what comes next."""
        cache, key = self._cache, self._key
        if self._anew:
            return None
        self._entry = cache.memory.get(key, now)
        if self._entry is not None:
            return None
        wait_s = min(cache.wait_s, self._patience_s(now))
        role = cache.flights.join(key, self) if wait_s > 0 else Role.ALONE
        if role is Role.WAITS:
            self._phase = _Phase.WAITS
            cache.waits += 1
            return Wait(wait_s)
        shared = cache.shared
        if shared is not None and shared.get(key, self._looked):
            self._phase = _Phase.LOOKS
            return Wait(shared.timeout_s)
        return None

    def _looked(self, entry: Entry | None) -> None:
        """What the shared store has. It may say so late, when nobody looks any more."""
        if self._phase is _Phase.LOOKS and not self._ended:
            if entry is not None:
                self._entry = entry
                self._cache.found(self._key, entry, self)
            self.rouse()

    def _replay(self, entry: Entry, now: float) -> Replay:
        self.cache = "hit"
        self.state.cache_hits += 1
        self.answer_model = entry.model
        lines = b"x-creche-service: %b\r\nx-creche-attempts: 0\r\nx-creche-cache: hit\r\n" % (
            entry.service.encode("latin-1", "replace")
        )
        self.answer_head = b"%b%bage: %d\r\n" % (self.lines, lines, max(0.0, now - entry.made))
        if self.explains:
            said = self._brain.compact_hit(self).encode("ascii", "replace")
            self.answer_head += b"x-creche-explain: %b\r\n" % said
        return Replay(entry.type, entry.body, events=entry.events)

    def _made(self, upstream: "Upstream") -> Attempt:
        attempt = super()._made(upstream)
        self.answer_head += _MISS_LINE
        return attempt

    def _land(self, end: End) -> None:
        """Out of its flight, with what it has to give."""
        cache, key = self._cache, self._key
        if self.cache == "hit":
            end.tokens_in = end.tokens_out = 0  # nobody worked for it
        if self.cache == "hit" or end.outcome is not Outcome.OK:
            cache.left(key, self)
        elif (entry := self._kept(end)) is not None:
            cache.keep(key, entry, self, end.ended)
        else:
            cache.unkept(key, self)
        self._uncollect()

    def _kept(self, end: End) -> Entry | None:
        """Not a chain's answer, which stands in only while it must; nor one that two engines gave,
        which neither of them would have."""
        collected, target = self._collected, self.target
        if collected is None or target is not self.resolution.first or self.broke_off:
            return None
        body = collected.whole()
        if body is None or not answer.is_good(body, self.route.family, events=collected.events):
            return None
        assert target is not None
        return Entry(
            collected.type,
            collected.events,
            body,
            self.service or "",
            self.answer_model,
            end.ended,
            end.ended + target.cache_s,
        )

    def _unkept(self) -> None:
        self._cache.unkept(self._key, self)

    def _uncollect(self) -> None:
        collected, self._collected = self._collected, None
        if collected is not None:
            collected.release()
