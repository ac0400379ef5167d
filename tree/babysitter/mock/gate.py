"""How many requests an engine works on at once; more wait in the order they came. Pure.

enter ──room──▶ running ──leave──▶ gone, the first of the queue enters
  └──full──▶ queued ──leave──▶ gone (the client left)
"""

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Entry(Enum):
    RUNNING = "running"
    QUEUED = "queued"
    REFUSED = "refused"


class Gate(Generic[T]):
    """`limit` 0 means no limit. What enters is identified by identity."""

    def __init__(self, limit: int, queue_max: int) -> None:
        self.limit = limit
        self.queue_max = queue_max
        self.running = 0
        self._queue: deque[T] = deque()

    @property
    def queued(self) -> int:
        return len(self._queue)

    def enter(self, who: T) -> Entry:
        if not self.limit or self.running < self.limit:
            self.running += 1
            return Entry.RUNNING
        if len(self._queue) >= self.queue_max:
            return Entry.REFUSED
        self._queue.append(who)
        return Entry.QUEUED

    def leave(self) -> T | None:
        """One that was running is done. Returns who runs in its place now, if anyone waited."""
        if self._queue:
            return self._queue.popleft()
        self.running -= 1
        return None

    def give_up(self, who: T) -> None:
        """One that was queued will not wait any longer."""
        self._queue.remove(who)
