"""A fuzz of heads and chunks, guided by coverage.

`python -m tests.fuzz.heads --minutes 10 --seed 1`

    corpus ─▶ change a few bytes ─▶ read whole, cut, doubled ─▶ h11 agrees?  no ─▶ a finding
      ▲                                        └─ lines that ran in a new order, a new refusal ─┐
      └─────────────────────────────────────────────────────────────────────────────────────────┘

The corpus begins with the table of raw requests. Of one seed the inputs are always the same ones;
`--runs` ends after so many, `--minutes` after so long, whichever comes first.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import h11

from router import body, downstream, head, inbound
from tests.fuzz.reading import Door, Ours, Theirs, compare
from tests.router.raw_requests import ROWS

#: Longer inputs find nothing that shorter ones do not, and take the time of many.
INPUT_BYTES_MAX = 1_500
T = TypeVar("T")
_CORPUS_MAX = 20_000

TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b":", b";", b",", b"=", b'"',
    b"\\", b"/", b"?", b"#", b"%2e", b"..", b"%", b"_", b"-", b"+", b"0", b"1", b"2", b"a", b"0x",
    b"\x7f", b"\xff", b"\x85", b"\xa0", b"*", b"@", b"[", b"]", b"http://a", b"HTTP/1.1",
    b"HTTP/1.0", b"GET ", b"POST ", b"OPTIONS ", b"Host: a\r\n", b"Host", b"chunked", b"identity",
    b"close", b"keep-alive", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 2\r\n",
    b"Content-Length", b"Connection: ", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n",
    b"Connection: Upgrade\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"2\r\n{}\r\n", b"2;a=b\r\n{}\r\n",
    b"T: u\r\n", b"{}", b"ffffffffffffffff",
)  # fmt: skip


class Finding(Exception):
    def __init__(self, what: str, data: bytes, cuts: list[int]) -> None:
        super().__init__(f"{what}\n  input: {data!r}\n  cut at: {cuts}")


class Coverage:
    """Which line ran after which, in the modules that read requests."""

    def __init__(self) -> None:
        files = {module.__file__ for module in (head, inbound, downstream, body)}
        files |= {
            f"{h11.__path__[0]}/{name}.py" for name in ("_readers", "_headers", "_connection")
        }
        self._files = files
        self._ran: set[object] = set()
        self.seen: set[object] = set()

    def of(self, act: Callable[[], T]) -> T:
        self._ran = set()
        sys.settrace(self._called)
        try:
            return act()
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, _: str, __: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        last = frame.f_lineno
        ran, code = self._ran, frame.f_code

        def line(frame: FrameType, _: str, __: object) -> Any:
            nonlocal last
            ran.add((code, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    def news(self, *others: object) -> bool:
        """Whether the last run, or these, show what none did before."""
        new = (self._ran | set(others)) - self.seen
        self.seen |= new
        return bool(new)


def changed(data: bytes, corpus: list[bytes], dice: random.Random) -> bytes:
    """One to four small changes."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(out))
        to = min(len(out), at + dice.choice((1, 1, 2, 4, 8, 40)))
        kind = dice.randrange(8)
        if kind == 0 and at < len(out):
            out[at] = dice.randrange(256)
        elif kind == 1 and at < len(out):
            out[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del out[at:to]
        elif kind == 3:
            out[at:at] = out[at:to]
        elif kind == 4:
            other = dice.choice(corpus)
            start = dice.randint(0, len(other))
            out[at:to] = other[start : start + dice.choice((4, 20, 100))]
        elif kind == 5:
            lines = bytes(out).split(b"\r\n")
            one, two = dice.randrange(len(lines)), dice.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[one]
            out = bytearray(b"\r\n".join(lines))
        else:
            out[at : at if kind == 6 else to] = dice.choice(TOKENS)
    return bytes(out[:INPUT_BYTES_MAX])


def check(door: Door, data: bytes, cuts: list[int], coverage: Coverage) -> Ours:
    """Read it in every way. Raises Finding."""
    try:
        whole, why = coverage.of(lambda: _both(door, data))
        if why is not None:
            raise Finding(why, data, [])
        if (other := door.read(data, cuts)) != whole and _verdict(other) != _verdict(whole):
            raise Finding(
                f"cut otherwise it is {_verdict(other)}, not {_verdict(whole)}", data, cuts
            )
        if whole.requests and not whole.closed:
            _check_twice(door, data, whole)
    except Finding:
        raise
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}", data, cuts) from error
    return whole


def _both(door: Door, data: bytes) -> tuple[Ours, str | None]:
    whole = door.read(data)
    return whole, compare(data, whole, Theirs(data))


def _verdict(found: Ours) -> tuple[object, ...]:
    return found.requests, found.said, found.closed


def _check_twice(door: Door, data: bytes, once: Ours) -> None:
    """On a kept connection the same bytes mean the same again, in a read of their own: then heads
    that are known need no parser."""
    twice = door.read(data + data, [len(data)])
    slowly = door.read(data + data, list(range(2 * len(data))))
    if _verdict(twice) != _verdict(slowly):
        raise Finding(
            f"again it is {_verdict(twice)}, not {_verdict(slowly)}", data + data, [len(data)]
        )


def fuzz(seed: int, *, runs: int, until: float = float("inf")) -> Iterator[tuple[int, int, int]]:
    """Runs, size of the corpus and coverage, every thousand runs and at the end. Raises Finding."""
    dice = random.Random(seed)
    corpus = [row.sent for row in ROWS if len(row.sent) <= INPUT_BYTES_MAX]
    given = len(corpus)
    door, coverage = Door(), Coverage()
    run = 0
    for run in range(runs):
        first = run < given
        data = corpus[run] if first else changed(dice.choice(corpus), corpus, dice)
        cuts = [dice.randint(0, len(data)) for _ in range(dice.randint(1, 4))]
        found = check(door, data, cuts, coverage)
        said = (found.said, found.why, len(found.requests))
        if coverage.news(said) and not first and len(corpus) < _CORPUS_MAX:
            corpus.append(data)
        if run % 1_000 == 999:
            yield run + 1, len(corpus), len(coverage.seen)
            if time.monotonic() > until:
                return
    yield run + 1, len(corpus), len(coverage.seen)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.heads", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--runs", type=int, default=1 << 40)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    runs = 0
    try:
        for runs, size, seen in fuzz(asked.seed, runs=asked.runs, until=began + asked.minutes * 60):
            if runs % 20_000 == 0:
                print(f"{runs} runs, corpus {size}, coverage {seen}", flush=True)
    except Finding as found:
        print(f"after {runs} runs of seed {asked.seed}: {found}")
        return 1
    took = time.monotonic() - began
    print(f"{runs} runs in {took:.0f} s, corpus {size}, coverage {seen}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
