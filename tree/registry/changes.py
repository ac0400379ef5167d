"""What watchers are told: events as bytes, and a bounded log of the last ones. Pure.

    reset ─▶ put … put ─▶ synced (id) ─▶ put, delete (ids) and load, as they happen
    a resume: put, delete … ─▶ synced ─▶ the same

Ids are `<epoch>-<revision>`. Every event has data on one line. A consumer is a cursor into this
one log, so that slow ones cost nothing; one whose cursor falls off the log's end starts anew.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from common.wire.registry import Service, WatchDelete, WatchReset, WatchSynced
from registry.state import Change, Gone, Put

#: The router's SSE reader breaks on lines above 512 KiB; no line of ours comes near.
LINE_BYTES_MAX = 256 * 1024

KEEP_ALIVE = b": keep-alive\n\n"

_encode = msgspec.json.Encoder().encode


def event(name: str, data: bytes, id: str | None = None) -> bytes:
    """One event, framed. `data` is one line of JSON."""
    head = f"id: {id}\n" if id is not None else ""
    return b"%sevent: %s\ndata: %s\n\n" % (head.encode(), name.encode(), data)


def event_id(epoch: str, revision: int) -> str:
    return f"{epoch}-{revision}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Epoch and revision of a `Last-Event-ID`; None for what is none of ours."""
    epoch, dash, digits = text.strip().rpartition("-")
    if not dash or not epoch or not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        return None
    return epoch, int(digits)


def reset(epoch: str) -> bytes:
    return event("reset", _encode(WatchReset(epoch)))


def synced(epoch: str, revision: int) -> bytes:
    return event("synced", _encode(WatchSynced(revision)), event_id(epoch, revision))


def put(service: Service) -> bytes:
    """A put of the first, whole table: without an id, since no consumer may resume inside it."""
    return event("put", _encode(service))


def live(epoch: str, change: Change) -> bytes:
    at = event_id(epoch, change.revision)
    match change:
        case Put(service=service):
            return event("put", _encode(service), at)
        case Gone(name=name, instance_id=instance_id):
            return event("delete", _encode(WatchDelete(name, instance_id)), at)


def loads(loads: dict[str, dict[str, float]]) -> Iterable[bytes]:
    """`load` events, as many as keep each line short."""
    part: dict[str, dict[str, float]] = {}
    size = 0
    for name, load in loads.items():
        cost = len(_encode(load)) + len(name) + 4
        if part and size + cost > LINE_BYTES_MAX:
            yield event("load", _encode(part))
            part, size = {}, 0
        part[name] = load
        size += cost
    if part:
        yield event("load", _encode(part))


class ChangeLog:
    """The framed live events with revisions from `first` to `last`, without a gap.

    A cursor is the last revision that its consumer has.
    """

    def __init__(
        self,
        epoch: str,
        revision: int,
        *,
        events_max: int,
        bytes_max: int,
        shared: bool = False,
    ) -> None:
        """`shared`: what this registry begins with is what others go on from, leases and all."""
        self.epoch = epoch
        self.last = revision
        self._began = revision - 1 if shared else revision
        self._events: deque[bytes] = deque()
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._bytes = 0

    @property
    def first(self) -> int:
        return self.last - len(self._events) + 1

    def append(self, changes: Sequence[Change]) -> None:
        """Their revisions go on where the log ends."""
        for change in changes:
            framed = live(self.epoch, change)
            self._events.append(framed)
            self._bytes += len(framed)
            self.last = change.revision
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._events.popleft())

    def has(self, cursor: int) -> bool:
        """Whether a consumer at `cursor` can go on without a reset."""
        return self.first - 1 <= cursor <= self.last

    def after(self, cursor: int, most: int) -> list[bytes]:
        """Up to `most` events after `cursor`, which `has` admitted."""
        start = cursor - self.first + 1
        return list(islice(self._events, start, start + most))

    def resumes(self, last_event_id: str | None) -> int | None:
        """The cursor that a reconnecting consumer may go on from; None: it needs a reset.

        An id from where this log began may come from before a restart, and the restart gave every
        service a new lease without a revision: what that consumer last heard may be no longer so.
        """
        parsed = parse_event_id(last_event_id) if last_event_id else None
        if parsed is None or parsed[0] != self.epoch or not self.has(parsed[1]):
            return None
        return parsed[1] if parsed[1] > self._began else None
