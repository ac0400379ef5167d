"""Is an engine that answers /health still working? Pure: readings and time are arguments.

    requests in flight and nothing moves for stall_s ──▶ stalled
    nothing in flight, or anything moved             ──▶ the time begins anew

Engines are known to answer /health with 200 for hours while their core is dead.
"""

import math
from dataclasses import dataclass

import msgspec

from babysitter.kinds.base import Progress


@dataclass(frozen=True, slots=True)
class Reading:
    """`work` grows with every step of work; only whether it changed is looked at."""

    in_flight: float
    work: float


@dataclass(slots=True)
class StallWatch:
    """`stall_s` 0: off."""

    stall_s: float
    _work: float | None = None
    _still_since: float | None = None

    def observe(self, reading: Reading, now: float) -> str | None:
        """A sentence once nothing has moved for too long."""
        moved = reading.work != self._work
        self._work = reading.work
        if moved or reading.in_flight <= 0 or self.stall_s <= 0:
            self._still_since = None if reading.in_flight <= 0 else now
            return None
        if self._still_since is None:
            self._still_since = now
        still_s = now - self._still_since
        if still_s < self.stall_s:
            return None
        requests = "request" if reading.in_flight == 1 else "requests"
        return f"{reading.in_flight:g} {requests} in flight and no token for {still_s:.0f} s"


def read(progress: Progress, body: bytes) -> Reading | None:
    """What `body`, from `progress.path`, says; None where it tells of no requests at all."""
    values = _samples(body)
    if not any(name in values for name in progress.in_flight):
        return None
    return Reading(
        in_flight=sum(values.get(name, 0.0) for name in progress.in_flight),
        work=sum(values.get(name, 0.0) for name in progress.work),
    )


def _samples(body: bytes) -> dict[str, float]:
    """Sums of samples by name, whatever their labels. Some llama.cpp versions send the whole text
    as one JSON string (its issue 17384)."""
    text = body.decode("utf-8", "replace")
    if text.startswith('"'):
        try:
            text = msgspec.json.decode(body, type=str)
        except msgspec.MsgspecError:
            return {}
    values: dict[str, float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        if "{" in line:
            name, _, rest = line.partition("{")
            rest = rest.rpartition("}")[2]
        try:
            value = float(rest.split()[0])
        except (ValueError, IndexError):
            continue
        if math.isfinite(value):  # NaN is what a gauge without data says
            values[name] = values.get(name, 0.0) + value
    return values
