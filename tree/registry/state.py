"""What a table is told to keep, what makes it durable, and what watchers learn of it. Pure.

Terms   the numbers of the rules        Stored   what a store holds at the start
Put, Gone   one change, as watched      Batch    what must become durable in one go
"""

from msgspec import Struct

from common.wire.registry import Service
from registry.records import Entry, Record

Life = tuple[str, str]  # name, instance_id
Where = tuple[str, int]  # host without case, port


class Terms(Struct, frozen=True, kw_only=True):
    """The numbers of the rules; `registry.config` explains each."""

    lease_s: float = 15.0
    beat_s: float = 5.0
    removed_after_leases: int = 5
    suspect_max_s: float = 600.0
    suspect_leases_min: int = 4
    legacy_unfit_s: float = 120.0
    legacy_removed_s: float = 300.0
    services_max: int = 20_000
    retired_max: int = 100_000


class Retired(Struct, frozen=True):
    """A life that is over, until `until` on the lease clock. `lease_s` tells for how long anew."""

    until: float
    lease_s: float


class Put(Struct, frozen=True):
    """Watchers learn that a service is now so."""

    revision: int
    service: Service


class Gone(Struct, frozen=True):
    """Watchers learn that a service is no more."""

    revision: int
    name: str
    instance_id: str | None


Change = Put | Gone


class Batch(Struct, frozen=True, kw_only=True):
    """What must become durable in one go. None says that a thing is gone.

    A store with other writers refuses it where one of them was first. `entries` to `loads` are for
    such a store: what the others must conclude, who was heard, and who may only be let go if the
    store too has not heard of them for that many seconds.
    """

    base_revision: int
    revision: int
    records: dict[str, Record | None]
    retired: dict[Life, float | None]
    drained: dict[str, bool | None]
    entries: dict[str, Entry | None] = {}
    changes: list[Change] = []
    beaten: frozenset[str] = frozenset()
    silent_s: dict[str, float] = {}
    new_lives: frozenset[str] = frozenset()
    loads: dict[str, dict[str, float]] = {}

    def __bool__(self) -> bool:
        return bool(
            self.records or self.retired or self.drained or self.revision != self.base_revision
        )


class Stored(Struct, frozen=True, kw_only=True):
    """What a store holds. `retired` maps lives to the lease that their retirement is counted in."""

    epoch: str
    revision: int = 0
    records: tuple[Record, ...] = ()
    retired: dict[Life, float] = {}
    drained: frozenset[str] = frozenset()
