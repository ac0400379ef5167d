from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.wire.registry import Service
from router.fleet import Changes, Fleet
from tests.router.making import service


def synced(
    fleet: Fleet, epoch: str, *services: Service, revision: int = 1, now: float = 0.0
) -> Changes:
    fleet.reset(epoch)
    for one in services:
        assert fleet.put(one) is None, "nothing changes before the end of a sync"
    changes = fleet.synced(revision, now)
    assert changes is not None
    return changes


A, B = service("a@h", "m"), service("b@h", "m")


def test_a_sync_is_one_swap() -> None:
    fleet = Fleet()
    changes = synced(fleet, "e", A, B, revision=7)
    assert dict(changes.records) == {"a@h": A, "b@h": B}
    assert fleet.last_event_id == "e-7"


def test_half_a_sync_is_no_sync() -> None:
    fleet = Fleet()
    synced(fleet, "e", A)
    fleet.reset("e")
    fleet.put(B)
    fleet.connection_lost(0.0)
    assert set(fleet.records) == {"a@h"}
    changes = fleet.put(B)
    assert changes is not None and changes.fresh, "live again after a resume"


def test_live_news_applies_at_once_and_moves_the_resume_point() -> None:
    fleet = Fleet()
    synced(fleet, "e")
    changes = fleet.put(A)
    assert changes == Changes({"a@h": A}, fresh=True)
    fleet.heard("e-9")
    assert fleet.last_event_id == "e-9"
    gone = fleet.delete("a@h")
    assert gone is not None and gone.records == {"a@h": None}
    assert fleet.delete("a@h") is None


def test_a_resume_changes_nothing_by_itself() -> None:
    fleet = Fleet()
    synced(fleet, "e", A, revision=3)
    assert fleet.synced(5, 0.0) is None
    assert fleet.last_event_id == "e-5"


def test_with_the_same_epoch_absent_services_go_at_once() -> None:
    fleet = Fleet()
    synced(fleet, "e", A, B)
    changes = synced(fleet, "e", A)
    assert dict(changes.records) == {"b@h": None}
    assert not fleet.held


def test_after_a_new_epoch_they_stay_suspect_for_a_lease_and_a_beat() -> None:
    leased = service("b@h", "m", lease_s=15.0)
    fleet = Fleet()
    synced(fleet, "e", A, leased)
    changes = synced(fleet, "f", A, now=100.0)
    assert changes.suspect == {"b@h"}
    assert dict(changes.records) == {"b@h": leased}
    assert fleet.next_expiry() == 120.0
    assert fleet.expired(119.0) is None
    gone = fleet.expired(120.0)
    assert gone is not None and gone.records == {"b@h": None}
    assert set(fleet.records) == {"a@h"}


def test_one_that_registers_again_is_suspect_no_more() -> None:
    fleet = Fleet()
    synced(fleet, "e", A)
    synced(fleet, "f", now=0.0)
    changes = fleet.put(A)
    assert changes is not None and not changes.suspect
    assert fleet.expired(1e9) is None
    assert set(fleet.records) == {"a@h"}


def test_a_second_sync_of_the_new_epoch_neither_drops_nor_renews_them() -> None:
    fleet = Fleet()
    synced(fleet, "e", A, B)
    synced(fleet, "f", now=0.0)
    synced(fleet, "f", B, now=15.0)
    assert set(fleet.held) == {"a@h"}
    assert fleet.next_expiry() == 20.0


def test_the_time_of_suspects_stands_still_while_the_registry_is_away() -> None:
    """It forgot, was heard for a moment, and was away again: nobody could register meanwhile."""
    fleet = Fleet()
    synced(fleet, "e", A)
    synced(fleet, "f", now=100.0)
    fleet.connection_lost(101.0)
    fleet.connection_lost(105.0)
    assert fleet.next_expiry() is None
    assert fleet.expired(1_000.0) is None
    synced(fleet, "f", now=131.0)
    assert fleet.next_expiry() == 150.0
    assert fleet.expired(149.0) is None
    assert fleet.expired(150.0) is not None


def test_a_snapshot_is_the_past_of_the_first_sync() -> None:
    fleet = Fleet()
    changes = fleet.restore("e", 4, [A, B])
    assert set(changes.records) == {"a@h", "b@h"}
    assert fleet.last_event_id == "e-4"
    assert dict(synced(fleet, "e", A).records) == {"b@h": None}


class Watching(RuleBasedStateMachine):
    """Whatever comes, the records equal the registry's after a sync, but for those held back."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.registry: dict[str, Service] = {}
        self.table: dict[str, Service] = {}
        self.epoch = 0
        self.now = 0.0

    def _apply(self, changes: Changes | None) -> None:
        for name, record in (changes.records if changes else {}).items():
            if record is None:
                self.table.pop(name, None)
            else:
                self.table[name] = record

    @rule(name=st.sampled_from("abc"), weight=st.integers(1, 3))
    def register(self, name: str, weight: int) -> None:
        self.registry[name] = service(name, "m", weight=float(weight))
        if self.fleet.synced_once:
            self._apply(self.fleet.put(self.registry[name]))

    @rule(name=st.sampled_from("abc"))
    def leave(self, name: str) -> None:
        if self.registry.pop(name, None) is not None and self.fleet.synced_once:
            self._apply(self.fleet.delete(name))

    @rule(new_epoch=st.booleans(), lose=st.booleans(), cut=st.booleans())
    def reconnect(self, new_epoch: bool, lose: bool, cut: bool) -> None:
        self.fleet.connection_lost(self.now)
        if new_epoch:
            self.epoch += 1
            if lose:
                self.registry.clear()
        self.fleet.reset(f"e{self.epoch}")
        for record in self.registry.values():
            self.fleet.put(record)
        if cut and self.fleet.synced_once:
            self.fleet.connection_lost(self.now)
            self.fleet.reset(f"e{self.epoch}")
            for record in self.registry.values():
                self.fleet.put(record)
        self._apply(self.fleet.synced(1, self.now))

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._apply(self.fleet.expired(self.now))

    @invariant()
    def the_view_is_the_registrys(self) -> None:
        assert self.table == self.fleet.records
        if self.fleet.synced_once:
            held = self.fleet.held.keys()
            assert self.table.keys() - held == self.registry.keys() - held
            assert not held & self.registry.keys()
            assert all(self.table[name] == record for name, record in self.registry.items())


Watching.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestWatching = Watching.TestCase
