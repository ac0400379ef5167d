"""What happens to an engine: the inputs of `lifecycle`. Past tense; each life is named. Pure."""

from dataclasses import dataclass

from babysitter.cause import Ending


@dataclass(frozen=True, slots=True)
class StartAsked:
    """By an operator, or by the daemon at its start."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    pass


@dataclass(frozen=True, slots=True)
class RestartAsked:
    pass


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """Its process should be another: if it should run, it is restarted."""


@dataclass(frozen=True, slots=True)
class KillAsked:
    """SIGKILL now; what follows is what follows a crash."""


@dataclass(frozen=True, slots=True)
class Launched:
    instance_id: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """A process of an earlier babysitter is still there. `answers`: it was asked, and is ready."""

    instance_id: str
    answers: bool


@dataclass(frozen=True, slots=True)
class NotLaunched:
    ending: Ending


@dataclass(frozen=True, slots=True)
class Exited:
    instance_id: str
    ending: Ending


@dataclass(frozen=True, slots=True)
class Answered:
    """It listens, it is ours, it answers and its models are known."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """`text` says what is in the way."""

    instance_id: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class PortFoundTaken:
    """A stranger listens where this engine should: it can never be ready."""

    instance_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Stalled:
    instance_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Drained:
    instance_id: str


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    """`due` has passed. Ignored when it has not: a late timer of an earlier state harms nothing."""


Event = (
    StartAsked | StopAsked | RestartAsked | Reconfigured | KillAsked | Launched | Adopted
    | NotLaunched | Exited | Answered | NotAnswered | PortFoundTaken | Stalled | Drained | TimeIsUp
)  # fmt: skip
