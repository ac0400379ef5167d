"""When a process makes way for its successor on the same sockets. Pure: no process, no clock.

    starting ──ready──▶ serving ──its successor is ready──▶ leaving ──its requests ended──▶ gone
       └─ ended, or late: who serves goes on serving; where nobody does, another starts, later

One starts at most, one serves, LEAVING_MAX leave. Files have one owner: who leaves releases them,
then they are given to who serves. Before anyone has served, an end is everybody's end: a start that
is refused is told by who refused it.

The holder numbers its processes from 1. Standard library only, as the holder itself.
"""

from typing import NamedTuple

#: A start that takes longer will not come to its end.
START_S = 60.0
#: Replaced ones with requests that go on. Each is a whole process.
LEAVING_MAX = 4
#: After a crash: at once, then this, doubled each time.
RETRY_S = 0.2
RETRY_S_MAX = 5.0
#: Crashes in a row before the holder ends too: a port where nobody will answer is better refused.
CRASHES_MAX = 10
#: Who has served for so long did not crash in a row.
STEADY_S = 10.0

STOP, HURRY, RELOAD, OWN, LEAVE = "stop", "hurry", "reload", "own", "leave"


class Start(NamedTuple):
    """Start process `number`; it owns the files from its first moment, or is told later."""

    number: int
    owns: bool


class Tell(NamedTuple):
    number: int
    word: str


class Serve(NamedTuple):
    """`number` serves now. What it listens on is what there is to hold."""

    number: int


class Part(NamedTuple):
    """`old` makes way for `new`: it gets the word LEAVE and one end of a channel, `new` the other.
    Who leaves already is told of each new one."""

    old: int
    new: int


class Kill(NamedTuple):
    number: int
    #: Whatever it does; else it may end well.
    at_once: bool


class Say(NamedTuple):
    level: str
    text: str


class Exit(NamedTuple):
    status: int


Action = Start | Tell | Serve | Part | Kill | Say | Exit


class Succession:
    """`watchdog_s`: who has served and gives no sign of life for so long is killed. None: never."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        self.starting: int | None = None
        self.serving: int | None = None
        self.leaving: list[int] = []
        #: Who writes what there is one of.
        self.owner: int | None = None
        #: How often it was asked to stop.
        self.stops = 0
        self.crashes = 0
        self._numbers = 0
        self._watchdog_s = watchdog_s
        #: One was asked for while one was starting: it may have read an older configuration.
        self._again = False
        self._late_at: float | None = None
        self._retry_at: float | None = None
        self._served_since = 0.0
        self._has_served = False
        #: When each that serves or leaves is taken for hung.
        self._silent_at: dict[int, float] = {}
        self._status = 0

    def begin(self, now: float) -> list[Action]:
        return self._start(now)

    # --- what is asked ----------------------------------------------------------------------------

    def replace(self, now: float) -> list[Action]:
        """The one that serves is to be replaced."""
        if self.stops:
            return [Say("warning", "stopping: nothing is replaced any more")]
        if self.starting is not None:
            self._again = True
            return [Say("info", "one is starting already")]
        if len(self.leaving) >= LEAVING_MAX:
            text = f"not replaced: {LEAVING_MAX} that were replaced still have requests"
            return [Say("error", text)]
        return self._start(now)

    def reload(self) -> list[Action]:
        """Who starts reads the file anyway, perhaps before it was changed."""
        self._again = self._again or self.starting is not None
        return [] if self.serving is None else [Tell(self.serving, RELOAD)]

    def stop(self) -> list[Action]:
        """The first time: end well. Then: hurry. Then: no more waiting."""
        self.stops += 1
        self._again, self._retry_at = False, None
        everybody = self._everybody()
        if not everybody:
            return [Exit(self._status)]
        if self.stops > 2:
            return [Kill(one, at_once=True) for one in everybody]
        word = STOP if self.stops == 1 else HURRY
        told: list[Action] = []
        if self.starting is not None:  # it may not listen to words yet
            # Before the word: a signal to one that stops already says that it is to hurry.
            told.append(Kill(self.starting, at_once=False))
        return told + [Tell(one, word) for one in everybody]

    # --- what happens -----------------------------------------------------------------------------

    def ready(self, number: int, now: float) -> list[Action]:
        if number != self.starting:
            return []
        old, self.serving, self.starting = self.serving, number, None
        self._late_at, self._served_since, self._has_served = None, now, True
        self.beaten(number, now)
        done: list[Action] = [Serve(number)]
        if old is not None:
            self.leaving.append(old)
            done.append(Say("info", "replaced: requests of the old one go on there"))
        # Each that leaves, not the last one alone: whom they knew leaves too, or has crashed.
        done += [Part(one, number) for one in self.leaving]
        done += self._own()
        if self.stops:
            return [*done, Tell(number, STOP)]
        return done + (self._once_more(now) if self._again else [])

    def released(self, number: int) -> list[Action]:
        """It writes no file any more."""
        if number == self.owner:
            self.owner = None
        return self._own()

    def beaten(self, number: int, now: float) -> None:
        """A sign of life."""
        if self._watchdog_s is not None and number != self.starting:
            self._silent_at[number] = now + self._watchdog_s

    def ended(self, number: int, status: int, now: float) -> list[Action]:
        """`status`: as a shell has it, 128 and more for signals."""
        self._silent_at.pop(number, None)
        if number == self.owner:
            self.owner = None
        done: list[Action] = []
        if number in self.leaving:
            self.leaving.remove(number)
            if status:
                done.append(Say("warning", f"a replaced one ended with {status}"))
        elif number == self.starting:
            done += self._failed_to_start(status, now)
        else:
            done += self._crashed(status, now)
        done += self._own()
        if self.stops and not self._everybody():
            done.append(Exit(self._status))
        return done

    def tick(self, now: float) -> list[Action]:
        """Time has passed; `next_at` tells when it matters."""
        done: list[Action] = []
        if self._late_at is not None and now >= self._late_at and self.starting is not None:
            self._late_at = None
            done += [
                Say("error", f"not ready within {START_S:g} s of its start: killed"),
                Kill(self.starting, at_once=True),
            ]
        for number in [one for one, at in self._silent_at.items() if now >= at]:
            del self._silent_at[number]
            done += [
                Say("error", f"no sign of life for {self._watchdog_s:g} s: killed"),
                Kill(number, at_once=True),
            ]
        if self._retry_at is not None and now >= self._retry_at:
            done += self._start(now)
        return done

    def next_at(self) -> float | None:
        times = (self._late_at, self._retry_at, *self._silent_at.values())
        return min((one for one in times if one is not None), default=None)

    # --- the parts of it --------------------------------------------------------------------------

    def _start(self, now: float) -> list[Action]:
        self._numbers += 1
        number = self.starting = self._numbers
        self._late_at, self._retry_at = now + START_S, None
        if self.owner is None and self.serving is None:
            self.owner = number
        return [Start(number, owns=self.owner == number)]

    def _failed_to_start(self, status: int, now: float) -> list[Action]:
        self.starting = self._late_at = None
        if not self._has_served:
            self._status, self.stops = status, max(1, self.stops)
            return []
        if self.serving is None:
            return self._later(f"a start failed with {status}", now)
        text = f"the successor ended with {status} before it was ready: the old one serves on"
        return [Say("error", text), *(self._once_more(now) if self._again else [])]

    def _crashed(self, status: int, now: float) -> list[Action]:
        self.serving = None
        if self.stops:
            self._status = status
            return []
        if now - self._served_since >= STEADY_S:
            self.crashes = 0
        if self.starting is not None:
            return [Say("error", f"ended with {status} while its successor starts")]
        return self._later(f"ended with {status}", now)

    def _later(self, what: str, now: float) -> list[Action]:
        self.crashes += 1
        if self.stops:
            return []
        if self.crashes > CRASHES_MAX:
            self._status = 1
            text = f"{what}, {self.crashes} times in a row: giving up the port"
            self.stops = 1
            return [Say("error", text), *(Tell(one, STOP) for one in self.leaving)]
        wait_s = min(RETRY_S_MAX, RETRY_S * 2 ** (self.crashes - 2)) if self.crashes > 1 else 0.0
        self._retry_at = now + wait_s
        return [Say("error", f"{what}: another starts in {wait_s:g} s, connections wait")]

    def _once_more(self, now: float) -> list[Action]:
        self._again = False
        return self.replace(now)

    def _own(self) -> list[Action]:
        if self.owner is not None or self.serving is None:
            return []
        self.owner = self.serving
        return [Tell(self.serving, OWN)]

    def _everybody(self) -> list[int]:
        return [one for one in (self.starting, self.serving, *self.leaving) if one is not None]
