"""The cache of one router: entries, requests in the air, a store that others share. Pure.

    memory ─ hit ─▶ replay
       └─ miss ─▶ somebody asks this already ─▶ wait for that answer
                     └─ nobody ─▶ the shared store, where there is one ─ hit ─▶ replay
                                     └─ miss, slow or away ─▶ an upstream ─▶ kept, where it is good

What a request does with it is `ticket`'s. The shared store is a shell behind `Shared`; whom to wake
is told to the loop by `soon`, so that a long row of them is no deep stack.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from router.cache.collected import Room
from router.cache.entry import Entry
from router.cache.flights import Flights
from router.cache.memory import Memory

if TYPE_CHECKING:
    from router.cache.ticket import Cached
    from router.config import Cache as Config


class Shared(Protocol):
    """Entries beyond this process. Neither method waits, blocks or raises."""

    #: A look-up takes no longer than this.
    timeout_s: float
    #: Commands that failed or were too slow.
    failures: int

    @property
    def away(self) -> bool:
        """It failed a moment ago, and is left alone."""
        ...

    def get(self, key: bytes, told: Callable[[Entry | None], None]) -> bool:
        """Look it up; `told` is called once, from the loop. False: not now, and never called."""
        ...

    def put(self, key: bytes, entry: Entry) -> None: ...


class Cache:
    def __init__(self, config: "Config") -> None:
        self.memory = Memory(config.bytes_max)
        self.flights: Flights[Cached] = Flights(config.waiting_max)
        self.room = Room(config.bytes_max)
        self.entry_bytes_max = config.entry_bytes_max
        self.wait_s = config.wait_s
        self.shared: Shared | None = None
        #: Calls from the loop, later.
        self.soon: Callable[[Callable[[], None]], object] = _at_once
        #: Requests that waited for another's answer, and answers of the shared store.
        self.waits = 0
        self.shared_hits = 0

    def reconfigure(self, config: "Config", now: float) -> None:
        self.memory.allow(config.bytes_max, now)
        self.room.bytes_max = config.bytes_max
        self.flights.waiting_max = config.waiting_max
        self.entry_bytes_max = config.entry_bytes_max
        self.wait_s = config.wait_s

    # --- requests in the air: each call may wake some ---------------------------------------------

    def keep(self, key: bytes, entry: Entry, by: "Cached", now: float) -> None:
        """A good answer. Those that wait for it have it, whether or not there is room for it."""
        self.memory.put(key, entry, now)
        if self.shared is not None:
            self.shared.put(key, entry)
        self._landed(key, by, entry)

    def found(self, key: bytes, entry: Entry, by: "Cached") -> None:
        """The shared store had it."""
        self.shared_hits += 1
        self.memory.put(key, entry, entry.made)
        self._landed(key, by, entry)

    def unkept(self, key: bytes, by: "Cached") -> None:
        """An answer that may not be kept: nobody waits for another like it."""
        self._landed(key, by, None)

    def left(self, key: bytes, by: "Cached") -> None:
        """It went, waited long enough, or got no answer that says anything of the next."""
        first = self.flights.left(key, by)
        if first is not None:
            first.leads()
            self.soon(first.rouse)

    def _landed(self, key: bytes, by: "Cached", entry: Entry | None) -> None:
        for one in self.flights.landed(key, by):
            one.lands(entry)
            self.soon(one.rouse)


def _at_once(act: Callable[[], None]) -> None:
    act()
