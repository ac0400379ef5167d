"""Single flight: of identical requests in the air one is asked, and nobody waits for ever."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.cache.flights import Flights, Role

KEY = b"k"


def test_the_first_leads_and_the_others_have_its_answer() -> None:
    flights: Flights[str] = Flights(10)
    roles = [flights.join(KEY, who) for who in ("a", "b", "c")]
    assert roles == [Role.LEADS, Role.WAITS, Role.WAITS]
    assert flights.landed(KEY, "a") == ("b", "c")
    assert (len(flights), flights.waiting) == (0, 0)
    assert flights.join(KEY, "d") is Role.LEADS


def test_other_requests_fly_for_themselves() -> None:
    flights: Flights[str] = Flights(10)
    assert flights.join(b"one", "a") is flights.join(b"other", "b") is Role.LEADS


def test_the_next_leads_where_the_leader_left() -> None:
    flights: Flights[str] = Flights(10)
    for who in ("a", "b", "c"):
        flights.join(KEY, who)
    assert flights.left(KEY, "a") == "b"
    assert flights.landed(KEY, "a") == ()  # it leads no more
    assert flights.landed(KEY, "b") == ("c",)


def test_who_waits_may_leave() -> None:
    flights: Flights[str] = Flights(10)
    for who in ("a", "b", "c"):
        flights.join(KEY, who)
    assert flights.left(KEY, "b") is None
    assert flights.left(KEY, "b") is None
    assert flights.landed(KEY, "a") == ("c",)


def test_a_flight_whose_last_left_is_over() -> None:
    flights: Flights[str] = Flights(10)
    flights.join(KEY, "a")
    assert flights.left(KEY, "a") is None
    assert len(flights) == 0
    assert flights.left(KEY, "nobody") is None


def test_no_more_wait_than_may() -> None:
    flights: Flights[str] = Flights(1)
    flights.join(b"one", "a")
    flights.join(b"two", "b")
    assert flights.join(b"one", "c") is Role.WAITS
    assert flights.join(b"two", "d") is Role.ALONE
    flights.left(b"one", "c")
    assert flights.join(b"two", "e") is Role.WAITS


class Interleaved(RuleBasedStateMachine):
    """Requests come, are answered, fail and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[int] = Flights(4)
        self.count = 0
        #: Each that has not ended: its key, and whether it waits.
        self.running: dict[int, tuple[bytes, bool]] = {}

    def _tell(self, *told: int) -> None:
        for who in told:
            key, waits = self.running[who]
            assert waits, "told twice, or told who did not wait"
            self.running[who] = key, False

    @rule(key=st.sampled_from([b"a", b"b"]))
    def comes(self, key: bytes) -> None:
        self.count += 1
        role = self.flights.join(key, self.count)
        leads = any(k == key and not waits for k, waits in self.running.values())
        assert role is not Role.WAITS or leads
        self.running[self.count] = key, role is Role.WAITS

    @rule(at=st.integers(0, 9))
    def lands(self, at: int) -> None:
        asks = [who for who, (_, waits) in self.running.items() if not waits]
        if asks:
            who = asks[at % len(asks)]
            self._tell(*self.flights.landed(self.running.pop(who)[0], who))

    @rule(at=st.integers(0, 9))
    def leaves(self, at: int) -> None:
        if self.running:
            who = list(self.running)[at % len(self.running)]
            told = self.flights.left(self.running.pop(who)[0], who)
            self._tell(*(() if told is None else (told,)))

    @invariant()
    def holds(self) -> None:
        self.flights.check()
        waiting = {who for who, (_, waits) in self.running.items() if waits}
        assert self.flights.waiting == len(waiting)
        # Whoever waits, waits for somebody who is asked and has not ended.
        for who in waiting:
            key = self.running[who][0]
            assert any(k == key and not waits for k, waits in self.running.values())

    def teardown(self) -> None:
        while self.running:
            self.leaves(0)
            self.holds()
        assert (len(self.flights), self.flights.waiting) == (0, 0)


TestInterleaved = Interleaved.TestCase
