"""Whose turn it is among many that wait, each with a weight. Pure.

    root ─┬─ high ──┬─ tenant lab ─┬─ key ana ─ [1st, 2nd, …]
          │         └─ key bob     └─ key eve
          └─ normal ── …                          as deep as the paths that are pushed

Start-time fair queueing (Goyal, Vin, Cheng 1997), at each level: a share has a start tag, which
grows by 1/weight with each turn; the least tag is next. One that comes back from idling starts at
the present virtual time: it neither saved anything up nor owes anything. So of `a` and `b` that
both wait all the time, turns differ from their weights by one turn of each at most; nobody with a
weight waits for ever; and who asks seldom is next after at most one turn of every other share.
"""

from collections.abc import Iterator
from math import ceil
from typing import Generic, TypeVar

T = TypeVar("T")

#: Of a share: what names it beside its siblings, and its weight.
Step = tuple[object, float]
#: Shares that wait no more are remembered for as long as they are ahead of the others, and at most
#: so many of them: what they are ahead by is a turn.
IDLE_MAX = 256


class Share(Generic[T]):
    """A node of the tree. `count` entries wait below it; leaves hold them, in order."""

    __slots__ = (
        "children",
        "count",
        "entries",
        "key",
        "parent",
        "start",
        "turn",
        "virtual",
        "weight",
    )

    def __init__(self, key: object, parent: "Share[T] | None", start: float) -> None:
        self.key = key
        self.parent = parent
        self.weight = 1.0
        self.count = 0
        self.start = start
        #: Equal tags: who has waited longer for its turn.
        self.turn = 0
        #: Of its children: the tag that the last turn began with.
        self.virtual = 0.0
        self.children: dict[object, Share[T]] = {}
        self.entries: dict[T, None] = {}

    def waiting(self) -> "list[Share[T]]":
        return [one for one in self.children.values() if one.count]


class Fair(Generic[T]):
    """Entries are told apart by hash; each is pushed once, and ends in `take` or `drop`."""

    def __init__(self) -> None:
        self._root: Share[T] = Share(None, None, 0.0)
        self._turns = 0

    def __len__(self) -> int:
        return self._root.count

    def push(self, path: tuple[Step, ...], entry: T) -> Share[T]:
        """Behind the others of its leaf. `path` leads from the root to the leaf, and is the same
        length for all that share a beginning. The leaf is what `take` and `drop` want back."""
        share = self._root
        share.count += 1
        for key, weight in path:
            child = share.children.get(key)
            if child is None:
                child = share.children[key] = Share(key, share, share.virtual)
            if not child.count:
                child.start = max(child.start, share.virtual)
                child.turn = self._turn()
            child.weight = weight
            child.count += 1
            share = child
        share.entries[entry] = None
        return share

    def take(self, leaf: Share[T], entry: T) -> None:
        """It had its turn: its shares are charged for it."""
        share = leaf
        while share.parent is not None:
            parent = share.parent
            parent.virtual = max(parent.virtual, min(one.start for one in parent.waiting()))
            share.start += 1 / share.weight
            share.turn = self._turn()
            share = parent
        self.drop(leaf, entry)

    def drop(self, leaf: Share[T], entry: T) -> None:
        """It waits no more, and had no turn."""
        del leaf.entries[entry]
        share = leaf
        while True:
            share.count -= 1
            parent = share.parent
            if not share.count:
                if share.children:
                    share.children.clear()
                    share.virtual = 0.0
                if parent is not None:
                    _forget(parent)
            if parent is None:
                return
            share = parent

    def __iter__(self) -> Iterator[tuple[Share[T], T]]:
        """In the order of their turns, as far as it is known now: each share's first is weighed,
        not what its turn would change. Not to be changed meanwhile."""
        return _in_order(self._root)

    def top(self) -> list[Share[T]]:
        """The shares right below the root, in which somebody waits."""
        return self._root.waiting()

    def _turn(self) -> int:
        self._turns += 1
        return self._turns


def last(leaf: Share[T]) -> T:
    return next(reversed(leaf.entries))


def position(leaf: Share[T], count: int, *, anew: bool = False) -> int:
    """After how many turns of all the leaf will have had `count` of its own, if nobody else comes.

    `anew`: of a caller in its place that had no turn of late, and has nothing waiting.
    """
    share, turns = leaf, count
    while share.parent is not None:
        parent = share.parent
        start = parent.virtual if anew else share.start
        tag = start + (turns - 1) / share.weight
        for other in parent.children.values():
            if other.count and other.start <= tag and other is not share:
                ahead = (tag - other.start) * other.weight
                before = ceil(ahead)
                if before == ahead and (anew or other.turn < share.turn):
                    before += 1  # of equal tags the one that waited longer is first
                turns += before if before < other.count else other.count
        share = parent
    return turns


def _in_order(share: Share[T]) -> Iterator[tuple[Share[T], T]]:
    if not share.children:
        for entry in share.entries:
            yield share, entry
        return
    waiting = share.waiting()
    if not waiting:
        return
    # Mostly the first is all that is asked for: the others are sorted when it is not.
    first = min(waiting, key=_order)
    yield from _in_order(first)
    waiting.remove(first)
    waiting.sort(key=_order)
    for one in waiting:
        yield from _in_order(one)


def _order(share: Share[T]) -> tuple[float, int]:
    return share.start, share.turn


def _forget(parent: Share[T]) -> None:
    """Those that wait no more and are ahead of nobody; of too many, the oldest."""
    idle = [one for one in parent.children.values() if not one.count]
    ahead = [one for one in idle if one.start > parent.virtual][-IDLE_MAX:]
    if len(ahead) < len(idle):
        kept = {one.key for one in ahead}
        for one in idle:
            if one.key not in kept:
                del parent.children[one.key]
