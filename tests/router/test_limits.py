"""By arithmetic, then against a slow and obvious bucket that never rounds."""

from fractions import Fraction
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.limits import OWED_MINUTES_MAX, Grant, Limiter, Meter, describe, limiter
from router.named import Limits


def asked(meter: Meter, cost: int, now: float) -> bool:
    """Once, and charged where it passes."""
    allowed = meter.decide(cost, now).allowed
    assert allowed == meter.allows(cost, now)
    if allowed:
        meter.charge(cost)
    return allowed


def admitted(meter: Meter, now: float) -> int:
    """How many of cost 1 pass at one moment."""
    count = 0
    while asked(meter, 1, now):
        count += 1
    return count


# --- requests -------------------------------------------------------------------------------------


def test_the_whole_minute_may_be_used_at_once_and_comes_back_evenly() -> None:
    meter = Meter("requests", 60)
    assert admitted(meter, now=1_000.0) == 60
    assert admitted(meter, now=1_000.9) == 0
    assert admitted(meter, now=1_001.0) == 1
    assert admitted(meter, now=1_011.0) == 10
    assert admitted(meter, now=5_000.0) == 60, "never more than a minute's worth"


def test_a_decision_says_what_is_left_and_when_it_is_full_again() -> None:
    meter = Meter("requests", 60)
    first = meter.decide(1, now=0.0)
    assert (first.allowed, first.remaining, first.limit) == (True, 59, 60)
    assert (first.retry_after_s, first.reset_s) == (0.0, 1.0)
    assert meter.decide(1, now=0.0) == first, "asking takes nothing"
    admitted(meter, now=0.0)
    refused = meter.decide(1, now=0.25)
    assert (refused.allowed, refused.remaining) == (False, 0)
    assert (refused.retry_after_s, refused.reset_s) == (0.75, 59.75)


def test_a_request_above_the_limit_can_never_pass() -> None:
    meter = Meter("tokens", 100)
    assert meter.decide(100, now=0.0).allowed
    assert meter.decide(101, now=0.0).retry_after_s == inf


def test_nothing_is_lost_by_rounding() -> None:
    """Steps of 60/7 s have no end in binary; a million of them must not add up to an error."""
    meter = Meter("requests", 7)
    assert admitted(meter, now=0.0) == 7
    now = 0.0
    for turn in range(1, 10_000):
        now = turn * 60 / 7
        assert asked(meter, 1, now + 1e-6), turn
        assert not asked(meter, 1, now + 2e-6), turn


def test_a_clock_that_runs_backwards_stands_still() -> None:
    meter = Meter("requests", 1)
    assert asked(meter, 1, now=100.0)
    assert not asked(meter, 1, now=50.0)
    assert asked(meter, 1, now=160.0)


# --- tokens ---------------------------------------------------------------------------------------


def test_what_was_held_and_not_used_comes_back_at_once() -> None:
    meter = Meter("tokens", 1_000)
    hold = meter.hold(800)
    assert meter.decide(1, now=0.0).remaining == 199
    meter.settle(hold, 100, now=0.0)
    assert meter.decide(1, now=0.0).remaining == 899


def test_without_a_word_on_usage_the_estimate_stands() -> None:
    meter = Meter("tokens", 1_000)
    meter.settle(meter.hold(800), None, now=0.0)
    assert meter.decide(1, now=0.0).remaining == 199


def test_more_than_was_held_is_owed() -> None:
    meter = Meter("tokens", 600)
    meter.settle(meter.hold(100), 900, now=0.0)
    refused = meter.decide(1, now=0.0)
    assert (refused.remaining, refused.retry_after_s) == (0, 30.1)
    assert not meter.allows(1, now=30.0)
    assert meter.allows(1, now=30.1)


def test_nonsense_usage_shuts_nobody_out_for_long() -> None:
    meter = Meter("tokens", 600)
    meter.settle(meter.hold(100), 10**18, now=0.0)
    assert meter.decide(600, now=0.0).retry_after_s == OWED_MINUTES_MAX * 60
    meter.settle(meter.hold(100), 10**18, now=0.0)
    assert meter.decide(600, now=0.0).retry_after_s == OWED_MINUTES_MAX * 60


def test_what_has_leaked_meanwhile_is_not_given_back_again() -> None:
    meter = Meter("tokens", 1_000)
    long = meter.hold(1_000)
    assert asked(meter, 1_000, now=60.0), "the bucket is full again while it runs"
    meter.settle(long, 0, now=60.0)
    assert admitted(meter, now=60.0) == 0, "or two minutes' worth would pass in one moment"


def test_while_others_owe_a_hold_waits_to_leak() -> None:
    meter = Meter("tokens", 600)
    meter.charge(300)
    hold = meter.hold(300)
    # 30 s pay what is owed; the hold is whole, and comes back whole.
    meter.settle(hold, 0, now=30.0)
    assert meter.decide(1, now=30.0).remaining == 599


# --- all of one model's limits --------------------------------------------------------------------


def test_all_limits_must_allow_or_nothing_is_taken() -> None:
    found = Limiter(Limits(rpm=10, tpm=100, max_concurrency=2))
    assert found.take(101, now=0.0) is None
    first = found.take(60, now=0.0)
    assert first is not None
    assert [left for _, _, left, _ in first.told] == [9, 40]
    assert found.take(60, now=0.0) is None, "40 tokens are left"
    second = found.take(40, now=0.0)
    assert second is not None
    assert [left for _, _, left, _ in second.told] == [8, 0]
    second.settle(0, now=0.0)
    assert [one.remaining for one in found.decide(1, now=0.0)] == [7, 39, 0]


def test_a_place_comes_back_once() -> None:
    found = Limiter(Limits(max_concurrency=1))
    grant = found.take(1, now=0.0)
    assert grant is not None
    assert not found.allows(1, now=1e9), "places come back with their request alone"
    grant.settle(None, now=1.0)
    grant.settle(None, now=1.0)
    assert found.in_flight == 0
    assert found.allows(1, now=1.0)


def test_tokens_settle_once() -> None:
    found = Limiter(Limits(tpm=100))
    grant = found.take(50, now=0.0)
    assert grant is not None
    grant.settle(10, now=0.0)
    grant.settle(90, now=0.0)
    assert found.decide(1, now=0.0)[0].remaining == 89


def test_no_limits_are_no_limiter() -> None:
    assert limiter(Limits()) is None
    assert limiter(Limits(rpm=1)) is not None


@pytest.mark.parametrize(
    ("limits", "tokens", "reason"),
    [
        (Limits(rpm=60), 1, "limit of 60 requests a minute reached, room in 1 s"),
        (Limits(tpm=600), 600, "limit of 600 tokens a minute reached, room in 1 s"),
        (Limits(tpm=600), 601, "limit of 600 tokens a minute is below the request's 601"),
        (Limits(max_concurrency=60), 1, "limit of 60 requests at once reached"),
    ],
)
def test_a_provider_at_its_limit_says_why(limits: Limits, tokens: int, reason: str) -> None:
    found = Limiter(limits)
    assert found.refusal(1, now=0.0) is None
    for _ in range(60):
        assert found.take(1 if tokens == 1 else 10, now=50.0) is not None
    now = 50.0 if tokens == 1 else 109.5
    assert found.refusal(tokens, now) == reason


def test_what_is_left_is_described_for_people() -> None:
    found = Limiter(Limits(rpm=600, tpm=1_000, max_concurrency=8))
    assert [describe(one) for one in found.decide(100, now=0.0)] == [
        "599 of 600 requests left this minute",
        "900 of 1000 tokens left this minute",
        "7 of 8 places free",
    ]


def test_a_reload_forgets_nothing_that_was_used() -> None:
    found = Limiter(Limits(rpm=60, tpm=600, max_concurrency=5))
    grants = [found.take(100, now=0.0) for _ in range(5)]
    found.change(Limits(rpm=120, tpm=600, max_concurrency=6), now=0.0)
    assert [one.remaining for one in found.decide(1, now=0.0)] == [114, 99, 0]
    found.change(Limits(rpm=3), now=1.0)
    assert not found.allows(1, now=1.0)
    for grant in grants:
        assert grant is not None
        grant.settle(1, now=2.0)
    assert found.in_flight == 0


def test_time_before_a_reload_counts_at_the_old_rate() -> None:
    found = Limiter(Limits(rpm=60))
    while found.take(1, now=0.0) is not None:
        pass
    found.change(Limits(rpm=600), now=30.0)
    # 30 of 60 came back; of the new 600, 570 are free.
    assert found.decide(1, now=30.0)[0].remaining == 569


# --- any order of things --------------------------------------------------------------------------

#: Eighths of a second: whole in binary, so that the model below can be exact.
TICKS = st.integers(0, 8 * 90)


@given(
    st.integers(1, 50),
    st.lists(st.tuples(TICKS, st.integers(1, 60)), min_size=1, max_size=60),
)
def test_it_admits_what_an_exact_bucket_admits(limit: int, asks: list[tuple[int, int]]) -> None:
    meter = Meter("tokens", limit)
    room, now = Fraction(limit), 0.0
    for ticks, cost in asks:
        now += ticks / 8
        room = min(room + Fraction(ticks, 8) * limit / 60, Fraction(limit))
        decision = meter.decide(cost, now)
        assert decision.allowed == (cost <= room)
        if decision.allowed:
            room -= cost
            meter.charge(cost)
        elif cost <= limit:
            again = now + decision.retry_after_s
            waits = Fraction(60, limit) * (cost - room)
            assert decision.retry_after_s == pytest.approx(float(waits), abs=1e-6)
            assert Meter.allows(_copy(meter), cost, again + 1e-6)
        assert decision.remaining == int(max(room, Fraction(0)))
        assert decision.reset_s == pytest.approx(float((limit - room) * 60 / limit), abs=1e-6)


def _copy(meter: Meter) -> Meter:
    found = Meter(meter.kind, meter.limit)
    found._at, found._owed = meter._at, meter._owed
    return found


class Running(RuleBasedStateMachine):
    """Requests begin and end in any order, with any usage up to their estimate."""

    LIMITS = Limits(rpm=20, tpm=100, max_concurrency=4)

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(self.LIMITS)
        self.now = 0.0
        #: When it was admitted, what it used or will at most have used.
        self.uses: list[list[float]] = []
        self.running: list[tuple[int, int]] = []
        self.grants: dict[int, Grant] = {}
        #: A bucket that gives nothing back: whatever it lets pass must pass here.
        self.strict = Meter("tokens", 100)

    @rule(ticks=TICKS)
    def wait(self, ticks: int) -> None:
        self.now += ticks / 8

    @rule(tokens=st.integers(1, 110))
    def begin(self, tokens: int) -> None:
        decisions = self.limiter.decide(tokens, self.now)
        allows = self.limiter.allows(tokens, self.now)
        must = self.strict.allows(tokens, self.now)
        grant = self.limiter.take(tokens, self.now)
        assert (grant is not None) == allows == all(one.allowed for one in decisions)
        if must and len(self.running) < 4 and decisions[0].allowed:
            assert grant is not None, "refused though the bucket had room"
        if grant is not None:
            assert len(self.running) < 4
            self.strict.charge(tokens)
            self.running.append((len(self.uses), tokens))
            self.grants[len(self.uses)] = grant
            self.uses.append([self.now, tokens])

    @rule(at=st.integers(0), used=st.one_of(st.none(), st.floats(0, 1)), twice=st.booleans())
    def end(self, at: int, used: float | None, twice: bool) -> None:
        if not self.running:
            return
        which, tokens = self.running.pop(at % len(self.running))
        actual = None if used is None else int(used * tokens)
        for _ in range(1 + twice):
            self.grants[which].settle(actual, self.now)
        self.uses[which][1] = tokens if actual is None else actual

    @invariant()
    def no_window_holds_more_than_it_may(self) -> None:
        running = {which for which, _ in self.running}
        for first in range(len(self.uses)):
            spent = 0.0
            for which in range(first, len(self.uses)):
                # Of what runs nobody knows yet what it uses: maybe nothing.
                spent += 0 if which in running else self.uses[which][1]
                span_s = self.uses[which][0] - self.uses[first][0]
                assert spent <= 100 + span_s * 100 / 60 + 1e-6
                assert which - first + 1 <= 20 + span_s * 20 / 60 + 1e-6

    @invariant()
    def places_are_counted(self) -> None:
        assert self.limiter.in_flight == len(self.running)

    def teardown(self) -> None:
        for which, _ in self.running:
            self.grants[which].settle(None, self.now)
        assert self.limiter.in_flight == 0
        later = self.limiter.decide(1, self.now + 61)
        assert [one.remaining for one in later] == [19, 99, 3], "all of it comes back"


Running.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRunningRequests = Running.TestCase
