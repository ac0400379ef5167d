"""Commands carried out over the table, but not in it. Pure.

    draft.do(command) … ─▶ draft.batch() made durable by the shell ─▶ table.adopt(draft)

Nothing of a draft is true, or seen by anybody, until the table adopts it; a draft that could not be
made durable is dropped. A life (instance_id) that is replaced or deleted is *retired*: for five
leases every verb answers it 409. One that merely expired is not, and may come back.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from common.wire.registry import Registration, Service
from registry import commands as ask
from registry import expiry, shared
from registry.commands import Answer, Done, Refused
from registry.conflicts import conflict
from registry.overlay import Overlay
from registry.records import (
    NOT_PROBED,
    Entry,
    Moment,
    Phase,
    Record,
    address_key,
    changed,
    entry_of,
    is_same_view,
    served,
)
from registry.shared import Clocks, News
from registry.state import Batch, Change, Gone, Put, Retired, Where

if TYPE_CHECKING:
    from registry.table import Table


class Draft:
    """Commands carried out one after the other, over the table but not in it."""

    def __init__(self, table: "Table") -> None:
        self._terms = table.terms
        self._table = table
        self.base_revision = table.revision
        self.revision = table.revision
        self.entries = Overlay(table.entries)
        self.places = Overlay(table.places)
        self.retired = Overlay(table.retired)
        self.drained = Overlay(table.drained)
        self.loads: dict[str, dict[str, float]] = {}
        self.new_lives: set[str] = set()
        self.silent_s: dict[str, float] = {}  # how long the store must not have heard of them
        self.changes: list[Change] = []
        self._told: dict[str, Service | None] = {}  # by `changes`: None where it is gone

    def touches(self, name: str) -> bool:
        """Whether a beat for `name` must wait until this draft is true, or dropped."""
        return name in self.entries.top

    def batch(self) -> Batch:
        """What must be durable before any answer of this draft is given. May be empty (false)."""
        before = self._table.entries
        records: dict[str, Record | None] = {}
        beaten: set[str] = set()
        for name, entry in self.entries.top.items():
            old = before.get(name)
            if entry is not None and (old is None or old.beat_at != entry.beat_at):
                beaten.add(name)
            if entry is None:
                if old is not None:
                    records[name] = None
            elif old is None or old.record != entry.record:
                records[name] = entry.record
        return Batch(
            base_revision=self.base_revision,
            revision=self.revision,
            records=records,
            retired={k: v.lease_s if v else None for k, v in self.retired.top.items()},
            drained=dict(self.drained.top),
            entries=dict(self.entries.top),
            changes=self.changes,
            beaten=frozenset(beaten | (self.new_lives & self.entries.top.keys())),
            silent_s={n: s for n, s in self.silent_s.items() if n not in beaten},
            new_lives=frozenset(self.new_lives),
            loads=self.loads,
        )

    def take(self, news: News, now: Moment, clocks: Clocks) -> None:
        """What another registry decided and made durable: true as it is."""
        for name, one in news.entries.items():
            old = self.entries.get(name)
            if one is None:
                self._leave_place(old)
                self.entries.drop(name)
                continue
            entry = shared.entry(one, now, clocks)
            if old is not None and name not in news.beaten:
                entry = replace(entry, beat_at=old.beat_at, beat_wall=old.beat_wall)
            self._move_in(old, entry)
            self.entries.put(name, entry)
        for name, life, lease_s in news.retired:
            if lease_s is None:
                self.retired.drop((name, life))
            else:
                until = now.at + self._terms.removed_after_leases * lease_s
                self.retired.put((name, life), Retired(until, lease_s))
        for name, on in news.drained.items():
            if on:
                self.drained.put(name, True)
            else:
                self.drained.drop(name)
        self.revision = news.revision
        self.changes += (shared.change(told) for told in news.changes)
        self.new_lives.update(news.new_lives)
        self.loads.update(news.loads)

    def do(self, command: ask.Command, now: Moment) -> Answer:
        match command:
            case ask.Register():
                return self._register(command, now)
            case ask.Update():
                return self._update(command, now)
            case ask.Heartbeat():
                return self._beat(command, now)
            case ask.Remove():
                return self._remove(command, now)
            case ask.Drain():
                return self._drain(command, now)
            case ask.Probed():
                return self._probed(command, now)
            case ask.Tick():
                return self._tick(now)
            case _:
                assert_never(command)

    # the commands

    def _register(self, command: ask.Register, now: Moment) -> Answer:
        wanted = command.registration
        refusal = self._refuse(wanted, now)
        if refusal is not None:
            return refusal
        return self._accept(wanted, command.registrant, now)

    def _refuse(self, wanted: Registration, now: Moment, *, moves: bool = False) -> Refused | None:
        """Why `wanted` may not have its name and address. `moves`: the same life, elsewhere."""
        name, where = wanted.name, address_key(wanted.host, wanted.port)
        if wanted.instance_id is not None and self._is_retired(name, wanted.instance_id, now):
            return ask.stale(name, wanted.instance_id)
        entry = self.entries.get(name)
        if entry is None and len(self.entries) >= self._terms.services_max:
            most = self._terms.services_max
            return ask.invalid(f"{most} services are registered, no more are taken", 503)
        return conflict(wanted, entry, self._others_at(where, name), moves=moves)

    def _others_at(self, where: Where, name: str) -> Iterable[Entry]:
        for one in self.places.get(where) or ():
            entry = self.entries.get(one)
            if one != name and entry is not None:
                yield entry

    def _accept(self, wanted: Registration, registrant: str | None, now: Moment) -> Answer:
        name = wanted.name
        old = self.entries.get(name)
        for other in list(self._others_at(address_key(wanted.host, wanted.port), name)):
            if other.record.lease_s is not None:  # it lapsed, and another answers there now
                self._take_out(other.record.name, now, retire=True)
        is_new_life = old is None or old.record.instance_id != wanted.instance_id
        if old is not None and is_new_life:
            self._retire(old.record, now)
        if wanted.instance_id is not None and self.retired.get((name, wanted.instance_id)):
            self.retired.drop((name, wanted.instance_id))  # that is over by now
        if is_new_life:
            self.new_lives.add(name)
            self.loads.pop(name, None)
        lease_s = None if wanted.lease_s is None else self._terms.lease_s
        record = Record(
            name=name,
            host=wanted.host,
            port=wanted.port,
            hostname=wanted.hostname,
            url=wanted.url,
            status=wanted.status,
            weight=1.0 if wanted.weight is None else wanted.weight,
            metadata=wanted.metadata,
            timestamp=now.wall if old is None or is_new_life else old.record.timestamp,
            instance_id=wanted.instance_id,
            lease_s=lease_s,
            registrant=registrant,
            revision=0 if old is None else old.record.revision,
        )
        is_elsewhere = old is None or is_new_life or old.record.url != record.url
        verdict = NOT_PROBED if is_elsewhere or old is None else old.verdict
        entry = entry_of(record, now, verdict=verdict, draining=self._is_drained(name))
        return Done(self._put(entry))

    def _update(self, command: ask.Update, now: Moment) -> Answer:
        entry = self.entries.get(command.name)
        life = command.instance_id
        if life is not None and self._is_retired(command.name, life, now):
            return ask.stale(command.name, life)
        if entry is None:
            return ask.not_found(command.name)
        wanted = ask.merged(entry.record, command)
        same_life = wanted.instance_id == entry.record.instance_id
        refusal = self._refuse(wanted, now, moves=same_life)
        if refusal is not None:
            return refusal
        return self._accept(wanted, command.registrant or entry.record.registrant, now)

    def _beat(self, command: ask.Heartbeat, now: Moment) -> Answer:
        name, beat = command.name, command.beat
        if beat.instance_id is not None and self._is_retired(name, beat.instance_id, now):
            return ask.stale(name, beat.instance_id)
        entry = self.entries.get(name)
        if entry is None:
            return ask.not_found(name)
        if beat.instance_id is not None and beat.instance_id != entry.record.instance_id:
            return ask.stale(name, beat.instance_id)
        record = entry.record
        if beat.status is not None:
            record = replace(record, status=beat.status)
        if beat.models_list is not UNSET:
            metadata = {**record.metadata, "models_list": beat.models_list}
            record = replace(record, metadata=metadata)
        if beat.load is not None:
            self.loads[name] = beat.load
        beaten = changed(
            entry,
            now,
            record=record,
            beat_at=now.at,
            beat_wall=now.wall,
            phase=Phase.HELD,
            since=now.at if entry.phase is not Phase.HELD else entry.since,
        )
        return Done(self._put(beaten))

    def _remove(self, command: ask.Remove, now: Moment) -> Answer:
        name, life = command.name, command.instance_id
        if life is not None and self._is_retired(name, life, now):
            return ask.stale(name, life)
        entry = self.entries.get(name)
        if entry is None:
            return ask.not_found(name)
        if life is not None and life != entry.record.instance_id:
            return ask.stale(name, life)
        self._take_out(name, now, retire=True)
        return Done()

    def _drain(self, command: ask.Drain, now: Moment) -> Answer:
        name = command.name
        entry = self.entries.get(name)
        if entry is None and not (self._is_drained(name) and not command.on):
            return ask.not_found(name)
        if command.on and len(self.drained) >= 2 * self._terms.services_max:
            return ask.invalid("too many drain marks of services that are gone: undrain some", 503)
        if command.on:
            self.drained.put(name, True)
        else:
            self.drained.drop(name)
        if entry is None:  # the mark outlived its service: it can still be taken away
            return Done()
        return Done(self._put(changed(entry, now, draining=command.on)))

    def _probed(self, command: ask.Probed, now: Moment) -> Answer:
        entry = self.entries.get(command.name)
        if entry is None or entry.record.url != command.url or entry.record.lease_s is not None:
            return Done()  # it is gone, or another one by now
        return Done(self._put(changed(entry, now, verdict=command.verdict)))

    def _tick(self, now: Moment) -> Answer:
        for life, retired in self.retired.items():
            if now.at >= retired.until:
                self.retired.drop(life)
        for name, entry in self.entries.items():
            if now.at < expiry.deadline(self._terms, entry):
                continue
            if entry.phase is not Phase.SUSPECT:
                self.silent_s[name] = expiry.silence_s(self._terms, entry)
            if entry.phase is Phase.HELD:  # told below: it may be a suspect instead
                self.entries.put(name, changed(entry, now, phase=Phase.LAPSED, since=now.at))
            else:
                self._take_out(name, now, retire=False)
        standing = (entry for _, entry in self.entries.items())
        for entry in expiry.suspected(self._terms, standing, now.at):
            suspect = changed(entry, now, phase=Phase.SUSPECT, since=now.at)
            self.entries.put(entry.record.name, suspect)
        for touched in list(self.entries.top.values()):
            if touched is not None:
                self._put(touched)
        return Done()

    # what they are made of

    def _put(self, entry: Entry) -> Service:
        """Store `entry`; bump the revision and tell watchers if anything watched changed."""
        name = entry.record.name
        old = self.entries.get(name)
        before = self._table.entries.get(name)
        told = self._told.get(name, None if before is None else before.view)
        if told is None or not is_same_view(told, entry.view):
            self.revision += 1
            record = replace(entry.record, revision=self.revision)
            entry = replace(entry, record=record, view=replace(entry.view, revision=self.revision))
            self.changes.append(Put(self.revision, entry.view))
            self._told[name] = entry.view
        self._move_in(old, entry)
        self.entries.put(name, entry)
        return served(entry)

    def _move_in(self, old: Entry | None, entry: Entry) -> None:
        """`entry` is at its address, where it is not so already; `old` at none."""
        if old is None or old.address != entry.address:
            self._leave_place(old)
            names = self.places.get(entry.address) or ()
            self.places.put(entry.address, (*names, entry.record.name))

    def _take_out(self, name: str, now: Moment, *, retire: bool) -> None:
        entry = self.entries.get(name)
        if entry is None:
            return
        if retire:
            self._retire(entry.record, now)
        self._leave_place(entry)
        self.entries.drop(name)
        self.loads.pop(name, None)
        self.revision += 1
        self.changes.append(Gone(self.revision, name, entry.record.instance_id))
        self._told[name] = None

    def _leave_place(self, entry: Entry | None) -> None:
        if entry is None:
            return
        left = tuple(n for n in self.places.get(entry.address) or () if n != entry.record.name)
        if left:
            self.places.put(entry.address, left)
        else:
            self.places.drop(entry.address)

    def _retire(self, record: Record, now: Moment) -> None:
        if record.instance_id is None:
            return
        lease_s = self._terms.lease_s if record.lease_s is None else record.lease_s
        until = now.at + self._terms.removed_after_leases * lease_s
        if len(self.retired) >= self._terms.retired_max:
            oldest = min(self.retired.items(), key=lambda one: one[1].until)[0]
            self.retired.drop(oldest)
        self.retired.put((record.name, record.instance_id), Retired(until, lease_s))

    def _is_retired(self, name: str, instance_id: str, now: Moment) -> bool:
        retired = self.retired.get((name, instance_id))
        return retired is not None and now.at < retired.until

    def _is_drained(self, name: str) -> bool:
        return self.drained.get(name) is not None
