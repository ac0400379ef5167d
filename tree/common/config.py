"""Reading configuration: TOML into a frozen Struct, or every fault at once, each with its place.

A fault says what, where (file, line, column, the line itself), what would happen, and one fix:

    error: unknown key "strategey"
      router.toml:6:1    strategey = "prefix"
      fix: did you mean "strategy"?

Structs set `forbid_unknown_fields`; ranges and patterns stand in `Annotated[…, msgspec.Meta(…)]`.
Checks across fields get the `Document` and make their faults with `Document.problem(path, …)`.
"""

import re
import tomllib
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from common.positions import Path, Position, Span, positions
from common.redact import hide_shapes
from common.shape import STOPS_START, UNKNOWN_KEY, Fault, faults

FILE_BYTES_MAX = 4 * 1024 * 1024  # ten thousand engines are a tenth of this

T = TypeVar("T")


class Problem(Struct, frozen=True, kw_only=True):
    """One fault (or warning) in a file. Lines and columns count from 1; 0 is "the whole file"."""

    text: str
    severity: str = "error"
    file: str = ""
    line: int = 0
    column: int = 0
    length: int = 0
    shown: str = ""
    effect: str = ""
    fix: str = ""
    path: Path = ()

    def __str__(self) -> str:
        lines = [f"{self.severity}: {self.text}"]
        if self.file:
            lines += self._place()
        lines += [f"  {line}" for line in self.effect.splitlines()]
        if self.fix:
            first, *rest = self.fix.splitlines()
            lines += [f"  fix: {first}", *(f"       {line}" for line in rest)]
        return "\n".join(lines)

    def _place(self) -> list[str]:
        if not self.line:
            return [f"  {self.file}"]
        where = f"  {self.file}:{self.line}:{self.column}"
        where = f"{where:<19}  " if len(where) < 19 else f"{where}   "
        indent = len(self.shown) - len(self.shown.lstrip())
        shown = self.shown.strip()
        lines = [f"{where}{shown}"]
        offset = self.column - 1 - indent
        if self.length > 1 and offset > 0:
            under = "".join("\t" if c == "\t" else " " for c in shown[:offset])
            lines.append(" " * len(where) + under + "^" * min(self.length, len(shown) - offset))
        return lines


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` holds every fault, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return report(self.problems)


class Document:
    """A TOML file as it was read: its text, its data, and where each key stands."""

    def __init__(self, text: str, file: str, data: dict[str, Any]) -> None:
        self.text = text
        self.file = file
        self.data = data

    @cached_property
    def positions(self) -> dict[Path, Position]:
        return positions(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.replace("\r\n", "\n").split("\n")

    def line_of(self, *path: str | int) -> int:
        """The line of `path`, or of the nearest table around it; 0 where there is none."""
        found = self._nearest(path)
        return found[1].line if found else 0

    def problem(
        self,
        path: Path,
        text: str,
        *,
        effect: str = "",
        fix: str = "",
        severity: str = "error",
        on_key: bool = False,
    ) -> Problem:
        """A fault at `path`'s value (its key with `on_key`), or at the nearest table around it."""
        span = Span(0, 0, 0)
        if found := self._nearest(path):
            exact, position = found
            span = position.value if exact and not on_key else position.key
        line = self.lines[span.line - 1] if span.line else ""
        shown = hide_shapes(line)  # it may hold a key too, and reports go to terminals and logs
        return Problem(
            text=text,
            severity=severity,
            file=self.file,
            line=span.line,
            column=span.column,
            length=span.length if shown == line else 0,
            shown=shown,
            effect=effect,
            fix=fix,
            path=path,
        )

    def _nearest(self, path: Path) -> tuple[bool, Position] | None:
        for length in range(len(path), 0, -1):
            if position := self.positions.get(path[:length]):
                return length == len(path), position
        return None


def decode(text: str, type: type[T], file: str = "config.toml") -> T:
    """`text` as a `type`. Raises ConfigError with every fault at once."""
    return read(text, type, file)[0]


def read(text: str, type: type[T], file: str = "config.toml") -> tuple[T, Document]:
    """`decode`, and the document that cross-field checks point into."""
    document = parse(text, file)
    return convert(document, type), document


def load(path: str | FilePath | None, type: type[T]) -> T:
    """The file at `path` as a `type`; None is an empty file. Raises ConfigError."""
    return load_document(path, type)[0]


def load_document(path: str | FilePath | None, type: type[T]) -> tuple[T, Document]:
    """`load`, and the document that cross-field checks point into."""
    return read("" if path is None else read_text(path), type, str(path or "(no file)"))


def read_text(path: str | FilePath) -> str:
    """A file's text. Raises ConfigError when it cannot be read, is not UTF-8 or is too large."""
    try:
        with FilePath(path).open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as why:
        fix = _reading_fix(path, why)
        raise _whole_file(path, f"the file cannot be read: {why.strerror}", fix) from why
    if len(raw) > FILE_BYTES_MAX:
        raise _whole_file(path, f"the file has more than {FILE_BYTES_MAX} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as why:
        line = raw.count(b"\n", 0, why.start) + 1
        raise _whole_file(path, f"the file is not UTF-8: byte {why.start}, line {line}") from why


def _reading_fix(path: str | FilePath, why: OSError) -> str:
    if isinstance(why, FileNotFoundError):
        return "write the file (configs/ has one of each with every key), or name another"
    if isinstance(why, PermissionError):
        return f"let the daemon's user read it: ls -l {path}"
    return "name a file"


def checked(
    path: str | FilePath, type: type[T], check: Callable[[T, Document], list[Problem]]
) -> tuple[T | None, list[Problem]]:
    """The file at `path` as a `type`, and all that is wrong in it; None where it is none."""
    try:
        return checked_text(read_text(path), type, check, str(path))
    except ConfigError as faults:
        return None, faults.problems


def checked_text(
    text: str, type: type[T], check: Callable[[T, Document], list[Problem]], file: str
) -> tuple[T | None, list[Problem]]:
    """`checked`, for a text that may not be in `file` yet."""
    try:
        document = parse(text, file)
    except ConfigError as faults:
        return None, faults.problems
    try:
        chosen = convert(document, type)
    except ConfigError as faults:
        more = _without_unknown(document, faults.problems, type, check)
        return None, sorted([*faults.problems, *more], key=_order)
    return chosen, check(chosen, document)


def _without_unknown(
    document: Document,
    found: list[Problem],
    type: type[T],
    check: Callable[[T, Document], list[Problem]],
) -> list[Problem]:
    """What else is wrong where nothing but unknown keys is: a file is mended in one go."""
    if not all(one.text.startswith(UNKNOWN_KEY) for one in found):
        return []
    data = deepcopy(document.data)
    for one in found:
        around: Any = data
        for part in one.path[:-1]:
            around = around[part]
        del around[one.path[-1]]
    try:
        return check(msgspec.convert(data, type), document)
    except msgspec.ValidationError:
        return []


def _whole_file(path: str | FilePath, text: str, fix: str = "") -> ConfigError:
    return ConfigError([Problem(text=text, file=str(path), effect=STOPS_START, fix=fix)])


def parse(text: str, file: str) -> Document:
    """The TOML of `text`. Raises ConfigError for a fault of syntax, with its place."""
    try:
        return Document(text, file, tomllib.loads(text))
    except tomllib.TOMLDecodeError as why:
        raise ConfigError([_syntax(text, file, str(why))]) from None
    except RecursionError:
        raise _whole_file(file, "the file is nested too deeply") from None


_AT = re.compile(r"(.*) \((?:at line (\d+), column (\d+)|at end of document)\)", re.DOTALL)


def _syntax(text: str, file: str, said: str) -> Problem:
    lines = text.replace("\r\n", "\n").split("\n")
    match = _AT.match(said)
    message, line, column = said, len(lines), len(lines[-1]) + 1
    if match:
        message = match[1]
        if match[2]:
            line, column = int(match[2]), int(match[3])
    return Problem(
        text=f"not TOML: {message[:1].lower()}{message[1:]}",
        file=file,
        line=line,
        column=column,
        shown=hide_shapes(lines[line - 1]) if line <= len(lines) else "",
        effect=STOPS_START,
        fix=_syntax_fix(message),
    )


def _syntax_fix(message: str) -> str:
    if "overwrite" in message or "twice" in message or "redefin" in message:
        return "a key or table stands twice; keep one"
    if "Unescaped '\\'" in message:
        return "texts with backslashes go in single quotes: key = 'gpt-\\d+'"
    unquoted = ("after a statement", "Invalid value", "Unclosed", "Illegal character")
    if any(said in message for said in unquoted):
        return 'texts go in quotes: key = "text"'
    return ""


def convert(document: Document, type: type[T]) -> T:
    """The document's data as a `type`. Raises ConfigError with every fault at once."""
    found = faults(document.data, type)
    if found:
        raise ConfigError(sorted((_problem(document, one) for one in found), key=_order))
    try:
        return msgspec.convert(document.data, type)
    except msgspec.ValidationError as why:  # a rule that `faults` does not know
        raise ConfigError([document.problem((), str(why), effect=STOPS_START)]) from None


def _problem(document: Document, fault: Fault) -> Problem:
    return document.problem(
        fault.path, fault.text, effect=fault.effect, fix=fault.fix, on_key=fault.on_key
    )


def _order(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


def report(problems: list[Problem]) -> str:
    """All faults, and how many: what `check` prints."""
    errors = sum(one.severity == "error" for one in problems)
    warnings = len(problems) - errors
    count = f"{_count(errors, 'error')}, {_count(warnings, 'warning')}."
    return "\n\n".join([*map(str, problems), count])


def has_errors(problems: list[Problem]) -> bool:
    return any(one.severity == "error" for one in problems)


def verdict(problems: list[Problem], summary: str) -> str:
    """What `check FILE` prints of a file without errors: its warnings, `ok` and what it says."""
    return "\n".join([*([report(problems)] if problems else []), f"ok   {summary}"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
