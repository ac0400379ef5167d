"""An answer as it passes, for the cache: its pieces, while there is room for them. Pure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.head import AnswerHead


class Room:
    """What all answers that are being collected may take together, in bytes."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0


class Collected:
    """One answer. `release` it on every path."""

    __slots__ = ("_bytes_max", "_gives_up", "_pieces", "_room", "_size", "events", "type")

    def __init__(
        self,
        type: bytes,
        room: Room,
        bytes_max: int,
        gives_up: Callable[[], None],
        *,
        events: bool,
    ) -> None:
        """`gives_up` is called where it gets too long, or there is no more room."""
        self.type = type
        self.events = events
        self._room = room
        self._bytes_max = bytes_max
        self._gives_up = gives_up
        self._pieces: list[bytes] | None = []
        self._size = 0

    def add(self, data: bytes) -> bool:
        """A piece, without its framing. False: nothing more is wanted."""
        pieces, room, count = self._pieces, self._room, len(data)
        if pieces is None:
            return False
        if self._size + count > self._bytes_max or room.used + count > room.bytes_max:
            self.release()
            self._gives_up()
            return False
        pieces.append(data)
        self._size += count
        room.used += count
        return True

    def whole(self) -> bytes | None:
        """None: it was given up."""
        return None if self._pieces is None else b"".join(self._pieces)

    def release(self) -> None:
        """Its room comes back. May be called twice."""
        self._room.used -= self._size
        self._size = 0
        self._pieces = None


def may_be_kept(head: "AnswerHead", bytes_max: int) -> bool:
    """Whether an answer that begins like this can be given again to anybody who asks the same."""
    return (
        head.status == 200
        and not head.encoded
        and (head.event_stream or b"json" in head.type)
        and (head.content_length or 0) <= bytes_max
        and b"no-store" not in head.cache_lines.lower()
    )
