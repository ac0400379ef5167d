"""What is to be done about an engine: the outputs of `lifecycle`. Each leaves nothing to choose.

Pure; done in one place, `Supervisor._act`.
"""

from dataclasses import dataclass

from common.wire.registry import Status


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a process; answer with Launched or NotLaunched."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Watch until nothing is in flight, then Drained."""


@dataclass(frozen=True, slots=True)
class Stop:
    """TERM to the group, KILL after the grace, every descendant gone; then Exited."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to all of it; then Exited."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the registry at once, if the engine has a record (`create`: make one)."""

    status: Status
    create: bool = False


@dataclass(frozen=True, slots=True)
class Deregister:
    pass


Action = Launch | Drain | Stop | Kill | Announce | Deregister
