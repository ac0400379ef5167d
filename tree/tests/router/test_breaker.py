"""Transcripts of a breaker with 3 failures, 30 s and 2 trials, then any transcript at all."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.breaker import Breaker, State

# What happens, line by line. `ask x` is a request called x: it is admitted or refused. `ok x`,
# `fail x` and `gone x` are what became of it. Seconds stand first where the clock moves.
TRANSCRIPTS = {
    "failures in a row open it, for exactly open_s": """
        0   ask a -> admitted    fail a -> closed
        1   ask b -> admitted    fail b -> closed
        2   ask c -> admitted    fail c -> open
        31.999  ask d -> refused
        32      ask e -> admitted
    """,
    "a success between failures breaks the row": """
        0   ask a -> admitted    fail a -> closed
        0   ask b -> admitted    fail b -> closed
        0   ask c -> admitted    ok c -> closed
        0   ask d -> admitted    fail d -> closed
        0   ask e -> admitted    fail e -> closed
        0   ask f -> admitted    fail f -> open
    """,
    "half-open has one trial at a time, and closes after all of them": """
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  ask e -> refused   ok d -> half_open
        30  ask f -> admitted  ask g -> refused   ok f -> closed
        30  ask h -> admitted  ask i -> admitted
    """,
    "a trial that fails opens it again, for as long": """
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  ok d -> half_open
        40  ask e -> admitted
        45  fail e -> open
        74.9  ask f -> refused
        75  ask g -> admitted  ok g -> half_open
        75  ask h -> admitted  ok h -> closed
    """,
    "a straggler neither closes it nor lengthens the cooldown": """
        0   ask old -> admitted  ask older -> admitted
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        20  fail old -> open   ok older -> open
        29.9  ask d -> refused
        30  ask e -> admitted
    """,
    "a straggler decides no trial": """
        0   ask old -> admitted  ask older -> admitted
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  ok old -> half_open  fail older -> half_open
        30  ask e -> refused   ok d -> half_open
    """,
    "a straggler from before the trip counts for nothing once it is closed": """
        0   ask old -> admitted  ask older -> admitted
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  ok d -> half_open  ask e -> admitted  ok e -> closed
        30  ask f -> admitted  ask g -> admitted  ask h -> admitted
        30  fail f -> closed   fail g -> closed
        30  fail old -> closed
        30  ok older -> closed
        30  fail h -> open
    """,
    "an abandoned trial is given to the next": """
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  ask e -> refused
        31  gone d -> half_open
        31  ask f -> admitted  ask g -> refused
        31  ok f -> half_open
    """,
    "who gave a trial up has no say in the one that followed": """
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   fail c -> open
        30  ask d -> admitted  gone d -> half_open
        30  fail d -> half_open  ok d -> half_open
        30  ask e -> admitted
        30  gone d -> half_open  ask f -> refused
        30  fail d -> half_open  ask g -> refused
        30  fail e -> open
    """,
    "an abandoned request of a closed one is no verdict": """
        0   ask a -> admitted  ask b -> admitted  ask c -> admitted
        0   fail a -> closed   fail b -> closed   gone c -> closed
        0   ask d -> admitted  fail d -> open
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(name: str) -> None:
    breaker = Breaker(failures=3, open_s=30, trials=2)
    permits: dict[str, int] = {}
    now = 0.0
    words = iter(TRANSCRIPTS[name].split())
    for word in words:
        if word[0].isdigit():
            now = float(word)
            continue
        who, _, expected = next(words), next(words), next(words)
        if word == "ask":
            would = breaker.admits(now)
            permit = breaker.admit(now)
            assert would == (permit is not None)
            found = "refused" if permit is None else "admitted"
            permits[who] = -1 if permit is None else permit
        else:
            _tell(breaker, word, permits[who], now)
            found = breaker.state.value
        assert found == expected, f"{word} {who} at {now}"


def _tell(breaker: Breaker, word: str, permit: int, now: float) -> None:
    before = breaker.state
    match word:
        case "ok":
            closed = breaker.succeeded(permit)
            assert closed == (before is State.HALF_OPEN and breaker.state is State.CLOSED)
        case "fail":
            opened = breaker.failed(permit, now)
            assert opened == (before is not State.OPEN and breaker.state is State.OPEN)
        case _:
            breaker.abandoned(permit)


def test_asking_whether_it_would_admit_starts_no_trial() -> None:
    breaker = Breaker(failures=1, open_s=30, trials=1)
    breaker.failed(breaker.life, now=0.0)
    for _ in range(3):
        assert breaker.admits(now=30.0)
    assert breaker.state is State.OPEN
    assert breaker.admit(now=30.0) is not None
    assert not breaker.admits(now=30.0)


def test_until_is_when_the_trial_may_begin_and_nothing_else() -> None:
    breaker = Breaker(failures=1, open_s=30, trials=1)
    assert breaker.until == 0.0
    breaker.failed(breaker.life, now=100.0)
    assert breaker.until == 130.0
    permit = breaker.admit(now=131.0)
    assert permit is not None
    assert breaker.until == 0.0
    breaker.failed(permit, now=140.0)
    assert breaker.until == 170.0
    permit = breaker.admit(now=170.0)
    assert permit is not None
    assert breaker.succeeded(permit)
    assert breaker.until == 0.0


def test_it_is_described_for_people() -> None:
    breaker = Breaker(failures=2, open_s=30, trials=2)
    breaker.failed(breaker.life, now=0.0)
    assert breaker.describe(0.0) == "breaker closed, 1 of 2 failures"
    breaker.failed(breaker.life, now=0.0)
    assert breaker.describe(18.0) == "breaker open, trial in 12 s"
    assert breaker.describe(29.01) == "breaker open, trial in 1 s"
    assert breaker.describe(30.0) == "breaker open, trial due"
    permit = breaker.admit(30.0)
    assert permit is not None
    assert breaker.describe(30.0) == "breaker half-open, a trial runs, 0 of 2 won"
    breaker.succeeded(permit)
    assert breaker.describe(30.0) == "breaker half-open, trial due, 1 of 2 won"


class Traffic(RuleBasedStateMachine):
    """Requests that end in any order, also twice; trials are counted from outside."""

    FAILURES, OPEN_S, TRIALS = 2, 10.0, 2

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(self.FAILURES, self.OPEN_S, self.TRIALS)
        self.now = 0.0
        #: Permits of requests that run, and of those that ended.
        self.running: list[int] = []
        self.ended: list[int] = []
        #: Of the running ones: the trial.
        self.trial: int | None = None
        self.opened_at: float | None = None

    @rule(seconds=st.sampled_from([0.0, 0.5, 9.9, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        before = self.breaker.state
        would = self.breaker.admits(self.now)
        permit = self.breaker.admit(self.now)
        assert would == (permit is not None)
        if permit is None:
            assert before is not State.CLOSED
            return
        if before is State.OPEN:
            assert self.opened_at is not None and self.now >= self.opened_at + self.OPEN_S
        if before is not State.CLOSED:
            assert self.trial is None, "a second trial while one runs"
            assert permit not in self.running and permit not in self.ended
            self.trial = permit
        self.running.append(permit)

    @precondition(lambda self: self.breaker.state is State.CLOSED)
    @rule()
    def trip(self) -> None:
        """Seldom found by chance alone."""
        while self.breaker.state is State.CLOSED:
            self.ask()
            self.end(len(self.running) - 1, "fail")
        self.now += self.OPEN_S

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0), word=st.sampled_from(["ok", "fail", "gone"]))
    def end(self, at: int, word: str) -> None:
        permit = self.running.pop(at % len(self.running))
        self.ended.append(permit)
        self._tell(word, permit)

    @precondition(lambda self: self.ended)
    @rule(at=st.integers(0), word=st.sampled_from(["ok", "fail", "gone"]))
    def end_again(self, at: int, word: str) -> None:
        permit = self.ended[at % len(self.ended)]
        if self.breaker.state is not State.CLOSED:  # a closed one cannot tell its requests apart
            self._tell(word, permit)

    def _tell(self, word: str, permit: int) -> None:
        breaker = self.breaker
        before = breaker.state, breaker.failures, breaker.won, breaker.trial, breaker.until
        is_trial = permit == self.trial
        straggler = permit != breaker.life
        _tell(breaker, word, permit, self.now)
        after = breaker.state, breaker.failures, breaker.won, breaker.trial, breaker.until
        if straggler or (before[0] is State.HALF_OPEN and not is_trial):
            assert after == before, "a straggler changed something"
        if is_trial:
            self.trial = None
            if word == "fail":
                assert breaker.state is State.OPEN
        if breaker.state is State.OPEN and before[0] is not State.OPEN:
            self.opened_at = self.now
            assert breaker.until == self.now + self.OPEN_S

    @invariant()
    def a_trial_is_running_or_may_be_had(self) -> None:
        breaker = self.breaker
        assert breaker.trial == (self.trial is not None)
        if breaker.state is State.HALF_OPEN:
            assert breaker.admits(self.now) == (self.trial is None)
        else:
            assert self.trial is None
        if breaker.state is State.OPEN:
            assert breaker.admits(self.now) == (self.now >= breaker.until)
        assert (breaker.until > 0) == (breaker.state is State.OPEN)
        assert breaker.failures < self.FAILURES and breaker.won < self.TRIALS


Traffic.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestABreakerNeverAdmitsTwoTrials = Traffic.TestCase
