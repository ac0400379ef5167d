"""What `make up` prints: one line per part as it becomes ready, one page when all are.

On a terminal the part that is awaited stands below with its seconds running; into a pipe or a log
only finished lines go.
"""

import os
import sys
import time

_TTY = sys.stdout.isatty()
_COLOUR = _TTY and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
NAME_WIDTH = 20
WHAT_WIDTH = 38
_pending = ""


def colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _COLOUR else text


def say(text: str = "") -> None:
    _clear()
    print(text, flush=True)


def ready(name: str, what: str, took_s: float) -> None:
    line = f"{name:<{NAME_WIDTH}} {what:<{WHAT_WIDTH}} {took_s:4.1f} s"
    say(f"  {colour('✓', '32')} {line}")


def note(text: str) -> None:
    say(f"  {colour('!', '33')} {text}")


def fault(what: str, *more: str) -> None:
    """What is wrong, then why and one fix, indented."""
    say(f"{colour('✗', '31')} {what}")
    for line in more:
        say(f"    {line}")


def pending(name: str, what: str, since: float) -> None:
    """The part that is awaited now; on a terminal only."""
    global _pending
    line = f"  … {name:<{NAME_WIDTH}} {what:<{WHAT_WIDTH}} {time.monotonic() - since:4.1f} s"
    if _TTY and line != _pending:
        _pending = line
        print(f"\r\x1b[K{line}", end="", flush=True)


def part(text: str) -> None:
    """A piece of a line that grows, for stopping."""
    _clear()
    print(text, end="", flush=True)


def _clear() -> None:
    global _pending
    if _pending:
        print("\r\x1b[K", end="")
        _pending = ""
