"""Why an engine ended, told apart once. Pure.

The process's own end (code, signal, the kernel's out-of-memory killer) is known from its shim; its
last log lines may tell the deeper cause: memory that it did not get, a port somebody else has.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

#: Log lines that go with a last exit, everywhere it is told.
LOG_LINES_KEPT = 20

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemory|std::bad_alloc|\bMemoryError\b|cudaErrorMemoryAllocation", re.I
)
_PORT_TAKEN = re.compile(
    r"address already in use|EADDRINUSE|couldn't bind|could not bind|port \d+ is (?:already|taken)",
    re.I,
)


class Cause(StrEnum):
    CODE = "code"
    SIGNAL = "signal"
    OOM = "oom"
    PORT_TAKEN = "port_taken"
    NOT_READY = "not_ready"
    STALLED = "stalled"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life ended, as it is told to operators, the registry and the log."""

    cause: Cause
    text: str
    code: int | None = None
    signal: str | None = None
    log: tuple[str, ...] = ()
    #: Another start could only end the same way.
    hopeless: bool = False


def of_exit(
    code: int | None,
    signal: str | None,
    oom: bool,
    log: tuple[str, ...],
    owner: str | None = None,
) -> Ending:
    """The ending of a process that nobody asked to end. `signal` is a name, `SIGKILL`; `owner` says
    who listens on its port now."""
    log = log[-LOG_LINES_KEPT:]
    how = f"killed by {signal}" if signal else f"exited with code {code}"
    if code is None and signal is None:
        how = "ended, its exit status was lost"
    cause, text = _deeper(code, signal, oom, log, owner)
    if cause is None:
        cause = Cause.SIGNAL if signal else Cause.CODE
        text = how + (": a server should not end, nor go into the background" if code == 0 else "")
    else:
        text = f"{text}; {how}"
    return Ending(cause, text, code, signal, log)


def _deeper(
    code: int | None, signal: str | None, oom: bool, log: tuple[str, ...], owner: str | None
) -> tuple[Cause | None, str]:
    if oom:
        return Cause.OOM, "the kernel killed it: out of memory"
    if code == 0 or signal in ("SIGKILL", "SIGTERM", "SIGINT"):
        # Ended from outside, or by its own will: older lines of its log explain nothing.
        return None, ""
    if line := _last_match(_PORT_TAKEN, log):
        return Cause.PORT_TAKEN, f"its port is taken{f' by {owner}' if owner else ''} ({line})"
    if line := _last_match(_OUT_OF_MEMORY, log):
        return Cause.OOM, line
    return None, ""


def _last_match(pattern: re.Pattern[str], log: tuple[str, ...]) -> str | None:
    for line in reversed(log):
        if pattern.search(line):
            return line.strip()[:200]
    return None
