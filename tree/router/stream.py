"""A running event stream, as far as every event touches it: one small object, three ways.

passed     a read that is one whole chunk of whole events goes on as it came: its framing is ours.
           The connection writes it and notes it here; it is counted later, a few at a time.
pass_on    one piece that ends in a blank line, framed anew
whole      everything else: events over several reads, other line ends, the end
"""

from collections.abc import Callable

from router import events
from router.events import Splitter
from router.framing import LAST_CHUNK

#: So many noted chunks are counted together: that costs half of one by one.
NOTED_MAX = 8

#: A chunk's size ends within so many bytes: seven digits are 256 MiB, more than any read.
_SIZE_END_MAX = 9
_HEX = b"0123456789abcdefABCDEF"

#: What a chunk of whole events ends in; and where, as a subscript that is made once.
END = b"\n\n\r\n"
LAST_FOUR = slice(-4, None)


def are_chunks(data: bytes) -> bool:
    """Whether `data` is exactly one chunk or several, each of whole events.

    A size that is not plainly hexadecimal, an extension, the last chunk, or a byte too many or too
    few make it none: they are the parser's to judge.
    """
    if data[LAST_FOUR] != END:
        return False
    at, size = 0, len(data)
    while at < size:
        line = data.find(b"\r\n", at + 1, at + _SIZE_END_MAX)
        digits = data[at:line]
        if line < 0 or digits.strip(_HEX):
            return False
        at = line + int(digits, 16) + 4
        if data[at - 4 : at] != END:
            return False
    return at == size


def _heads(bytes_max: int) -> tuple[list[bytes], list[bytes]]:
    at_least, below = [b"\xff"] * bytes_max, [b""] * bytes_max
    for count in range(1, bytes_max):
        head = b"%x\r\n" % count
        whole = len(head) + count + 2
        if whole < bytes_max:
            at_least[whole], below[whole] = head, head[:-1] + b"\x0b"
    return at_least, below


#: The same by two comparisons, for chunks below so many bytes whose size is written as most write
#: it. Of n bytes a chunk can begin in one way alone, and bytes compare as words in a dictionary:
#: what begins with `d3 CR LF` is at least that, and below `d3 CR VT`. No call costs as little.
COMPARED_MAX = 2048
AT_LEAST, BELOW = _heads(COMPARED_MAX)


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
        "passed",
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
        #: Chunks that were written as they came, and not counted yet.
        self.passed: list[bytes] = []
        #: The first batch of events and the last two: where tokens and markers stand. Of a chunk
        #: that passed as it came, with its framing.
        self.first = b""
        self.before = b""
        self.last = b""
        self.events = 0
        #: As written: with the framing.
        self.bytes_out = 0

    @property
    def even(self) -> bool:
        """Nothing waits, and a chunk may pass as it came."""
        return self.chunked and not self.parts and not self.splitter.size

    def count(self) -> None:
        """Count what was noted. Before the numbers are read, and before anything else passes."""
        passed = self.passed
        if not passed:
            return
        self.before, self.last = (self.last, *passed)[-2:]
        whole = b"".join(passed)
        passed.clear()
        self.events += whole.count(b"\n\n")
        self.bytes_out += len(whole)

    def pass_on(self) -> bool:
        """Write what came, if it is one piece of whole events. False: nothing was done."""
        parts = self.parts
        if len(parts) != 1 or self.splitter.size:
            return False
        data = parts[0]
        if data[-2:] != b"\n\n":
            return False
        parts.clear()
        if self.passed:
            self.count()
        self.events += data.count(b"\n\n")
        self.before = self.last
        self.last = data
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.bytes_out += len(data)
        try:
            self.write(data)
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
        self.count()
        self.events += events.count(whole)
        self.before = self.last
        self.last = whole
        if self.chunked:
            whole = b"%x\r\n%b\r\n" % (len(whole), whole)
        self.bytes_out += len(whole)
        return whole
