"""All that wait, for whatever model: who may, and who is offered what has come free. Pure.

    enter ─┬─▶ Place ─ offer ─▶ it takes ─▶ called
           │     └── leave: its client left, or its time is up
           └─▶ Refusal    share: for what its own caller has waiting      (429)
                          wait: it would be too late                      (503)
                          full: as many wait as may                       (503)

Where as many wait as may, one with a smaller share displaces one with a larger: whoever floods a
queue fills it for himself alone.
"""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from router.waiting.line import Key, Line, Path, Place, Verdict, Waiter, heaviest

if TYPE_CHECKING:
    from router.config import Queue


class Reason(Enum):
    """Why one may not wait, or no longer."""

    SHARE = "share"
    WAIT = "wait"
    FULL = "full"
    #: Its time was up before its turn came.
    LATE = "late"
    #: Its place went to one whose share is smaller.
    DISPLACED = "displaced"


class Refusal(Struct, frozen=True):
    """`wait_s`: predicted until its turn. None: not known. `waiting`: all for the same models, and
    `own` of them its caller's."""

    reason: Reason
    wait_s: float | None
    patience_s: float
    waiting: int
    own: int


class Queues:
    """`waiting` is how many do."""

    def __init__(self, config: "Queue") -> None:
        self.config = config
        self.waiting = 0
        self.lines: dict[Key, Line] = {}
        self._turns = 0
        self._offering = False
        self._again = False

    def enter(
        self,
        waiter: Waiter,
        key: Key,
        path: Path,
        patience_s: float,
        now: float,
        *,
        capacity: Callable[[], tuple[int, float | None]],
        rests_s: float = 0.0,
    ) -> Place | Refusal:
        """`capacity`: places, and how long each is taken; `rests_s`: no place comes before."""
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line(key, *capacity(), now)
        place = Place(waiter, line, path, now, now + patience_s)
        self.waiting += 1
        wait_s = line.wait_s(place, now)
        if wait_s is not None:
            place.predicted_s = wait_s = max(wait_s, rests_s)
        elif rests_s:
            place.predicted_s = wait_s = rests_s
        reason = self._refuses(place, patience_s, rests_s, now)
        if reason is None:
            return place
        found = Refusal(reason, wait_s, patience_s, len(line.order) - 1, place.leaf.count - 1)
        self.leave(place)
        return found

    def _refuses(
        self, place: Place, patience_s: float, rests_s: float, now: float
    ) -> Reason | None:
        line = place.line
        if patience_s <= 0:
            return Reason.WAIT
        if place.predicted_s is not None and place.predicted_s > patience_s:
            alone_s = line.wait_s(place, now, anew=True)
            served = alone_s is not None and max(alone_s, rests_s) <= patience_s
            return Reason.SHARE if served and place.leaf.count > 1 else Reason.WAIT
        for in_all, most in (
            (False, self.config.waiting_max),
            (True, self.config.waiting_in_all_max),
        ):
            if (self.waiting if in_all else len(line.order)) > most:
                victim = heaviest(self.lines.values() if in_all else [line], place)
                if victim is place:
                    return Reason.SHARE if place.leaf.count > 1 else Reason.FULL
                self.leave(victim)
                victim.waiter.displaced(victim.line.gap_s(now))
                victim.waiter.called()
        return None

    def leave(self, place: Place) -> None:
        """Without a turn."""
        line = place.line
        line.order.drop(place.leaf, place)
        self._left(place)

    def ahead(self, key: Key) -> int:
        """How many wait for the same."""
        line = self.lines.get(key)
        return 0 if line is None else len(line.order)

    # --- what has come free -----------------------------------------------------------------------

    def offer(self, now: float, reaches: Callable[[Key], bool] | None = None) -> None:
        """Whatever has come free, to whoever is next of those that can take it. `reaches`: only
        lines that it can be for. Lines that want the same take turns."""
        if self._offering:  # one that took a place gave back another
            self._again = True
            return
        self._offering = True
        try:
            self._offer(now, reaches)
            while self._again:
                self._again = False
                self._offer(now, None)
        finally:
            self._offering = self._again = False

    def _offer(self, now: float, reaches: Callable[[Key], bool] | None) -> None:
        lines = [line for key, line in self.lines.items() if reaches is None or reaches(key)]
        lines.sort(key=lambda line: line.turn)
        full: dict[object, int] = {}
        while lines:
            lines = [line for line in lines if self._serve(line, full, now)]

    def _serve(self, line: Line, full: dict[object, int], now: float) -> bool:
        """Its next, if there is a place for any of it. `full`: kinds that found none, at what cost;
        nothing comes free meanwhile."""
        if _none_left(line, full):
            return False
        going = []
        took = False
        for _, place in line.order:
            waiter = place.waiter
            cost = full.get(waiter.kind)
            if cost is not None and waiter.cost >= cost:
                continue
            verdict = waiter.offered(now)
            if verdict is Verdict.FULL:
                full[waiter.kind] = waiter.cost
                if _none_left(line, full):
                    break
                continue
            going.append(place)
            if verdict is Verdict.TAKES:
                took = True
                break
        for place in going:
            if took and place is going[-1]:
                line.order.take(place.leaf, place)
                line.moved(place, now)
                line.turn = self._turns = self._turns + 1
            else:
                line.order.drop(place.leaf, place)
            self._left(place)
        for place in going:
            place.waiter.called()
        return took

    def _left(self, place: Place) -> None:
        line = place.line
        line.left(place)
        self.waiting -= 1
        if not line.order:
            self.lines.pop(line.key, None)


def _none_left(line: Line, full: dict[object, int]) -> bool:
    """Every kind that waits there found no place, at no cost."""
    return all(full.get(kind) == 0 for kind in line.kinds)
