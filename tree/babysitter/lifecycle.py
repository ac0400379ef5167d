"""Is this engine running and ready; if not, what happens next? Pure: events in, actions out.

    STOPPED ──start──▶ STARTING ──answers──▶ READY ──stop, restart──▶ DRAINING ──drained──▶ STOPPING
    STARTING ──stop, restart, not ready in time, port taken──▶ STOPPING
    READY ──no token for too long──▶ STOPPING          READY ──no answer for too long──▶ STARTING
    STARTING, READY ──exited──▶ BACKOFF ──waited──▶ STARTING
                            └──▶ FATAL after too many (start and restart still work)
    STARTING ──hopeless──▶ FATAL
    STOPPING ──exited──▶ STOPPED, STARTING or BACKOFF, whatever it was stopped for

An exit is always a failure unless somebody asked for it, exit code 0 included. Nothing is ever
started while a process of this engine lives. `due` is when the shell must call `TimeIsUp`; an
action leaves nothing to choose.
"""

from dataclasses import dataclass, field

from babysitter import actions, events
from babysitter.cause import Cause, Ending
from babysitter.restart import GiveUp, Restarts
from common.wire.babysitter import EngineState as State
from common.wire.registry import Status

#: After TERM, grace and KILL a process may hang in the kernel: KILL is sent again this often.
KILL_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    ready_timeout_s: float = 600.0
    unresponsive_s: float = 30.0
    drain_timeout_s: float = 30.0
    stop_grace_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Stay:
    """What to do once it is stopped: nothing."""


@dataclass(frozen=True, slots=True)
class _Again:
    """What to do once it is stopped: start it, an operator asked."""


_After = _Stay | _Again | Ending


@dataclass(slots=True)
class Lifecycle:
    """One engine. `wanted`: it should run (an operator's stop is the only thing that clears it)."""

    limits: Limits
    restarts: Restarts
    state: State = State.STOPPED
    since: float = 0.0
    wanted: bool = False
    due: float | None = None
    instance_id: str | None = None
    last: Ending | None = None
    given_up: str | None = None
    _ready_since: float | None = None
    _silent_since: float | None = None
    _in_the_way: str = ""
    _after: _After | None = None
    _actions: list[actions.Action] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether a process of this engine may exist."""
        return self.instance_id is not None

    def handle(self, event: events.Event, now: float, dice: float) -> list[actions.Action]:
        """Take one event; what to do, in this order. `dice` is in [0, 1)."""
        self._actions = []
        match event:
            case events.StartAsked():
                self._start(now)
            case events.StopAsked():
                self._stop(now)
            case events.RestartAsked():
                self._restart(now)
            case events.Reconfigured():
                if self.wanted:
                    self._restart(now)
            case events.KillAsked():
                if self.alive:
                    self._actions.append(actions.Kill())
            case events.Launched(instance_id):
                self.instance_id = instance_id
            case events.Adopted(instance_id, answers):
                self._adopt(instance_id, answers, now)
            case events.NotLaunched(ending):
                self._failed(ending, now, dice)
            case events.TimeIsUp():
                if self.due is not None and now >= self.due:
                    self._time_is_up(now)
            case events.Exited(instance_id, ending):
                if instance_id == self.instance_id:
                    self._exited(ending, now, dice)
            case events.Answered(instance_id):
                if instance_id == self.instance_id:
                    self._answered(now)
            case events.NotAnswered(instance_id, text):
                if instance_id == self.instance_id:
                    self._not_answered(text, now)
            case events.PortFoundTaken(instance_id, text):
                if instance_id == self.instance_id and self.state is State.STARTING:
                    self._end_for(Ending(Cause.PORT_TAKEN, text), now)
            case events.Stalled(instance_id, text):
                if instance_id == self.instance_id and self.state is State.READY:
                    self._end_for(Ending(Cause.STALLED, text), now)
            case events.Drained(instance_id):
                if instance_id == self.instance_id and self.state is State.DRAINING:
                    self._stop_process(now)
        return self._actions

    # operators

    def _start(self, now: float) -> None:
        self.wanted = True
        match self.state:
            case State.STOPPED | State.FATAL | State.BACKOFF:
                self.restarts.forget()
                self._launch(now)
            case State.DRAINING | State.STOPPING:
                if isinstance(self._after, _Stay):
                    self._after = _Again()
            case State.STARTING | State.READY:
                pass

    def _stop(self, now: float) -> None:
        self.wanted = False
        match self.state:
            case State.STOPPED:
                pass
            case State.FATAL | State.BACKOFF:
                self._actions.append(actions.Deregister())
                self._become(State.STOPPED, now)
            case State.STARTING | State.READY:
                self._actions.append(actions.Deregister())
                self._after = _Stay()
                self._drain_or_stop(now)
            case State.DRAINING | State.STOPPING:
                if not isinstance(self._after, _Stay):
                    self._actions.append(actions.Deregister())
                self._after = _Stay()

    def _restart(self, now: float) -> None:
        match self.state:
            case State.STARTING | State.READY:
                self.wanted = True
                self.restarts.forget()
                self._after = _Again()
                self._drain_or_stop(now)
            case State.DRAINING | State.STOPPING:
                self.wanted = True
                self._after = _Again()
            case State.STOPPED | State.FATAL | State.BACKOFF:
                self._start(now)

    # the process

    def _adopt(self, instance_id: str, answers: bool, now: float) -> None:
        self.wanted = True
        self.instance_id = instance_id
        self._become(State.STARTING, now, due=now + self.limits.ready_timeout_s)
        if answers:
            self._answered(now)

    def _launch(self, now: float) -> None:
        self._ready_since = None
        self._in_the_way = ""
        self.given_up = None
        self._after = None
        self._become(State.STARTING, now, due=now + self.limits.ready_timeout_s)
        self._actions += [actions.Announce(Status.STARTING), actions.Launch()]

    def _answered(self, now: float) -> None:
        self._silent_since = None
        if self.state is State.STARTING:
            self._ready_since = now
            self._become(State.READY, now)
            self._actions.append(actions.Announce(Status.RUNNING, create=True))

    def _not_answered(self, text: str, now: float) -> None:
        self._in_the_way = text
        if self.state is not State.READY:
            return
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= self.limits.unresponsive_s:
            self._become(State.STARTING, now, due=now + self.limits.ready_timeout_s)
            self._actions.append(actions.Announce(Status.STARTING))

    def _exited(self, ending: Ending, now: float, dice: float) -> None:
        after, self._after = self._after, None
        self.instance_id = None
        match after:
            case _Stay():
                self._become(State.STOPPED, now)
            case _Again():
                self._launch(now)
            case Ending():
                # It was stopped for a reason: that is the cause; code, signal and log are its own.
                told = Ending(after.cause, after.text, ending.code, ending.signal, ending.log)
                self._failed(told, now, dice)
            case None:
                self._failed(ending, now, dice)

    def _failed(self, ending: Ending, now: float, dice: float) -> None:
        self.last = ending
        verdict = (
            GiveUp(ending.text)
            if ending.hopeless
            else self.restarts.after_failure(now, self._ready_since, dice)
        )
        self._ready_since = None
        if not self.wanted:
            self._become(State.STOPPED, now)
        elif isinstance(verdict, GiveUp):
            self.given_up = verdict.text
            self._become(State.FATAL, now)
            self._actions.append(actions.Announce(Status.FATAL))
        else:
            self._become(State.BACKOFF, now, due=now + verdict.seconds)
            self._actions.append(actions.Announce(Status.BACKOFF))

    def _time_is_up(self, now: float) -> None:
        match self.state:
            case State.BACKOFF:
                self._launch(now)
            case State.DRAINING:
                self._stop_process(now)
            case State.STOPPING:
                self.due = now + KILL_AGAIN_S
                self._actions.append(actions.Kill())
            case State.STARTING:
                text = f"not ready after {self.limits.ready_timeout_s:g} s"
                if self._in_the_way:
                    text += f": {self._in_the_way}"
                self._end_for(Ending(Cause.NOT_READY, text), now)
            case State.STOPPED | State.READY | State.FATAL:
                raise AssertionError(f"{self.state} waits for no time")

    def _end_for(self, ending: Ending, now: float) -> None:
        self._after = ending
        self._stop_process(now)

    def _drain_or_stop(self, now: float) -> None:
        if self.state is State.READY and self.limits.drain_timeout_s > 0:
            self._become(State.DRAINING, now, due=now + self.limits.drain_timeout_s)
            self._actions += [actions.Announce(Status.DRAINING), actions.Drain()]
        else:
            self._stop_process(now)

    def _stop_process(self, now: float) -> None:
        grace_s = self.limits.stop_grace_s
        self._become(State.STOPPING, now, due=now + grace_s + KILL_AGAIN_S)
        self._actions += [actions.Announce(Status.STOPPING), actions.Stop(grace_s)]

    def _become(self, state: State, now: float, due: float | None = None) -> None:
        self.state = state
        self.since = now
        self.due = due
        self._silent_since = None

    def validate(self) -> None:
        """The invariants. Raises AssertionError."""
        timed = (State.STARTING, State.DRAINING, State.STOPPING, State.BACKOFF)
        assert (self.due is not None) == (self.state in timed), "a state waits without a limit"
        if self.state in (State.STOPPED, State.BACKOFF, State.FATAL):
            assert not self.alive, f"a process lives in {self.state}"
        if self.state in (State.READY, State.DRAINING, State.STOPPING):
            assert self.alive, f"no process in {self.state}"
        ending = self.state in (State.DRAINING, State.STOPPING)
        assert (self._after is not None) == ending, "what follows a stop is known while stopping"
        if self.state in (State.BACKOFF, State.FATAL):
            assert self.last is not None and self.wanted
        if self.state is State.STOPPED:
            assert not self.wanted, "an engine that should run is stopped"
        assert (self.given_up is not None) == (self.state is State.FATAL) or not self.wanted
