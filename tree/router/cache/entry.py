"""What is kept of an answer: its body as it was, and who gave it. Pure."""

from msgspec import Struct

#: What an entry takes beside its body: its own objects, its key, its place.
OVERHEAD_BYTES = 512


class Entry(Struct, frozen=True):
    #: The answer's Content-Type.
    type: bytes
    #: An event stream: `body` is its events, without framing.
    events: bool
    body: bytes
    #: Who answered, and what `x-creche-model` said.
    service: str
    model: str | None
    #: Monotonic seconds: when it was answered, and until when it is given.
    made: float
    until: float

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.body) + len(self.type) + OVERHEAD_BYTES
