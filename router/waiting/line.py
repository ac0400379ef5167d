"""Those that wait for the same models: their order, and how fast it moves. Pure: time is given.

    wait of one more = its position × the gap between two turns × slip

The gap is measured while somebody waits, smoothed; before the first it is what answers took lately
over the places there are. Where nothing moves it grows. `slip`: who has much waiting is overtaken
by others that ask seldom; by how much is learnt from those that had their turn.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from router.waiting.fair import Fair, Share, Step, last, position

#: What is waited for: models and provider of each target that was full.
Key = frozenset[tuple[tuple[str, ...], str | None]]
#: Its band (0 is the highest), its tenant where it has one, and its caller: each with its weight.
Path = tuple[Step, ...]
#: How much the last gap counts, and the last turn of one that was far back.
_NEWEST = 0.1
#: Nearer positions slip by nothing: they are next whoever comes.
FAR = 8
_SLIP_MAX = 4.0


class Verdict(Enum):
    """What one that waits says to an offer."""

    #: It has its place.
    TAKES = "takes"
    #: Nothing that has come free is for it.
    FULL = "full"
    #: Nothing is left to wait for, or that needs waiting: it goes on by itself.
    GOES = "goes"


class Waiter(Protocol):
    #: Waiters of one kind take the same places …
    kind: object
    #: … but for what this one costs more, where limits count that.
    cost: int

    def offered(self, now: float) -> Verdict: ...

    def displaced(self, wait_s: float | None) -> None:
        """Its place went to one whose share is smaller."""
        ...

    def called(self) -> None:
        """It waits no more: go on. From here on it is not asked again."""
        ...


class Place:
    """One that waits. `until` is monotonic time."""

    __slots__ = (
        "leaf", "line", "path", "position", "predicted_s", "since", "turns", "until", "waiter",
    )  # fmt: skip

    def __init__(
        self, waiter: Waiter, line: "Line", path: Path, since: float, until: float
    ) -> None:
        self.waiter = waiter
        self.line = line
        self.path = path
        self.since = since
        self.until = until
        #: As it was predicted when it came. None: nothing was known.
        self.predicted_s: float | None = None
        self.leaf: Share[Place] = line.order.push(path, self)
        #: When it came, and how many turns there had been.
        self.position = position(self.leaf, self.leaf.count)
        self.turns = line.turns
        line.kinds[waiter.kind] = line.kinds.get(waiter.kind, 0) + 1


class Line:
    """`turn` says when it was last served, beside other lines that want the same places."""

    __slots__ = (
        "_gap_s", "_moved", "_places", "_slip", "key", "kinds", "order", "turn", "turns",
    )  # fmt: skip

    def __init__(self, key: Key, places: int, service_s: float | None, now: float) -> None:
        """`places` take `service_s` each, as far as is known."""
        self.key = key
        self.order: Fair[Place] = Fair()
        self.turn = 0
        #: How many it had.
        self.turns = 0
        self._slip = 1.0
        #: Of those that wait, and how many are of each.
        self.kinds: dict[object, int] = {}
        self._places = max(places, 1)
        self._gap_s = None if service_s is None else service_s / self._places
        self._moved = now

    def left(self, place: Place) -> None:
        """It is in the order no more."""
        kind = place.waiter.kind
        many = self.kinds.pop(kind) - 1
        if many:
            self.kinds[kind] = many

    def moved(self, place: Place, now: float) -> None:
        """One had its turn."""
        self.turns += 1
        if place.position >= FAR:
            slip = min((self.turns - place.turns) / place.position, _SLIP_MAX)
            self._slip = max(self._slip + _NEWEST * (slip - self._slip), 1.0)
        gap, before = max(now - self._moved, 0.0), self._gap_s
        self._gap_s = gap if before is None else before + _NEWEST * (gap - before)
        self._moved = now

    def gap_s(self, now: float) -> float | None:
        """Between two turns. None: not known."""
        if self._gap_s is None:
            return None
        return max(self._gap_s, (now - self._moved) / self._places)

    def wait_s(self, place: Place, now: float, *, anew: bool = False) -> float | None:
        """Until the last of those that wait in its leaf has its turn. `anew`: until the first of
        one has it that had nothing waiting, and no turn of late."""
        gap_s = self.gap_s(now)
        if gap_s is None:
            return None
        if anew:
            turns = position(place.leaf, 1, anew=True)
        elif place is last(place.leaf) and place.turns == self.turns:
            turns = place.position  # it has just come
        else:
            turns = position(place.leaf, place.leaf.count)
        return gap_s * turns * (self._slip if turns >= FAR else 1.0)


def heaviest(lines: Iterable[Line], mine: Place) -> Place:
    """Whose place goes where there are too many. Of the party (a tenant, or a caller without one)
    with the most places for its weight, the caller likewise; of that one the last, in its lowest
    band. Of equals that of `mine`."""
    bands = [band for line in lines for band in line.order.top()]
    parties = _most([one for band in bands for one in band.waiting()], mine.path[1][0])
    leaves = _most([leaf for one in parties for leaf in one.waiting() or [one]], mine.path[-1][0])
    return last(max(leaves, key=lambda leaf: (last(leaf).path[0], leaf is mine.leaf)))


def _most(shares: list[Share[Place]], own: object) -> list[Share[Place]]:
    """Those of the one, in whatever band and line, that has the most for its weight."""
    weights: dict[object, float] = {}
    for one in shares:
        weights[one.key] = weights.get(one.key, 0.0) + one.count / one.weight
    most = max(weights.values())
    chosen = own if weights.get(own) == most else max(weights, key=weights.__getitem__)
    return [one for one in shares if one.key == chosen]
