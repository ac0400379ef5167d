"""Does an idle engine still generate? When to ask it for a token, and what follows. Pure.

    nothing in flight, nothing moved for idle_s ──▶ it is asked for one token
    a token in time                  ──▶ WELL: the idle time begins anew
    none, or a 5xx, and nothing moved ──▶ DOUBTED: not ready, and asked again at once
    the same, failures_max in a row  ──▶ SICK: as an engine that stalls
    something moved meanwhile        ──▶ UNKNOWN: others are served, the stall watch sees to that
    a 4xx                            ──▶ UNASKABLE: it works, but not for us

An engine whose core is dead answers /health for hours; without requests nobody would notice until
the first one comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

#: Tried in this order: what has no chat template, or no completions, has the other.
PATHS = ("/v1/chat/completions", "/v1/completions")
#: What an engine can do that it may be asked so.
GENERATING = frozenset({"generate", "code"})


@dataclass(frozen=True, slots=True)
class Glance:
    """`work` is None where its kind does not tell."""

    in_flight: float
    work: float | None = None


class Answer(Enum):
    GENERATED = 1
    NOTHING = 2
    REFUSED = 3
    #: It has no room now.
    BUSY = 4


@dataclass(frozen=True, slots=True)
class Said:
    answer: Answer
    text: str = ""


class Verdict(Enum):
    WELL = "well"
    DOUBTED = "doubted"
    SICK = "sick"
    UNKNOWN = "unknown"
    UNASKABLE = "unaskable"


@dataclass(slots=True)
class Canary:
    """One life of an engine. `idle_s` 0: off."""

    idle_s: float
    failures_max: int
    failures: int = 0
    _unaskable: bool = False
    _work: float | None = None
    _idle_since: float | None = None

    def due(self, glance: Glance, now: float) -> bool:
        """Whether to ask it now."""
        if self.idle_s <= 0 or self._unaskable:
            return False
        if self.failures and not glance.in_flight:
            return True
        moved = glance.in_flight > 0 or glance.work != self._work
        self._work = glance.work
        if self._idle_since is None or moved:
            self._idle_since = now
        return now - self._idle_since >= self.idle_s

    def answered(self, said: Said, before: Glance, after: Glance, now: float) -> Verdict:
        """What it said to being asked, between two glances."""
        self._work, self._idle_since = after.work, now
        if said.answer is Answer.GENERATED:
            self.failures = 0
            return Verdict.WELL
        if said.answer is Answer.REFUSED:
            self.failures = 0
            self._unaskable = True
            return Verdict.UNASKABLE
        # Our own request may still count as one. Where others' are in flight, or it says that it is
        # full, its work is watched (`stall_s`), not its idleness.
        if (
            said.answer is Answer.BUSY
            or before.in_flight
            or after.work != before.work
            or after.in_flight > before.in_flight + 1
        ):
            self.failures = 0
            return Verdict.UNKNOWN
        self.failures += 1
        return Verdict.SICK if self.failures >= self.failures_max else Verdict.DOUBTED

    def begin_anew(self) -> None:
        """It was not ready for another reason: what was counted says nothing any more."""
        self.failures = 0
        self._idle_since = None


def generates(metadata: Mapping[str, Any]) -> bool:
    """Whether it may be asked for a token: what declares nothing can do everything."""
    declared = metadata.get("capabilities")
    return not declared or not GENERATING.isdisjoint(declared)


def question(path: str, model: str) -> bytes:
    """The body that asks `path` for one token."""
    body: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0, "stream": False}
    if path.endswith("/chat/completions"):
        body["messages"] = [{"role": "user", "content": "Hi"}]
    else:
        body["prompt"] = "Hi"
    return msgspec.json.encode(body)


class _Answer(msgspec.Struct):
    choices: list[msgspec.Raw] = []


def read(path: str, status: int, body: bytes) -> Said:
    """What an answer to `question` means."""
    if 400 <= status < 500 and status not in (408, 429):
        return Said(Answer.REFUSED, f"answers {status} on {path}")
    if status in (429, 503):
        return Said(Answer.BUSY, f"answers {status} on {path}")
    if status != 200:
        return Said(Answer.NOTHING, f"answers {status} on {path}")
    try:
        found = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _Answer()
    if not found.choices:
        return Said(Answer.NOTHING, f"answers 200 without a choice on {path}")
    return Said(Answer.GENERATED)
