"""A request that waits for its turn, where all that could serve it is full. Pure: time is given.

    look ─ all full ─▶ enter the queue ─┬─▶ Wait ─ offered ─▶ takes ─▶ called: its Attempt is ready
                                        │     └── time is up, or displaced ─┐
                                        └─▶ refused ────────────────────────┴─▶ look on: resting
                                              upstreams, then its chain; else that refusal

It waits before it falls back: a chain stands in for what is broken, not for what is busy. Only
where the wait would be too long the chain has it at once. What it takes is taken when it is
offered, so that nobody comes in between; it ends as any attempt does if its client left meanwhile.
"""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from router.caller import ANYBODY, Caller
from router.course import Course
from router.envelope import Envelope
from router.errors import Problem
from router.names.target import Target
from router.needs import Needs
from router.seam import Attempt, Step, Wait
from router.stats import ModelState
from router.upstream import Upstream
from router.waiting import asked, told
from router.waiting.line import Place, Verdict
from router.waiting.queues import Reason, Refusal

if TYPE_CHECKING:
    from router.brain import Brain


class Awaiting(Course):
    """The Plan's part that waits: a `waiting.line.Waiter`. Defaults stand on the class."""

    wake: Callable[[], None] | None = None
    caller: Caller = ANYBODY
    #: How urgent it is, as an index in BANDS, and how long it may wait, where it says so.
    band = asked.NORMAL
    patience_s: float | None = None
    #: Somebody who could serve it at the target that was looked at last has no place for it.
    full = False
    #: The targets for which that is so, where it may wait for them.
    crowded: tuple[Target, ...] = ()
    #: What it hears if nobody else serves it: it may not wait, or waited in vain.
    unplaced: Problem | None = None
    place: Place | None = None
    kind: object = None
    cost = 0
    #: Time spent waiting between attempts.
    queued_s = 0.0
    _waits_since = 0.0
    _waits = False
    #: It waits no more for a place, and was not asked yet what comes next.
    _called = False
    _ready: Attempt | None = None
    #: It is a limit of the file that every place is taken of.
    _limited = False
    #: Where a place has come free that nobody was offered yet.
    _frees: Upstream | None = None

    _brain: "Brain"
    attempts: int
    started: float
    client: str
    state: ModelState
    model: str | None
    envelope: Envelope
    capability: str | None
    needs: Needs

    def look(self, now: float) -> Upstream | None:
        raise NotImplementedError

    def next(self, now: float) -> Step:
        raise NotImplementedError

    def _start(self, upstream: Upstream, now: float) -> Step:
        raise NotImplementedError

    # --- what the queue says ----------------------------------------------------------------------

    def offered(self, now: float) -> Verdict:
        found = self.look(now)
        if found is None:
            full, self.crowded = self.crowded, ()
            self.restart(self._brain.config.retry.attempts_per_target)
            return Verdict.FULL if full else Verdict.GOES
        step = self._start(found, now)
        if isinstance(step, Attempt):
            self._ready = step
        else:  # limits that are shared are asked first: that is another wait
            self._waited(now)
        return Verdict.TAKES

    def displaced(self, wait_s: float | None) -> None:
        place = self.place
        assert place is not None
        refusal = Refusal(Reason.DISPLACED, wait_s, 0.0, len(place.line.order), place.leaf.count)
        self._unplaced(refusal)

    def called(self) -> None:
        self.place = None
        self._called = self._waits
        if self.wake is not None:
            self.wake()

    # --- what becomes of it -----------------------------------------------------------------------

    def _place(self, now: float) -> Upstream | Wait | None:
        """Wait for `crowded`; else whoever else may have it now, or nobody."""
        brain, config = self._brain, self._brain.config
        targets, self.crowded = self.crowded, ()
        most = config.retry.attempts_per_target
        over = [brain.over(self, one, now) for one in targets]  # type: ignore[arg-type]
        self._limited = any(over)
        self.kind = self if self.attempts else (self.resolution.all, self.capability, self.needs)
        limited = config.providers or any(target.limited for target in self.resolution.all)
        self.cost = self.envelope.prompt().tokens if limited else 0
        rests_s = brain.rests_s(targets, self.capability, now)
        found = brain.queues.enter(
            self,
            frozenset(target.key for target in targets),
            asked.path(self.caller, self.client, self.band, config.queue, config.tenants),
            self._patience_s(now),
            now,
            capacity=lambda: brain.capacity(targets, self.capability, now),
            rests_s=rests_s,
        )
        if isinstance(found, Place):
            self.place = found
            self.restart(most)
            wait_s = found.until - now
            return Wait(min(wait_s, rests_s) if rests_s else wait_s)
        self._unplaced(found)
        self.restart(most)
        return self.look(now)

    def _patience_s(self, now: float) -> float:
        said = inf if self.patience_s is None else self.patience_s - (now - self.started)
        return min(self._brain.config.queue.wait_max_s - self.queued_s, said)

    def _unplaced(self, refusal: Refusal) -> None:
        self.state.refused_place(refusal.reason.value)
        who = "" if self.caller is ANYBODY else f"key '{self.caller.name}'"
        self.unplaced = told.problem(refusal, self.model, who, limited=self._limited)

    def _why_nobody(self, now: float) -> Problem:
        """Where no attempt was made."""
        unplaced = self.unplaced
        said = self._brain.nothing_fit(self, now)  # type: ignore[arg-type]
        if unplaced is None or (said.status == 429 and not self._brain.config.queue.waiting_max):
            return said
        return unplaced

    def _begin_wait(self, now: float) -> None:
        self._waits = True
        self._waits_since = now
        self.state.queued += 1

    def _waited(self, now: float) -> None:
        """For a place, or for a backoff."""
        if self._waits:
            self._waits = False
            self.state.queued -= 1
            waited_s = now - self._waits_since
            self.queued_s += waited_s
            if self._called or self.place is not None:
                self.state.waits.add(waited_s)
        self._called = False

    def _after_wait(self, now: float) -> Step | None:
        """What it waited for, or how much longer. None: look for somebody."""
        if self.place is not None:
            self._brain.freed(now)  # a rest may be over: whose turn it is goes first
            place = self.place
            if place is not None:
                if now < place.until:
                    return Wait(place.until - now)
                self._late(place, now)
        self._waited(now)
        ready, self._ready = self._ready, None
        return ready

    def _late(self, place: Place, now: float) -> None:
        line = place.line
        wait_s = line.wait_s(place, now)
        refusal = Refusal(Reason.LATE, wait_s, now - place.since, len(line.order) - 1, 0)
        self._waited(now)
        self._leave_queue()
        self._unplaced(refusal)

    def _leave_queue(self) -> None:
        place, self.place = self.place, None
        if place is not None:
            self._brain.queues.leave(place)

    def _then(self, step: Step, now: float) -> Step:
        """`step`, once what has come free was offered: it may be this request's own turn."""
        self._offer(now)
        return self.next(now) if self._called and isinstance(step, Wait) else step

    def _offer(self, now: float) -> None:
        """What its attempt held that others wait for."""
        frees, self._frees = self._frees, None
        if frees is not None:
            self._brain.freed(now, frees)
