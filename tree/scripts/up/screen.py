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
_gone = False


def colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _COLOUR else text


def say(text: str = "") -> None:
    _clear()
    _write(f"{text}\n")


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
        _write(f"\r\x1b[K{line}")


def part(text: str) -> None:
    """A piece of a line that grows, for stopping."""
    _clear()
    _write(text)


def _clear() -> None:
    global _pending
    if _pending:
        _write("\r\x1b[K")
        _pending = ""


def _write(text: str) -> None:
    """A terminal that was closed, or a reader that ended, must not end the run half-way."""
    global _gone
    if _gone:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        _gone = True
        # What is still buffered has nowhere to go, now and at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
