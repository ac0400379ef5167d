"""Any order of events: Hypothesis plays the world, and the machine must never break its rules."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from babysitter import actions, events
from babysitter import lifecycle as lc
from babysitter.cause import Cause, Ending
from babysitter.restart import Policy, Restarts
from common.wire.babysitter import EngineState as State
from common.wire.registry import Status

DICE = st.floats(0, 0.999)
ENDINGS = st.sampled_from(
    [Ending(Cause.CODE, "0", code=0), Ending(Cause.SIGNAL, "9", signal="SIGKILL")]
)


class World(RuleBasedStateMachine):
    """Does what the machine says, as the supervisor would, with processes that are but names."""

    def __init__(self) -> None:
        super().__init__()
        limits = lc.Limits(ready_timeout_s=60, drain_timeout_s=20, stop_grace_s=5)
        self.machine = lc.Lifecycle(limits, Restarts(Policy(max_restarts=3, window_s=100)))
        self.now = 0.0
        self.lives = 0
        self.running: str | None = None
        self.ending = False
        self.draining = False
        self.record: Status | None = None
        self.failures_told = 0

    def post(self, event: events.Event, dice: float = 0.0, starts: bool = True) -> None:
        pending = [event]
        while pending:
            for action in self.machine.handle(pending.pop(0), self.now, dice):
                match action:
                    case actions.Launch():
                        assert self.running is None, "started twice"
                        self.ending = self.draining = False
                        if starts:
                            self.lives += 1
                            self.running = f"life {self.lives}"
                            pending.append(events.Launched(self.running))
                        else:
                            pending.append(events.NotLaunched(Ending(Cause.NOT_STARTED, "no file")))
                    case actions.Stop() | actions.Kill():
                        assert self.running is not None, "stopped what does not run"
                        self.ending = True
                    case actions.Drain():
                        assert self.running is not None
                        self.draining = True
                    case actions.Announce(status, create):
                        if create or self.record is not None:
                            self.record = status
                    case actions.Deregister():
                        self.record = None

    @rule(dice=DICE, starts=st.booleans())
    def start(self, dice: float, starts: bool) -> None:
        self.post(events.StartAsked(), dice, starts)
        assert self.machine.wanted

    @rule()
    def stop(self) -> None:
        self.post(events.StopAsked())
        assert not self.machine.wanted

    @rule(starts=st.booleans())
    def restart(self, starts: bool) -> None:
        self.post(events.RestartAsked(), starts=starts)

    @rule()
    def kill(self) -> None:
        self.post(events.KillAsked())

    @rule()
    def reconfigure(self) -> None:
        self.post(events.Reconfigured())

    @precondition(lambda self: self.running is not None)
    @rule(ending=ENDINGS, dice=DICE)
    def exit(self, ending: Ending, dice: float) -> None:
        life, self.running = self.running, None
        assert life is not None
        self.post(events.Exited(life, ending), dice)

    @precondition(lambda self: self.running is not None and not self.ending)
    @rule()
    def answer(self) -> None:
        assert self.running is not None
        self.post(events.Answered(self.running))

    @precondition(lambda self: self.running is not None)
    @rule()
    def silence(self) -> None:
        assert self.running is not None
        self.post(events.NotAnswered(self.running))

    @precondition(lambda self: self.running is not None and self.draining)
    @rule()
    def drained(self) -> None:
        assert self.running is not None
        self.post(events.Drained(self.running))

    @precondition(lambda self: self.running is not None)
    @rule()
    def stall_or_stranger(self) -> None:
        assert self.running is not None
        self.post(events.Stalled(self.running, "still"))
        self.post(events.PortFoundTaken(self.running, "taken"))

    @rule(event=st.sampled_from(["exited", "answered", "drained", "stalled"]))
    def late_news_of_an_earlier_life(self, event: str) -> None:
        before = (self.machine.state, self.machine.due, self.record)
        late: dict[str, events.Event] = {
            "exited": events.Exited("life 0", Ending(Cause.CODE, "late")),
            "answered": events.Answered("life 0"),
            "drained": events.Drained("life 0"),
            "stalled": events.Stalled("life 0", "late"),
        }
        self.post(late[event])
        assert (self.machine.state, self.machine.due, self.record) == before

    @rule(seconds=st.floats(0, 90), starts=st.booleans())
    def time(self, seconds: float, starts: bool) -> None:
        self.now += seconds
        self.post(events.TimeIsUp(), starts=starts)

    @invariant()
    def rules_hold(self) -> None:
        self.machine.validate()

    @invariant()
    def it_knows_what_runs(self) -> None:
        assert self.machine.instance_id == self.running

    @invariant()
    def the_registry_says_running_only_of_what_is_ready(self) -> None:
        if self.record is Status.RUNNING:
            assert self.machine.state is State.READY
        if self.machine.state is State.READY:
            assert self.record is Status.RUNNING

    @invariant()
    def whatever_it_waits_for_ends(self) -> None:
        if self.machine.due is not None:
            assert self.machine.due - self.now <= 60.001

    def teardown(self) -> None:
        """From anywhere, a stop ends in STOPPED within a bounded number of events."""
        self.post(events.StopAsked())
        for _ in range(5):
            if self.machine.state is State.STOPPED:
                break
            self.now += 100
            self.post(events.TimeIsUp())
            if self.ending and self.running is not None:
                life, self.running = self.running, None
                self.post(events.Exited(life, Ending(Cause.SIGNAL, "9", signal="SIGKILL")))
        assert self.machine.state is State.STOPPED
        assert self.running is None
        assert self.record is None
        self.machine.validate()


World.TestCase.settings = settings(stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestLifecycleMachine = World.TestCase
