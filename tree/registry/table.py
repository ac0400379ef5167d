"""Who is registered: all that is true now, and the few things that change it. Pure.

Mutations are decided on a `Draft` over the table (`registry.draft`). Nothing of a draft is true, or
seen by anybody, until the shell has made `draft.batch()` durable and calls `table.adopt(draft)`.
Beats that change nothing are not written: `table.quiet_beat` takes them at once.
"""

from msgspec import UNSET
from msgspec.structs import replace

from common.wire.registry import Beat, Service
from registry import expiry, shared
from registry.draft import Draft
from registry.records import Entry, Moment, Phase, changed, entry_of, is_same_view, served
from registry.shared import Clocks, Whole
from registry.state import Change, Life, Retired, Stored, Terms, Where


class Table:
    """All that is true now. Only `quiet_beat` and `adopt` change it."""

    def __init__(self, terms: Terms, stored: Stored, now: Moment) -> None:
        """As stored. Everybody gets one full lease (or older term) from `now`."""
        self.terms = terms
        self.epoch = stored.epoch
        self.revision = stored.revision
        self.entries: dict[str, Entry] = {}
        self.places: dict[Where, tuple[str, ...]] = {}
        self.retired: dict[Life, Retired] = {}
        self.drained: dict[str, bool] = dict.fromkeys(stored.drained, True)
        self.loads: dict[str, dict[str, float]] = {}
        for record in stored.records:
            entry = entry_of(
                record, now, beat_wall=record.timestamp, draining=record.name in self.drained
            )
            self.entries[record.name] = entry
            self.places[entry.address] = (*self.places.get(entry.address, ()), record.name)
        for life, lease_s in stored.retired.items():
            until = now.at + terms.removed_after_leases * lease_s
            self.retired[life] = Retired(until, lease_s)

    @classmethod
    def shared(cls, terms: Terms, whole: Whole, now: Moment, clocks: Clocks) -> "Table":
        """As every registry of a shared store has it; each service counts as heard now."""
        stored = Stored(epoch=whole.epoch, retired=whole.retired, drained=whole.drained)
        table = cls(terms, stored, now)
        table.become(whole, now, clocks)
        return table

    def become(self, whole: Whole, now: Moment, clocks: Clocks) -> None:
        """All is as `whole` says. What was heard here of a life that is still there stays heard."""
        old = dict(self.entries)
        fresh = Table(
            self.terms,
            Stored(epoch=whole.epoch, retired=whole.retired, drained=whole.drained),
            now,
        )
        for one in whole.entries:
            entry = shared.entry(one, now, clocks)
            before = old.get(one.record.name)
            if before is not None and before.record.instance_id == one.record.instance_id:
                wall = max(before.beat_wall, entry.beat_wall)
                entry = replace(entry, beat_at=before.beat_at, beat_wall=wall)
            fresh.entries[one.record.name] = entry
            names = fresh.places.get(entry.address, ())
            fresh.places[entry.address] = (*names, one.record.name)
        self.epoch = whole.epoch
        self.revision = whole.revision
        self.entries = fresh.entries
        self.places = fresh.places
        self.retired = fresh.retired
        self.drained = fresh.drained
        self.loads = {n: load for n, load in self.loads.items() if n in fresh.entries}

    # what others read

    def service(self, name: str) -> Service | None:
        entry = self.entries.get(name)
        return None if entry is None else served(entry)

    def services(self) -> list[Service]:
        return [served(entry) for entry in self.entries.values()]

    def suspects(self) -> list[str]:
        """Names whose expiry is held back."""
        return [n for n, entry in self.entries.items() if entry.phase is Phase.SUSPECT]

    def fit_count(self) -> int:
        return sum(entry.view.is_healthy for entry in self.entries.values())

    # what changes it

    def quiet_beat(self, name: str, beat: Beat, now: Moment) -> bool:
        """Take a beat that changes nothing but times and load. False: it needs a draft."""
        entry = self.entries.get(name)
        if entry is None or entry.phase is not Phase.HELD or self._is_other_life(name, entry, beat):
            return False
        record = entry.record
        if beat.status is not None and beat.status != record.status:
            return False
        if beat.models_list is not UNSET and beat.models_list != record.metadata.get("models_list"):
            return False
        self.entries[name] = replace(entry, beat_at=now.at, beat_wall=now.wall)
        self._note_load(name, beat)
        return True

    def heard(
        self, name: str, silent_s: float, now: Moment, load: dict[str, float] | None = None
    ) -> None:
        """Another registry heard a beat that changed nothing, that long ago."""
        entry = self.entries.get(name)
        if entry is None:
            return
        if now.at - silent_s > entry.beat_at:
            wall = now.wall if silent_s == 0 else entry.beat_wall
            self.entries[name] = replace(entry, beat_at=now.at - silent_s, beat_wall=wall)
        if load is not None:
            self.loads[name] = load

    def _is_other_life(self, name: str, entry: Entry, beat: Beat) -> bool:
        if beat.instance_id is None:
            return False
        if beat.instance_id != entry.record.instance_id:
            return True
        return (name, beat.instance_id) in self.retired

    def _note_load(self, name: str, beat: Beat) -> None:
        if beat.load is not None:
            self.loads[name] = beat.load

    def is_due(self, at: float) -> bool:
        """Whether a tick would change anything."""
        if any(at >= expiry.deadline(self.terms, entry) for entry in self.entries.values()):
            return True
        return any(at >= one.until for one in self.retired.values())

    def draft(self) -> Draft:
        return Draft(self)

    def adopt(self, draft: Draft) -> list[Change]:
        """Make a durable draft true; what watchers are to learn."""
        for life in [name for name, entry in draft.entries.top.items() if entry is None]:
            self.loads.pop(life, None)
        for name in draft.new_lives:
            self.loads.pop(name, None)
        self.loads.update(draft.loads)
        draft.entries.merge()
        draft.places.merge()
        draft.retired.merge()
        draft.drained.merge()
        self.revision = draft.revision
        return draft.changes

    def validate(self) -> None:
        """Raises AssertionError where an invariant does not hold. For tests."""
        for name, entry in self.entries.items():
            assert entry.record.name == name
            assert name in self.places.get(entry.address, ())
            assert entry.draining == (name in self.drained)
            assert 0 <= entry.record.revision <= self.revision
            concluded = changed(entry, Moment(0.0, entry.beat_wall)).view
            assert is_same_view(entry.view, concluded), "its view is not what follows"
            life = entry.record.instance_id
            assert life is None or (name, life) not in self.retired, "a living life is retired"
        listed = [(where, name) for where, names in self.places.items() for name in names]
        assert len(listed) == len(set(listed)) == len(self.entries)
        assert all(self.places.values()), "an empty place is kept"
        for names in self.places.values():
            holders = [n for n in names if self.entries[n].holds]
            assert len(holders) <= 1, f"one address, two leases: {holders}"
        assert self.loads.keys() <= self.entries.keys()
