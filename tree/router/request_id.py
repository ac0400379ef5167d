"""Request ids: short, and in the order in which they were made. Pure: time and chance are given.

Fourteen characters of Crockford's base 32: seven for the second, four that count within it, three
by chance per process, so that workers and routers do not meet.
"""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [(a + b).encode() for a in _ALPHABET for b in _ALPHABET]
_COUNT_MASK = (1 << 20) - 1


def _text(value: int, digits: int) -> bytes:
    out = ""
    for _ in range(digits):
        out = _ALPHABET[value & 31] + out
        value >>= 5
    return out.encode()


class RequestIds:
    """`chance` is a number from 0 to 1."""

    __slots__ = ("_count", "_second", "_start", "_tail")

    def __init__(self, chance: float) -> None:
        self._tail = _text(int(chance * 32768) % 32768, 3)
        self._second = -1
        self._start = b""
        self._count = 0

    def next(self, unix_s: float) -> bytes:
        second = int(unix_s)
        if second > self._second:
            self._second = second
            self._start = _text(second, 7)
            self._count = 0
        count = self._count
        self._count = (count + 1) & _COUNT_MASK
        return b"%b%b%b%b" % (self._start, _PAIRS[count >> 10], _PAIRS[count & 1023], self._tail)
