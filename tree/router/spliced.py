"""A running event stream that may be resumed: like `stream.Stream`, but every event is read.

It stays the client's one stream while the engines that feed it change: `go_on` takes the next one's
parts. Only whole events are taken, so a cut falls between two of them.
"""

from collections.abc import Callable

from router.events import Splitter
from router.resume import Resume
from router.stream import Stream


class Spliced(Stream):
    __slots__ = ("resume",)

    def __init__(
        self,
        parts: list[bytes],
        splitter: Splitter,
        write: Callable[[bytes], None],
        resume: Resume,
        *,
        chunked: bool,
    ) -> None:
        super().__init__(parts, splitter, write, chunked=chunked)
        self.resume = resume

    def whole(self) -> bytes:
        """The whole events of what came, framed. Raises TooLongError."""
        parts = self.parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return self._framed(self.resume.take(self.splitter.feed(data)))

    def last_words(self) -> bytes:
        """The engine has ended its answer in order: what waited was an event, framed."""
        rest = self.splitter.rest()
        return self._framed(self.resume.take(rest + b"\n\n")) if rest else b""

    def go_on(self, parts: list[bytes], splitter: Splitter, held: bytes) -> bytes:
        """Another engine says the rest; `held` is what it said first."""
        self.parts = parts
        self.splitter = splitter
        return self._framed(self.resume.take(held))

    def say(self, whole: bytes) -> bytes:
        """The router's own events, framed."""
        return self._framed(whole)
