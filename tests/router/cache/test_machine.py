"""The cache in a whole Brain, under any interleaving: identical requests come, are answered well or
badly, fail, leave, wait too long, stand in the queue for an engine that has one place, and the
shared store answers early, late or not at all.

After every step: whoever waits does so for somebody who has not ended, nothing but good answers is
kept, and nobody is told another question's answer.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.cache.entry import Entry
from router.cache.ticket import _Phase
from router.config import Cache
from router.errors import Problem
from router.outcome import Failure, Outcome
from router.seam import Attempt
from tests.router.cache.requests import JSON, Asked, Later, caching
from tests.router.cache.test_ticket import Store

TEXTS = ("a", "b")
AT = st.integers(0, 9)


def good(text: str) -> bytes:
    return b'{"choices":["%b"]}' % text.encode()


class Requests(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.brain = caching(Cache(waiting_max=3, bytes_max=1_200), places=1)
        later = self.brain.cache.soon
        assert isinstance(later, Later)
        self.later = later
        self.store = Store()
        self.running: list[tuple[str, Asked]] = []

    def _pick(self, at: int, *, asks: bool = False) -> tuple[str, Asked] | None:
        found = [one for one in self.running if one[1].asks or not asks]
        return found[at % len(found)] if found else None

    def _settle(self, text: str, one: Asked) -> None:
        """What it was told is done at once, where that is nothing to wait for."""
        if one.hit is not None:
            assert one.hit == good(text)
            one.ends(now=self.now)
            self.running.remove((text, one))
        elif isinstance(one.step, Problem):
            one.ends(Outcome.REFUSED, one.step.status, self.now)
            self.running.remove((text, one))

    @rule(text=st.sampled_from(TEXTS), anew=st.booleans())
    def comes(self, text: str, anew: bool) -> None:
        headers = {"cache-control": "no-cache"} if anew else None
        one = Asked(self.brain, text, now=self.now, headers=headers)
        self.running.append((text, one))
        self._settle(text, one)

    @rule(
        at=AT, body=st.sampled_from(["good", "error", "none"]), status=st.sampled_from([200, 400])
    )
    def is_answered(self, at: int, body: str, status: int) -> None:
        found = self._pick(at, asks=True)
        if found is None:
            return
        bodies = {"good": good(found[0]), "error": b'{"error":{"message":"no"}}', "none": None}
        found[1].answered(bodies[body], now=self.now, status=status)
        self.running.remove(found)

    @rule(at=AT, failure=st.sampled_from([Failure.CONNECT, Failure.NO_ANSWER, Failure.MALFORMED]))
    def fails(self, at: int, failure: Failure) -> None:
        found = self._pick(at, asks=True)
        if found is not None:
            found[1].step = found[1].plan.failed(failure, True, self.now)
            found[1].woken = False
            self._settle(*found)

    @rule(at=AT)
    def is_cut(self, at: int) -> None:
        found = self._pick(at, asks=True)
        if found is not None:
            found[1].begins(now=self.now)
            found[1].says(b'{"choices":')
            found[1].ends(Outcome.CUT, 200, self.now)
            self.running.remove(found)

    @rule(at=AT)
    def leaves(self, at: int) -> None:
        found = self._pick(at)
        if found is not None:
            found[1].ends(Outcome.CANCELLED, 499, self.now)
            self.running.remove(found)

    @rule(at=AT)
    def has_waited_long_enough(self, at: int) -> None:
        found = self._pick(at)
        if found is not None and found[1].waits:
            found[1].goes_on(self.now)
            self._settle(*found)

    @rule()
    def the_loop_turns(self) -> None:
        self.later.run()
        for text, one in list(self.running):
            if one.waits and one.woken:
                one.goes_on(self.now)
                self._settle(text, one)

    @rule(shared=st.booleans(), there=st.booleans())
    def the_store_comes_and_goes(self, shared: bool, there: bool) -> None:
        self.store.there = there
        self.brain.cache.shared = self.store if shared else None

    @precondition(lambda self: self.store.tells)
    @rule(at=AT, has=st.booleans())
    def the_store_answers(self, at: int, has: bool) -> None:
        tell = self.store.tells.pop(at % len(self.store.tells))
        ticket = tell.__self__  # type: ignore[attr-defined]
        entry = self.store.puts.get(ticket._key) if has else None
        tell(entry)

    @rule(seconds=st.sampled_from([0.1, 31.0, 4_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def whoever_waits_waits_for_somebody(self) -> None:
        self.brain.cache.flights.check()
        asking = {one.plan for _, one in self.running}
        for flight in self.brain.cache.flights._flights.values():
            assert flight.leader in asking
            assert asking.issuperset(flight.waiting)
        assert len(self.brain.cache.flights) <= len(asking)
        for _, one in self.running:
            if one.plan._phase is _Phase.WAITS and not one.plan._told:  # type: ignore[attr-defined]
                flight = self.brain.cache.flights._flights[one.plan._key]  # type: ignore[attr-defined]
                assert one.plan in flight.waiting

    @invariant()
    def only_good_answers_are_kept(self) -> None:
        kept: list[Entry] = [*self.brain.cache.memory._entries.values(), *self.store.puts.values()]
        assert {one.body for one in kept} <= {good(text) for text in TEXTS}
        assert {one.type for one in kept} <= {JSON}
        assert self.brain.cache.memory.bytes <= 1_200

    def teardown(self) -> None:
        """Whatever is left ends; only who backs off or stands in the queue has the clock's help."""
        self.brain.cache.shared = None
        for _ in range(20 * len(self.running)):
            if not self.running:
                break
            asks = self._pick(0, asks=True)
            looks = next((one for one in self.running if one[1].waits and not one[1].woken), None)
            if asks is not None and isinstance(asks[1].step, Attempt):
                self.is_answered(0, "good", 200)
            elif self.store.tells:
                self.the_store_answers(0, has=False)
            elif looks is not None and looks[1].plan.cache == "miss":
                self.now += 31.0
                self.has_waited_long_enough(self.running.index(looks))
            else:
                before = len(self.running)
                self.the_loop_turns()
                assert len(self.running) < before or self._pick(0, asks=True), "somebody waits"
            self.whoever_waits_waits_for_somebody()
        assert not self.running, "somebody waits for ever"
        assert self.brain.cache.room.used == 0
        assert (len(self.brain.cache.flights), self.brain.cache.flights.waiting) == (0, 0)
        assert all(state.in_flight == 0 for state in self.brain.states())
        assert all(one.node.in_flight == 0 for one in self.brain.table.upstreams.values())


Requests.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRequests = Requests.TestCase
