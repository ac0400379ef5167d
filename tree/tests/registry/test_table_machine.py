"""Registrations, beats, deletions, drains, restarts and time in any order keep the rules."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.wire.registry import ErrorCode, Service
from registry import commands as ask
from registry import expiry
from registry.records import Phase
from registry.state import Gone, Put
from tests.registry.acts import World, is_done, registration

names = st.sampled_from(["a", "b", "c", "d", "e"])
ports = st.sampled_from([1, 2, 3, 4])
lives = st.sampled_from([None, "x", "y", "z"])
leases = st.sampled_from([None, 15.0])
statuses = st.sampled_from(["running", "backoff", "draining"])


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.view: dict[str, Service] = {}  # what a watcher has put together
        self.revision = 0
        self.retired_at: dict[tuple[str, str], float] = {}

    @rule(name=names, port=ports, life=lives, lease=leases, status=statuses)
    def post(
        self, name: str, port: int, life: str | None, lease: float | None, status: str
    ) -> None:
        before = self.world.table.entries.get(name)
        answer = self.world.do(
            ask.Register(
                registration(name, port=port, instance_id=life, lease_s=lease, status=status)
            )
        )
        if isinstance(answer, ask.Refused):
            assert answer.status == 409
            assert self.world.table.entries.get(name) is before
        else:
            assert self.world[name].port == port
            assert life is None or not self.is_retired(name, life)

    @rule(name=names, port=ports, life=lives)
    def put(self, name: str, port: int, life: str | None) -> None:
        answer = self.world.do(ask.Update(name=name, port=port, instance_id=life))
        if is_done(answer):
            assert self.world[name].port == port

    @rule(name=names, life=lives, status=st.none() | statuses)
    def beat(self, name: str, life: str | None, status: str | None) -> None:
        was_there = name in self.world
        answer = self.world.beat(name, instance_id=life, status=status)
        if isinstance(answer, ask.Refused):
            assert answer.code in {ErrorCode.NOT_FOUND, ErrorCode.STALE_INSTANCE}
            assert answer.code is ErrorCode.STALE_INSTANCE or not was_there
        else:
            assert self.world.table.entries[name].phase is Phase.HELD

    @rule(name=names, life=lives)
    def delete(self, name: str, life: str | None) -> None:
        if is_done(self.world.delete(name, life)):
            assert name not in self.world

    @rule(name=names, on=st.booleans())
    def drain(self, name: str, on: bool) -> None:
        if is_done(self.world.drain(name, on=on)):
            assert (name in self.world.table.drained) is on

    @rule(seconds=st.sampled_from([0.5, 5.0, 16.0, 80.0, 130.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.world.after(seconds, step=5.0)

    @precondition(lambda self: self.world.table.entries)
    @rule()
    def restart(self) -> None:
        """Killed and started again: the same records, the same marks, a fresh lease for all."""
        old = self.world
        told = old.told
        self.world = old.again()
        self.world.told = told
        assert set(self.world.table.entries) == set(old.table.entries)
        self.follow()
        # the restarted registry sends a reset: a watcher takes the whole table
        self.view = {one.name: one for one in self.world.table.services()}

    @rule(data=st.data())
    def drop_a_draft(self, data: st.DataObject) -> None:
        """A failed commit: nothing of it may ever have been true."""
        table = self.world.table
        before = (table.revision, dict(table.entries), dict(table.places), dict(table.drained))
        draft = table.draft()
        for _ in range(data.draw(st.integers(1, 4))):
            name, port = data.draw(names), data.draw(ports)
            draft.do(ask.Register(registration(name, port=port)), self.world.now)
            draft.do(ask.Drain(data.draw(names), on=True), self.world.now)
            draft.do(ask.Remove(data.draw(names)), self.world.now)
        assert before == (
            table.revision,
            dict(table.entries),
            dict(table.places),
            dict(table.drained),
        )

    def is_retired(self, name: str, life: str) -> bool:
        found = self.world.table.retired.get((name, life))
        return found is not None and self.world.at < found.until

    def follow(self) -> None:
        for change in self.world.told:
            assert change.revision == self.revision + 1, "a gap"
            self.revision = change.revision
            match change:
                case Put(service=service):
                    self.view[service.name] = service
                case Gone(name=name):
                    assert name in self.view, "deleted, yet never told"
                    del self.view[name]
        self.world.told.clear()

    @invariant()
    def the_table_is_consistent(self) -> None:
        self.world.table.validate()

    @invariant()
    def a_watcher_knows_exactly_what_the_table_says(self) -> None:
        self.follow()
        assert self.revision == self.world.table.revision
        assert set(self.view) == set(self.world.table.entries)
        for name, seen in self.view.items():
            now = self.world[name]
            assert (seen.is_healthy, seen.health_status) == (now.is_healthy, now.health_status)
            assert (seen.reasons, seen.draining) == (now.reasons, now.draining)
            assert (seen.port, seen.status) == (now.port, now.status)
            assert (seen.instance_id, seen.metadata) == (now.instance_id, now.metadata)

    @invariant()
    def nothing_is_overdue(self) -> None:
        table = self.world.table
        for entry in table.entries.values():
            # `wait` ticks every 5 s
            assert self.world.at < expiry.deadline(table.terms, entry) + 5.0


TestMachine = Machine.TestCase
