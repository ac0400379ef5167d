"""What a babysitter answers (docs/api-babysitter.md)."""

from enum import StrEnum
from typing import Any

from msgspec import Struct


class EngineState(StrEnum):
    STOPPED = "STOPPED"
    STARTING = "STARTING"
    READY = "READY"
    DRAINING = "DRAINING"
    STOPPING = "STOPPING"
    BACKOFF = "BACKOFF"
    FATAL = "FATAL"


class LastExit(Struct, frozen=True, kw_only=True):
    """How an engine last ended. `cause` is code, signal, oom, port_taken, not_ready or stalled.

    `code` and `signal` are the process's own; `text` is a sentence; `log` the last lines it wrote.
    """

    cause: str
    text: str
    at: str
    code: int | None = None
    signal: str | None = None
    log: tuple[str, ...] = ()


class EngineBrief(Struct, frozen=True, kw_only=True):
    state: EngineState
    last_exit: LastExit | None = None
    restarts: int = 0


class BabysitterHealth(Struct, frozen=True, kw_only=True):
    """`GET /health`: 200 only while every engine that should run is ready, else 503.

    `message`: a reload that failed; empty once one succeeds.
    """

    status: str
    service: str
    engines: dict[str, EngineBrief]
    timestamp: str
    message: str = ""


class Engine(Struct, frozen=True, kw_only=True):
    """`GET /engines/{name}`. `since`: when the state began; `service`: its name in the registry.

    `load`: what it last told of its work, {in_flight, running, waiting, cache_use}; null where it
    tells nothing. With `?load=now` it is asked before the answer.
    """

    name: str
    service: str
    kind: str
    state: EngineState
    since: str
    host: str
    port: int
    url: str
    models: tuple[str, ...] = ()
    pid: int | None = None
    instance_id: str | None = None
    restarts: int = 0
    last_exit: LastExit | None = None
    progress: str | None = None
    registered: bool = False
    conflict: str | None = None
    load: dict[str, float] | None = None


class Engines(Struct, frozen=True, kw_only=True):
    engines: list[Engine]
    total: int
    timestamp: str


class BabysitterInfo(Struct, frozen=True, kw_only=True):
    """`GET /info`. `uptime` in seconds; `registered` and `conflict` are of its own record."""

    name: str
    host: str
    port: int
    url: str
    engines: list[str]
    uptime: float
    restart_count: int
    version: str
    registered: bool = False
    conflict: str | None = None


class BabysitterReload(Struct, frozen=True, kw_only=True):
    """`POST /reload`, status 200: the file is in force. Names of engines; those that start, stop
    and restart have begun to. `changed`: with other settings, but the same process.

    `needs_restart`: keys of the file that only a restart of the babysitter brings into force.
    """

    status: str
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class BabysitterReloadRefusal(Struct, frozen=True, kw_only=True):
    """The same, status 400: nothing has changed. `problems` are those of `check`, `report` their
    text."""

    error: str
    problems: list[dict[str, Any]]
    report: str
