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
    """`work` grows with every step of work; only whether it changed is looked at. `cache_use`: the
    share of its cache in use, where it tells."""

    running: float
    waiting: float
    work: float
    cache_use: float | None = None

    @property
    def in_flight(self) -> float:
        return self.running + self.waiting

    @property
    def load(self) -> dict[str, float]:
        """As a beat carries it."""
        told = {"in_flight": self.in_flight, "running": self.running, "waiting": self.waiting}
        if self.cache_use is not None:
            told["cache_use"] = round(self.cache_use, 3)
        return told


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
    values = _samples(body, progress.names)

    def total(names: tuple[str, ...]) -> float:
        return sum(sum(values.get(name, ())) for name in names)

    if not any(name in values for name in (*progress.running, *progress.waiting)):
        return None
    caches = [value for name in progress.cache_use for value in values.get(name, ())]
    return Reading(
        running=total(progress.running),
        waiting=total(progress.waiting),
        work=total(progress.work),
        cache_use=max(caches) if caches else None,  # of several engine cores the fullest
    )


def _samples(body: bytes, names: frozenset[str]) -> dict[str, list[float]]:
    """The samples called `names`, whatever their labels: an engine may tell thousands of others.
    Some llama.cpp versions send the whole text as one JSON string (its issue 17384)."""
    text = body.decode("utf-8", "replace")
    if text.startswith('"'):
        try:
            text = msgspec.json.decode(body, type=str)
        except msgspec.MsgspecError:
            return {}
    beginnings = tuple(names)
    values: dict[str, list[float]] = {}
    for line in text.splitlines():
        if not line.startswith(beginnings):
            continue
        name, _, rest = line.partition(" ")
        if "{" in line:
            name, _, rest = line.partition("{")
            rest = rest.rpartition("}")[2]
        if name not in names:
            continue
        try:
            value = float(rest.split()[0])
        except (ValueError, IndexError):
            continue
        if math.isfinite(value):  # NaN is what a gauge without data says
            values.setdefault(name, []).append(value)
    return values
