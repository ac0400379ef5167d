"""Where each key and value stands in a TOML text: key path → line and column. Pure.

tomllib and tomlkit keep no positions. The text must be valid TOML (tomllib has read it): so this
scanner only follows the structure and never judges. A path is a tuple of keys and array indices:

    [[engine]]             ("engine",) and ("engine", 0)
    port = 8100            ("engine", 0, "port")
    a.b = { c = [1, 2] }   ("engine", 0, "a"), (…, "a", "b"), (…, "b", "c"), (…, "c", 0), …

Lines and columns count from 1, columns in characters.
"""

import re
import tomllib

from msgspec import Struct

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#]+(?: \d\d:[^\s,\]}#]*)?")  # a space may part a date from its time
_BLANK = re.compile(r"[ \t]+")


class Span(Struct, frozen=True):
    """A stretch of one line. A value over several lines ends, here, with its first."""

    line: int
    column: int
    length: int


class Position(Struct, frozen=True):
    """Where a key stands and where its value does. Array items have no key: both are the value."""

    key: Span
    value: Span

    @property
    def line(self) -> int:
        return self.key.line

    @property
    def column(self) -> int:
        return self.key.column

    @property
    def length(self) -> int:
        return self.key.length


def positions(text: str) -> dict[Path, Position]:
    """Every key and array item of a valid TOML text. A table made by several headers: the first."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._found: dict[Path, Position] = {}
        self._arrays: dict[Path, int] = {}  # arrays of tables, and how many they have so far

    def scan(self) -> dict[Path, Position]:
        table: Path = ()
        while self._skip(newlines=True):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _header(self) -> Path:
        double = self._text.startswith("[[", self._at)
        start = self._at
        self._advance(2 if double else 1)
        parts = self._dotted_key()
        self._skip(newlines=False)
        self._advance(2 if double else 1)
        whole = self._span(start, self._at)
        path: Path = ()
        for name, span in parts[:-1]:
            path = self._enter((*path, name), span)
        name, span = parts[-1]
        path = (*path, name)
        if not double:
            self._note(path, Position(span, whole))
            return path
        self._note(path, Position(span, whole))
        index = self._arrays.get(path, 0)
        self._arrays[path] = index + 1
        self._note((*path, index), Position(span, whole))
        return (*path, index)

    def _enter(self, path: Path, span: Span) -> Path:
        """A table on the way to another; in an array of tables, its latest."""
        self._note(path, Position(span, span))
        count = self._arrays.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: Path) -> None:
        path = table
        parts = self._dotted_key()
        self._skip(newlines=False)
        self._advance(1)  # the equals sign
        self._skip(newlines=False)
        for name, span in parts[:-1]:
            path = (*path, name)
            self._note(path, Position(span, span))
        name, span = parts[-1]
        self._value((*path, name), span)

    def _value(self, path: Path, key: Span | None) -> None:
        start = self._at
        begun = self._span(start, self._end_of_line(start))
        # Noted before its items, so that a reader of the dict meets a parent first.
        self._note(path, Position(key or begun, begun))
        line = self._line
        first = self._text[start]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._string()
        else:
            match = _SCALAR.match(self._text, start)
            assert match is not None
            self._advance(len(match[0]))
        if self._line == line:
            value = self._span(start, self._at)
            self._found[path] = Position(key or value, value)

    def _array(self, path: Path) -> None:
        self._advance(1)
        index = 0
        while self._skip(newlines=True) and self._text[self._at] != "]":
            if self._text[self._at] == ",":
                self._advance(1)
                continue
            self._value((*path, index), None)
            index += 1
        self._advance(1)

    def _inline_table(self, path: Path) -> None:
        self._advance(1)
        while self._skip(newlines=True) and self._text[self._at] != "}":
            if self._text[self._at] == ",":
                self._advance(1)
                continue
            self._pair(path)
        self._advance(1)

    def _dotted_key(self) -> list[tuple[str, Span]]:
        parts: list[tuple[str, Span]] = []
        while True:
            self._skip(newlines=False)
            start = self._at
            if self._text[start] in "\"'":
                self._string()
                raw = self._text[start : self._at]
                name = str(tomllib.loads(f"k = {raw}")["k"])
            else:
                match = _BARE.match(self._text, start)
                assert match is not None
                name = match[0]
                self._advance(len(name))
            parts.append((name, self._span(start, self._at)))
            self._skip(newlines=False)
            if self._at >= len(self._text) or self._text[self._at] != ".":
                return parts
            self._advance(1)

    def _string(self) -> None:
        quote = self._text[self._at]
        triple = quote * 3
        if not self._text.startswith(triple, self._at):
            self._advance(1)
            while self._text[self._at] != quote:
                self._advance(2 if quote == '"' and self._text[self._at] == "\\" else 1)
            self._advance(1)
            return
        self._advance(3)
        while not self._text.startswith(triple, self._at):
            self._advance(2 if quote == '"' and self._text[self._at] == "\\" else 1)
        self._advance(3)
        for _ in range(2):  # up to two quotes may stand right before the closing three
            if self._text.startswith(quote, self._at):
                self._advance(1)

    def _skip(self, *, newlines: bool) -> bool:
        """Past blanks, and with `newlines` past line ends and comments. False at the end."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in " \t" or (newlines and char in "\r\n"):
                self._advance(1)
            elif newlines and char == "#":
                self._advance(self._end_of_line(self._at) - self._at)
            else:
                return True
        return False

    def _advance(self, count: int) -> None:
        """Move on, keeping count of lines."""
        end = self._at + count
        newline = self._text.find("\n", self._at, end)
        while newline != -1:
            self._line += 1
            self._line_start = newline + 1
            newline = self._text.find("\n", newline + 1, end)
        self._at = end

    def _end_of_line(self, start: int) -> int:
        end = self._text.find("\n", start)
        if end == -1:
            end = len(self._text)
        return end - 1 if end > start and self._text[end - 1] == "\r" else end

    def _span(self, start: int, end: int) -> Span:
        return Span(self._line, start - self._line_start + 1, end - start)

    def _note(self, path: Path, position: Position) -> None:
        self._found.setdefault(path, position)
