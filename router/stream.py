"""A running event stream, as far as every event touches it: one small object, one short way.

verbatim   a read that is one whole chunk of whole events: its framing is ours, byte for byte
pass_on    one piece that ends in a blank line, framed anew
whole      everything else: events over several reads, other line ends, the end
"""

from collections.abc import Callable

from router import events
from router.events import Splitter
from router.framing import LAST_CHUNK

#: A chunk's size ends within so many bytes: seven digits are 256 MiB, more than any read.
_SIZE_END_MAX = 9
_HEX = b"0123456789abcdefABCDEF"


class Stream:
    """`parts` is the connection's own list: what came and was not taken yet."""

    __slots__ = (
        "before",
        "bytes_out",
        "chunked",
        "events",
        "first",
        "last",
        "parts",
        "splitter",
        "write",
    )

    def __init__(
        self,
        parts: list[bytes],
        splitter: Splitter,
        write: Callable[[bytes], None],
        *,
        chunked: bool,
    ) -> None:
        self.parts = parts
        self.splitter = splitter
        self.write = write
        self.chunked = chunked
        #: The first batch of events and the last two: where tokens and markers stand.
        self.first = b""
        self.before = b""
        self.last = b""
        self.events = 0
        self.bytes_out = 0

    def verbatim(self, data: bytes) -> bool:
        """Write a whole chunk as it came. False: it is none, or waits for others; nothing was done.

        Only where the parser stands between two chunks, which spares it this one. A size that is
        not plainly hexadecimal, an extension, or a byte too many or too few is left to the parser.
        """
        if data[-4:] != b"\n\n\r\n" or not self.chunked or self.splitter.size or self.parts:
            return False
        at = data.find(b"\r\n", 1, _SIZE_END_MAX)
        digits = data[:at]
        if at < 1 or digits.strip(_HEX):
            return False
        count = int(digits, 16)
        if len(data) != at + count + 4:
            return False
        self.events += data.count(b"\n\n")
        self.bytes_out += count
        self.before = self.last
        self.last = data[at + 2 : -2]
        try:
            self.write(data)
        except RuntimeError:
            pass  # uvloop: closed since; whoever owns it hears of that next
        return True

    def pass_on(self) -> bool:
        """Write what came, if it is one piece of whole events. False: nothing was done."""
        parts = self.parts
        if len(parts) != 1 or self.splitter.size:
            return False
        data = parts[0]
        if data[-2:] != b"\n\n":
            return False
        parts.clear()
        count = len(data)
        self.events += data.count(b"\n\n")
        self.bytes_out += count
        self.before = self.last
        self.last = data
        try:
            self.write(b"%x\r\n%b\r\n" % (count, data) if self.chunked else data)
        except RuntimeError:
            pass  # uvloop: closed since; whoever owns it hears of that next
        return True

    def begin(self, held: bytes) -> bytes:
        """What was held back passes: framed, to go out with the head."""
        self.first = held
        return self._framed(held)

    def whole(self) -> bytes:
        """The whole events of what came, framed. Raises TooLongError."""
        parts = self.parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return self._framed(self.splitter.feed(data))

    def end(self) -> bytes:
        """The stream has ended well: what waited passes as it is, and the end of the framing."""
        rest = self._framed(self.splitter.rest())
        return rest + LAST_CHUNK if self.chunked else rest

    def _framed(self, whole: bytes) -> bytes:
        if not whole:
            return b""
        self.events += events.count(whole)
        self.bytes_out += len(whole)
        self.before = self.last
        self.last = whole
        return b"%x\r\n%b\r\n" % (len(whole), whole) if self.chunked else whole
