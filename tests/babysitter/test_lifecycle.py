"""The engine's lifecycle as transcripts: an event on the left, what is done about it right."""

from typing import Any

import pytest

from babysitter.actions import Announce, Deregister, Drain, Kill, Launch, Stop
from babysitter.cause import Cause, Ending
from babysitter.events import (
    Adopted,
    Answered,
    Doubted,
    Drained,
    Event,
    Exited,
    KillAsked,
    Launched,
    NotAnswered,
    NotLaunched,
    PortFoundTaken,
    Reconfigured,
    RestartAsked,
    Stalled,
    StartAsked,
    StopAsked,
    TimeIsUp,
)
from babysitter.lifecycle import Lifecycle, Limits
from babysitter.restart import Policy, Restarts
from common.wire.babysitter import EngineState as State
from common.wire.registry import Status

CRASH = Ending(Cause.SIGNAL, "killed by SIGKILL", signal="SIGKILL")
CLEAN = Ending(Cause.CODE, "exited with code 0", code=0)


class Play:
    """A machine and its clock."""

    def __init__(self, **policy: Any) -> None:
        self.machine = Lifecycle(Limits(), Restarts(Policy(**policy)))
        self.now = 1000.0

    def __call__(self, event: Event, after_s: float = 0.0) -> list[Any]:
        self.now += after_s
        actions = self.machine.handle(event, self.now, 0.0)
        if Launch() not in actions:
            self.machine.validate()
        return actions

    @property
    def state(self) -> State:
        return self.machine.state

    def ready(self, life: str = "a") -> "Play":
        self(StartAsked())
        self(Launched(life))
        self(Answered(life))
        assert self.state is State.READY
        return self


@pytest.fixture
def play() -> Play:
    return Play()


def test_a_start_launches_and_a_good_answer_makes_it_ready_and_known(play: Play) -> None:
    assert play(StartAsked()) == [Announce(Status.STARTING), Launch()]
    assert play(Launched("a")) == []
    assert play(NotAnswered("a")) == []
    assert play.state is State.STARTING
    assert play(Answered("a")) == [Announce(Status.RUNNING, create=True)]
    assert play.state is State.READY


def test_ready_is_never_because_time_passed(play: Play) -> None:
    play(StartAsked())
    play(Launched("a"))
    play(TimeIsUp(), after_s=599)
    assert play.state is State.STARTING


def test_a_start_that_takes_too_long_is_stopped_and_tried_again(play: Play) -> None:
    play(StartAsked())
    play(Launched("a"))
    assert play(TimeIsUp(), after_s=600) == [Announce(Status.STOPPING), Stop(10.0)]
    assert play(Exited("a", CRASH)) == [Announce(Status.BACKOFF)]
    assert play.machine.last == Ending(Cause.NOT_READY, "not ready after 600 s", signal="SIGKILL")


def test_a_crash_is_told_at_once_and_restarted_after_the_wait(play: Play) -> None:
    play.ready()
    assert play(Exited("a", CRASH)) == [Announce(Status.BACKOFF)]
    assert play.state is State.BACKOFF
    assert play(TimeIsUp(), after_s=0.5) == []
    assert play(TimeIsUp(), after_s=0.5) == [Announce(Status.STARTING), Launch()]


def test_exit_0_is_a_failure_too(play: Play) -> None:
    play.ready()
    play(Exited("a", CLEAN))
    assert play.state is State.BACKOFF
    assert play.machine.last == CLEAN


def test_too_many_crashes_are_fatal_and_a_start_gives_it_a_new_chance() -> None:
    play = Play(max_restarts=1).ready("a")
    play(Exited("a", CRASH))
    play(TimeIsUp(), after_s=1)
    play(Launched("b"))
    assert play(Exited("b", CRASH)) == [Announce(Status.FATAL)]
    assert play.state is State.FATAL
    assert play.machine.given_up == "1 restart in 1 s"
    assert play(TimeIsUp(), after_s=9999) == []
    assert play(StartAsked()) == [Announce(Status.STARTING), Launch()]


def test_a_program_that_cannot_be_started_waits_like_a_crash(play: Play) -> None:
    play(StartAsked())
    none = Ending(Cause.NOT_STARTED, "no such file: vllm")
    assert play(NotLaunched(none)) == [Announce(Status.BACKOFF)]
    assert play.machine.last == none


def test_a_stop_deregisters_before_it_drains_and_drains_before_it_stops(play: Play) -> None:
    play.ready()
    assert play(StopAsked()) == [Deregister(), Announce(Status.DRAINING), Drain()]
    assert play.state is State.DRAINING
    assert play(Drained("a")) == [Announce(Status.STOPPING), Stop(10.0)]
    assert play(Exited("a", CRASH)) == []
    assert play.state is State.STOPPED
    assert not play.machine.wanted


def test_a_drain_has_a_limit(play: Play) -> None:
    play.ready()
    play(StopAsked())
    assert play(TimeIsUp(), after_s=29.9) == []
    assert play(TimeIsUp(), after_s=0.1) == [Announce(Status.STOPPING), Stop(10.0)]


def test_a_restart_keeps_the_record(play: Play) -> None:
    play.ready()
    assert play(RestartAsked()) == [Announce(Status.DRAINING), Drain()]
    play(Drained("a"))
    assert play(Exited("a", CRASH)) == [Announce(Status.STARTING), Launch()]
    assert play.machine.restarts.total == 0, "an operator's restart is no failure"


def test_a_restart_during_a_stop_starts_it_again(play: Play) -> None:
    play.ready()
    play(StopAsked())
    play(StartAsked())
    play(Drained("a"))
    assert play(Exited("a", CRASH)) == [Announce(Status.STARTING), Launch()]
    assert play.machine.wanted


def test_a_stop_during_a_restart_leaves_it_stopped(play: Play) -> None:
    play.ready()
    play(RestartAsked())
    assert play(StopAsked()) == [Deregister()]
    play(Drained("a"))
    play(Exited("a", CRASH))
    assert play.state is State.STOPPED


def test_a_stop_of_what_is_starting_drains_nothing(play: Play) -> None:
    play(StartAsked())
    play(Launched("a"))
    assert play(StopAsked()) == [Deregister(), Announce(Status.STOPPING), Stop(10.0)]


@pytest.mark.parametrize("state", [State.BACKOFF, State.FATAL])
def test_a_stop_of_what_does_not_run(state: State) -> None:
    play = Play(max_restarts=1 if state is State.BACKOFF else 0).ready()
    play(Exited("a", CRASH))
    assert play.state is state
    assert play(StopAsked()) == [Deregister()]
    assert play.state is State.STOPPED


def test_a_kill_is_a_crash(play: Play) -> None:
    play.ready()
    assert play(KillAsked()) == [Kill()]
    assert play.state is State.READY, "until it has ended, it has not"
    assert play(Exited("a", CRASH)) == [Announce(Status.BACKOFF)]


def test_a_kill_where_nothing_runs_does_nothing(play: Play) -> None:
    assert play(KillAsked()) == []


def test_what_will_not_die_is_killed_again_and_again(play: Play) -> None:
    play.ready()
    play(StopAsked())
    play(Drained("a"))
    assert play(TimeIsUp(), after_s=20) == [Kill()]
    assert play(TimeIsUp(), after_s=10) == [Kill()]
    assert play.state is State.STOPPING, "never stopped while a process of it lives"


def test_a_stalled_engine_is_unready_then_restarted(play: Play) -> None:
    play.ready()
    text = "2 requests in flight and no token for 90 s"
    assert play(Stalled("a", text)) == [Announce(Status.STOPPING), Stop(10.0)]
    assert play(Exited("a", CRASH)) == [Announce(Status.BACKOFF)]
    assert play.machine.last is not None
    assert (play.machine.last.cause, play.machine.last.text) == (Cause.STALLED, text)


def test_a_doubted_engine_is_unready_at_once_until_it_answers_again(play: Play) -> None:
    play.ready()
    assert play(Doubted("a", "idle, and generates nothing")) == [Announce(Status.STARTING)]
    assert play.state is State.STARTING
    assert play(Doubted("a", "still")) == []
    assert play(Answered("a")) == [Announce(Status.RUNNING, create=True)]


def test_a_doubted_engine_that_stays_so_is_restarted(play: Play) -> None:
    play.ready()
    play(Doubted("a", "idle, and generates nothing"))
    assert play(Stalled("a", "idle, and generates nothing")) == [
        Announce(Status.STOPPING),
        Stop(10.0),
    ]
    play(Exited("a", CRASH))
    assert play.machine.last is not None and play.machine.last.cause is Cause.STALLED


def test_not_ready_in_time_is_told_with_what_was_in_the_way(play: Play) -> None:
    play(StartAsked())
    play(Launched("a"))
    play(NotAnswered("a", "connection refused"))
    play(NotAnswered("a", "loading (503 on /health)"))
    play(TimeIsUp(), after_s=600)
    play(Exited("a", CLEAN))
    assert play.machine.last is not None
    text = "not ready after 600 s: loading (503 on /health)"
    assert (play.machine.last.cause, play.machine.last.text) == (Cause.NOT_READY, text)
    play(TimeIsUp(), after_s=60)
    play(Launched("b"))
    play(TimeIsUp(), after_s=600)
    play(Exited("b", CLEAN))
    assert play.machine.last.text == "not ready after 600 s", "another life, another reason"


def test_silence_makes_a_ready_engine_unready_but_a_hiccup_does_not(play: Play) -> None:
    play.ready()
    assert play(NotAnswered("a")) == []
    assert play(NotAnswered("a"), after_s=29) == []
    assert play(Answered("a")) == []
    assert play(NotAnswered("a"), after_s=5) == []
    assert play(NotAnswered("a"), after_s=30) == [Announce(Status.STARTING)]
    assert play.state is State.STARTING
    assert play(Answered("a")) == [Announce(Status.RUNNING, create=True)]


def test_a_port_that_a_stranger_has_is_a_failure_of_its_own(play: Play) -> None:
    play(StartAsked())
    play(Launched("a"))
    assert play(PortFoundTaken("a", "port 8100 is taken by nginx")) == [
        Announce(Status.STOPPING),
        Stop(10.0),
    ]
    play(Exited("a", CRASH))
    assert play.machine.last is not None
    assert play.machine.last.cause is Cause.PORT_TAKEN


def test_the_end_of_an_earlier_life_changes_nothing(play: Play) -> None:
    play.ready("b")
    for late in (
        Exited("a", CRASH),
        Drained("a"),
        NotAnswered("a"),
        Stalled("a", ""),
        Doubted("a", ""),
    ):
        assert play(late) == []
    assert play.state is State.READY


def test_an_adopted_engine_that_answers_is_ready_without_a_launch(play: Play) -> None:
    assert play(Adopted("a", answers=True)) == [Announce(Status.RUNNING, create=True)]
    assert play.state is State.READY


def test_an_adopted_engine_that_does_not_answer_has_the_time_of_a_start(play: Play) -> None:
    assert play(Adopted("a", answers=False)) == []
    assert play.state is State.STARTING
    assert play(TimeIsUp(), after_s=600) == [Announce(Status.STOPPING), Stop(10.0)]


def test_orders_given_twice_are_given_once(play: Play) -> None:
    play(StartAsked())
    assert play(StartAsked()) == []
    play(Launched("a"))
    play(Answered("a"))
    assert play(StartAsked()) == []
    play(StopAsked())
    assert play(StopAsked()) == []


def test_what_no_restart_can_mend_is_given_up_at_once() -> None:
    play = Play()
    play(StartAsked())
    play(NotLaunched(Ending(Cause.NOT_STARTED, '"vllm" is not on PATH', hopeless=True)))
    assert play.state is State.FATAL
    assert play.machine.given_up == '"vllm" is not on PATH'
    assert Launch() in play(StartAsked())


def test_other_settings_restart_what_should_run_and_nothing_else() -> None:
    play = Play().ready()
    assert play(Reconfigured()) == [Announce(Status.DRAINING), Drain()]
    stopped = Play()
    assert stopped(Reconfigured()) == []
    assert stopped.state is State.STOPPED
    leaving = Play().ready()
    leaving(StopAsked())
    assert leaving(Reconfigured()) == []
    leaving(Drained("a"))
    leaving(Exited("a", CLEAN))
    assert leaving.state is State.STOPPED, "an operator's stop outranks a file"
