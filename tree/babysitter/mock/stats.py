"""What a mock engine saw: the witness for tests of the router, so it counts and judges nothing.

Times are `time.monotonic`, which on Linux is one clock for all processes of a machine.
"""

from collections import Counter, deque
from enum import StrEnum
from typing import Any

#: The newest departures and requests that are kept, so that a long rehearsal stays small.
LOG_MAX = 10_000


class Phase(StrEnum):
    """How far a request had come when its client left."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    WAITING = "waiting"
    STREAMING = "streaming"


class Stats:
    def __init__(self) -> None:
        self.connections_open = 0
        self.in_flight = 0
        self.queued = 0
        self.reset()

    def reset(self) -> None:
        """Counts to zero; what is open stays counted."""
        self.requests = 0
        self.by_path: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.control_requests: Counter[str] = Counter()
        self.completions = 0
        self.faulted = 0
        self.events = 0
        self.in_flight_max = self.in_flight
        self.queued_max = self.queued
        self.connections_total = 0
        self.connections_max = self.connections_open
        self.aborts: Counter[str] = Counter()
        self.abort_log: deque[tuple[str, str, float]] = deque(maxlen=LOG_MAX)
        self.ids: deque[str] = deque(maxlen=LOG_MAX)

    def connected(self) -> None:
        self.connections_open += 1
        self.connections_total += 1
        self.connections_max = max(self.connections_max, self.connections_open)

    def arrived(self, path: str, model: str, request_id: str) -> None:
        self.requests += 1
        self.by_path[path] += 1
        self.by_model[model] += 1
        self.ids.append(request_id)

    def load(self, in_flight: int, queued: int) -> None:
        self.in_flight, self.queued = in_flight, queued
        if in_flight > self.in_flight_max:
            self.in_flight_max = in_flight
        if queued > self.queued_max:
            self.queued_max = queued

    def aborted(self, phase: Phase, request_id: str, now: float) -> None:
        self.aborts[phase] += 1
        self.abort_log.append((phase, request_id, now))

    def table(self) -> dict[str, Any]:
        """`GET /mock/stats`."""
        return {
            "requests": self.requests,
            "by_path": dict(self.by_path),
            "by_model": dict(self.by_model),
            "by_status": {str(status): n for status, n in self.by_status.items()},
            "control_requests": dict(self.control_requests),
            "completions": self.completions,
            "faulted": self.faulted,
            "events": self.events,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "queued": self.queued,
            "queued_max": self.queued_max,
            "connections": {
                "open": self.connections_open,
                "total": self.connections_total,
                "max": self.connections_max,
            },
            "aborts": {
                "total": self.aborts.total(),
                **{phase.value: self.aborts[phase] for phase in Phase},
            },
            "abort_log": [
                {"phase": phase, "id": request_id, "at": at}
                for phase, request_id, at in self.abort_log
            ],
            "ids": list(self.ids),
        }
