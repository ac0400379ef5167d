"""What passed of an answer, for the cache: its pieces, while they are few enough. Pure."""

from router.head import AnswerHead
from router.seam import Kept


class Collected:
    __slots__ = ("_bytes_max", "_pieces", "_size", "_type")

    def __init__(self, type: bytes, bytes_max: int) -> None:
        self._type = type
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> bool:
        """Without its framing. False: it has become too long, and nothing of it is wanted."""
        self._pieces.append(data)
        self._size += len(data)
        return self._size <= self._bytes_max

    def whole(self, *, events: bool) -> Kept:
        return Kept(self._type, b"".join(self._pieces), events=events)


def may_be_kept(head: AnswerHead, bytes_max: int) -> bool:
    """Whether an answer that begins like this can be given again to anybody who asks the same."""
    return (
        head.status == 200
        and not head.encoded
        and (head.event_stream or b"json" in head.type)
        and (head.content_length or 0) <= bytes_max
        and b"no-store" not in head.cache_lines.lower()
    )
