"""Of identical requests in the air one is asked, and the others wait for its answer. Pure.

    join ─▶ LEADS: asks ─┬─ kept ─────▶ those that wait have the answer
                         ├─ unkept ───▶ each of them asks for itself: none could be kept
                         └─ left ─────▶ the next of them LEADS: the client went, or it failed
            WAITS ──────── left ─────▶ it went, or has waited long enough
            ALONE: too many wait already

A flight lives while it has a leader; who waits always has one. Whoever was told a verdict is told
no other. All that change anything return who is to be woken, and with what.
"""

from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

M = TypeVar("M", bound=Hashable)


class Role(Enum):
    LEADS = "leads"
    WAITS = "waits"
    ALONE = "alone"


class _Flight(Generic[M]):
    __slots__ = ("leader", "waiting")

    def __init__(self, leader: M) -> None:
        self.leader = leader
        #: In the order in which they came.
        self.waiting: dict[M, None] = {}


class Flights(Generic[M]):
    """`M` is a request, by identity. `waiting_max` bounds those that wait, over all flights."""

    def __init__(self, waiting_max: int) -> None:
        self.waiting_max = waiting_max
        #: How many wait now.
        self.waiting = 0
        self._flights: dict[bytes, _Flight[M]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: bytes, member: M) -> Role:
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(member)
            return Role.LEADS
        if self.waiting >= self.waiting_max:
            return Role.ALONE
        flight.waiting[member] = None
        self.waiting += 1
        return Role.WAITS

    def landed(self, key: bytes, member: M) -> tuple[M, ...]:
        """The leader has an answer, kept or not: the flight ends. Those that waited."""
        flight = self._flights.get(key)
        if flight is None or flight.leader is not member:
            return ()
        del self._flights[key]
        self.waiting -= len(flight.waiting)
        return tuple(flight.waiting)

    def left(self, key: bytes, member: M) -> M | None:
        """It needs no answer any more, or got none that counts. Who leads now in its place."""
        flight = self._flights.get(key)
        if flight is None:
            return None
        if flight.leader is not member:
            if member in flight.waiting:
                del flight.waiting[member]
                self.waiting -= 1
            return None
        if not flight.waiting:
            del self._flights[key]
            return None
        first = next(iter(flight.waiting))
        del flight.waiting[first]
        self.waiting -= 1
        flight.leader = first
        return first

    def check(self) -> None:
        """What always holds. For tests."""
        assert self.waiting == sum(len(one.waiting) for one in self._flights.values())
        assert 0 <= self.waiting <= self.waiting_max
        for one in self._flights.values():
            assert one.leader not in one.waiting
