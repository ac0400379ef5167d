"""Which processes belong to an engine, which sockets are theirs, and how to end them all."""

from typing import NamedTuple


class Proc(NamedTuple):
    """A process, told apart from a later one of the same pid by its start time (clock ticks)."""

    pid: int
    start_time: int
    ppid: int
    session: int
    state: str


def listens(root_pid: int, port: int, host: str) -> bool:
    """Whether a socket listening on `port` belongs to `root_pid` or a descendant of it."""
    raise NotImplementedError


def find_marked(engine_id: str) -> list[Proc]:
    """Processes that carry CRECHE_ENGINE_ID=`engine_id` (the shim's too)."""
    raise NotImplementedError


def descendants(pid: int) -> list[Proc]:
    """Everything under `pid`, `pid` itself left out."""
    raise NotImplementedError


async def end_all(procs: list[Proc], grace_s: float) -> int:
    """TERM each, KILL what is left after `grace_s`; returns how many had to end."""
    raise NotImplementedError
