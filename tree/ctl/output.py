"""Where verbs write: lines for people or one JSON value for programs, to this terminal or pipe."""

import os
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from ctl.errors import CtlError
from ctl.render import Paint, error, wants_colour


@dataclass(frozen=True)
class Output:
    """`json` is what --json asked for. `paint` colours stdout, `paint_error` stderr."""

    json: bool
    paint: Paint
    paint_error: Paint

    def lines(self, lines: list[str]) -> None:
        for line in lines:
            print(line)

    def line(self, text: str) -> None:
        """One line, at once: for what takes its time."""
        print(text, flush=True)

    def value(self, value: Any) -> None:
        """A JSON document, readable by people too."""
        print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())

    def json_line(self, value: Any) -> None:
        """One JSON object on its own line, at once: for what comes over time."""
        print(msgspec.json.encode(value).decode(), flush=True)

    def aside(self, text: str) -> None:
        """For people watching; never part of the answer."""
        print(self.paint_error(text, "dim"), file=sys.stderr, flush=True)

    def failed(self, end: CtlError) -> None:
        if self.json:
            self.json_line({"error": end.what, "why": end.why, "fix": end.fix})
        for line in error(end, self.paint_error):
            print(line, file=sys.stderr)


def output(json: bool) -> Output:
    return Output(
        json=json,
        paint=Paint(wants_colour(sys.stdout.isatty(), os.environ)),
        paint_error=Paint(wants_colour(sys.stderr.isatty(), os.environ)),
    )
