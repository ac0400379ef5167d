"""What the registry's watch says, turned into changes of the table. Pure: time is given.

    reset(epoch) ─▶ COLLECTING ─put…─▶ synced ─▶ one swap ─▶ LIVE: put, delete, load
    a connection that breaks while COLLECTING leaves everything as it was

Services absent from a sync go at once when the epoch is the one known: the registry forgot
nothing. After a new epoch it may have: they stay, suspect, for lease_s + beat_s, in which a living
babysitter registers again. While the connection is lost that time stands still: where this router
cannot hear the registry, the babysitters may not reach it either.
"""

from collections.abc import Mapping

from msgspec import Struct, field

from common.wire.registry import BEAT_S_DEFAULT, LEASE_S_DEFAULT, Service


class Changes(Struct, frozen=True):
    """For `Brain.apply`: name to its record, or None where it is gone.

    `fresh`: live news, not a repetition of what was known.
    """

    records: Mapping[str, Service | None] = field(default_factory=dict)
    suspect: frozenset[str] = frozenset()
    fresh: bool = False


class Fleet:
    """The registry's view as last heard. `records` holds suspects too."""

    def __init__(self) -> None:
        self.records: dict[str, Service] = {}
        self.epoch: str | None = None
        self.revision = 0
        #: Suspects and the monotonic time at which each goes.
        self.held: dict[str, float] = {}
        #: A sync was heard to its end since the start.
        self.synced_once = False
        self._collecting: dict[str, Service] | None = None
        self._next_epoch = ""
        self._away_since: float | None = None

    @property
    def last_event_id(self) -> str | None:
        """What to resume from; None asks for everything."""
        return None if self.epoch is None else f"{self.epoch}-{self.revision}"

    def restore(self, epoch: str, revision: int, services: list[Service]) -> Changes:
        """Begin from what a snapshot holds."""
        self.epoch, self.revision = epoch, revision
        self.records = {service.name: service for service in services}
        return Changes(dict(self.records))

    def forget(self) -> Changes:
        """No registry is followed any more: as if nothing had ever been heard."""
        gone = Changes(dict.fromkeys(self.records))
        self.records, self.held = {}, {}
        self.epoch, self.revision, self._collecting = None, 0, None
        return gone

    def connection_lost(self, now: float) -> None:
        """Half a sync is no sync. Until the next is heard to its end, no suspect's time passes."""
        self._collecting = None
        if self._away_since is None:
            self._away_since = now

    def reset(self, epoch: str) -> None:
        self._collecting = {}
        self._next_epoch = epoch

    def put(self, service: Service) -> Changes | None:
        if self._collecting is not None:
            self._collecting[service.name] = service
            return None
        self.held.pop(service.name, None)
        self.records[service.name] = service
        self.revision = max(self.revision, service.revision)
        return Changes({service.name: service}, fresh=True)

    def delete(self, name: str) -> Changes | None:
        if self._collecting is not None:
            self._collecting.pop(name, None)
            return None
        self.held.pop(name, None)
        if self.records.pop(name, None) is None:
            return None
        return Changes({name: None}, fresh=True)

    def heard(self, event_id: str) -> None:
        """A live event's id: where a resume begins."""
        epoch, _, revision = event_id.rpartition("-")
        if self._collecting is None and epoch == self.epoch and revision.isdigit():
            self.revision = int(revision)

    def synced(self, revision: int, now: float) -> Changes | None:
        """The end of a sync, or of a resume (then nothing changes)."""
        self.synced_once = True
        if self._away_since is not None:
            away_s, self._away_since = now - self._away_since, None
            self.held = {name: until + away_s for name, until in self.held.items()}
        found, self._collecting = self._collecting, None
        if found is None:
            self.revision = max(self.revision, revision)
            return None
        same_epoch = self.epoch in (None, self._next_epoch)
        absent = {name: record for name, record in self.records.items() if name not in found}
        changes: dict[str, Service | None] = {}
        for name, service in found.items():
            if name in self.held or self.records.get(name) != service:
                changes[name] = service
        for name, record in absent.items():
            if same_epoch and name not in self.held:
                changes[name] = None
            else:
                changes[name] = found[name] = record
                self.held.setdefault(name, now + _patience_s(record))
        self.held = {name: until for name, until in self.held.items() if name in absent}
        self.records = found
        self.epoch, self.revision = self._next_epoch, revision
        return Changes(changes, frozenset(self.held) & changes.keys())

    def expired(self, now: float) -> Changes | None:
        """Suspects whose time is over."""
        if self._away_since is not None:
            return None
        gone = [name for name, until in self.held.items() if until <= now]
        if not gone:
            return None
        for name in gone:
            del self.held[name]
            self.records.pop(name, None)
        return Changes(dict.fromkeys(gone))

    def next_expiry(self) -> float | None:
        if self._away_since is not None:
            return None
        return min(self.held.values(), default=None)


def _patience_s(service: Service) -> float:
    return (service.lease_s or LEASE_S_DEFAULT) + BEAT_S_DEFAULT
