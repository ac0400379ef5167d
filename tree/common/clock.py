"""The only place that reads clocks. Decisions get time as an argument.

Durations and deadlines use `monotonic()`; what people and the wire read uses `wall()`.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Seconds on a clock that never jumps and means nothing outside this process. The relay asks it
#: several times a request, so it is the C function itself.
monotonic: Callable[[], float] = time.monotonic


def wall() -> float:
    """Seconds since 1970-01-01 UTC. May jump: never subtract two of these to time something."""
    return time.time()  # noqa: TID251  (the one place)


def wire_time(unix_s: float) -> str:
    """RFC 3339 with offset and microseconds: `2026-01-31T12:00:00.000000+00:00`."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds")


def parse_wire_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time. Naive times are taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
