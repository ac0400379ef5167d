"""Changing a key of a TOML text: its comments, order and layout stay. Pure.

    a value, a key     replaced and removed by tomlkit, which keeps what stands around them
    a new key          goes as text after the last one of its table, a new table after its
                       relatives: tomlkit would put it behind the comment that heads the next table
    a table            goes as text, too: tomlkit would take that comment along

Whatever the way, the result is read again and must say exactly what was asked for, else EditError.
"""

import copy
import tomllib
from collections.abc import Iterator
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, InlineTable

from common.positions import Path, Position, positions


class EditError(Exception):
    """What cannot be done to this text, in a sentence."""


def path_of(key: str) -> Path:
    """`models."gpt-4o".fallbacks`, `rules.0.model`: a dotted key as TOML writes it, items from 0.

    Raises EditError.
    """
    try:
        tree: Any = tomllib.loads(f"{key} = 0") if "\n" not in key and "=" not in key else None
    except tomllib.TOMLDecodeError:
        tree = None
    if not isinstance(tree, dict):
        raise EditError(
            f"{key!r} is no key: parts are joined by dots, and a part with other signs than "
            'letters, digits, _ and - stands in quotes:  models."gpt-4.1".strategy'
        )
    parts: list[str | int] = []
    while isinstance(tree, dict):
        ((part, tree),) = tree.items()
        parts.append(part)
    return tuple(parts)


def value_of(text: str) -> Any:
    """A value as TOML writes it; a bare word (and whatever else TOML does not know) is a text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = table.get("value")
    # No key takes a date, and `value = 1 \n other = 2` is not one value.
    known = isinstance(value, (str, bool, int, float, list, dict))
    return value if len(table) == 1 and known else text


def value_text(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key_text((key,))} = {value_text(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    return str(tomlkit.item(value).as_string())


def key_text(path: Path) -> str:
    """The dotted key, quoted where TOML wants it."""
    return ".".join(tomlkit.key(str(part)).as_string() for part in path)


def get(text: str, path: Path) -> Any:
    """The value at `path`, None where there is none."""
    at: Any = tomllib.loads(text)
    try:
        for part in _resolved(at, path):
            at = at[part]
    except (KeyError, IndexError, TypeError):
        return None
    return at


def put(text: str, path: Path, value: Any) -> str:
    """`text` with `value` at `path`. Raises EditError."""
    data = tomllib.loads(text)
    path = _resolved(data, path)
    wanted = _with(data, path, value)
    for changed in _ways_to_put(text, data, path, value):
        if _reads(changed, wanted):
            return changed
    raise EditError(f"{key_text(path)} cannot be set in this file's layout: edit it by hand")


def drop(text: str, path: Path) -> str:
    """`text` without `path`. Raises EditError."""
    data = tomllib.loads(text)
    path = _resolved(data, path)
    wanted = _without(data, path)
    for changed in (_Places(text).without_table(path), _deleted(text, path)):
        if _reads(changed, wanted) or _reads(changed, _pruned(wanted, path)):
            return changed
    raise EditError(f"{key_text(path)} cannot be removed in this file's layout: edit it by hand")


def _resolved(data: Any, path: Path) -> Path:
    """Parts that name an item of an array become its index. Raises EditError for one too far."""
    found: list[str | int] = []
    at: Any = data
    for part in path:
        if isinstance(at, list):
            if not str(part).isdecimal():
                inside = key_text(tuple(found))
                raise EditError(f"{inside} is a list: name its item, as  {inside}.0")
            index = int(part)
            if index >= len(at):
                inside = key_text(tuple(found))
                raise EditError(f"{inside} has no item {index}: from 0 on it has {len(at)}")
            found.append(index)
            at = at[index]
        else:
            found.append(part)
            at = at.get(part) if isinstance(at, dict) else None
    return tuple(found)


def _with(data: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(data)
    at: Any = made
    for depth, part in enumerate(path[:-1]):
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        if not isinstance(at, (dict, list)):
            shown = key_text(path[: depth + 1])
            raise EditError(
                f"{shown} is a value, no table: it has no {key_text(path[depth + 1 :])}"
            )
    at[path[-1]] = value
    return made


def _without(data: dict[str, Any], path: Path) -> dict[str, Any]:
    made = copy.deepcopy(data)
    at: Any = made
    try:
        for part in path[:-1]:
            at = at[part]
        del at[path[-1]]
    except (KeyError, IndexError, TypeError):
        raise EditError(f"{key_text(path)} is not set in this file") from None
    return made


def _pruned(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Without the tables above `path` that nothing but it had made."""
    for length in range(len(path) - 1, 0, -1):
        at: Any = data
        for part in path[: length - 1]:
            at = at[part]
        if at[path[length - 1]] != {}:
            break
        data = _without(data, path[:length])
    return data


def _reads(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return bool(text) and tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _ways_to_put(text: str, data: dict[str, Any], path: Path, value: Any) -> Iterator[str]:
    if _holds(data, path) or _inline(text, path):
        yield _replaced(text, path, value)
    places = _Places(text)
    if len(path) > 1:
        yield places.added(path, value)
        yield places.new_table(path, value)
    yield places.added(path, value)
    for above in range(len(path) - 1, 0, -1):
        yield places.added_below(path[:above], path[above:], value)
    yield places.added_below((), path, value)


def _holds(data: Any, path: Path) -> bool:
    at: Any = data
    for part in path:
        if isinstance(at, dict) and part not in at:
            return False
        if not isinstance(at, (dict, list)):
            return False
        inside: Any = at
        at = inside[part]
    return True


def _inline(text: str, path: Path) -> bool:
    """Whether `path` would stand in a table written on one line."""
    at: Any = tomlkit.parse(text)
    for part in path[:-1]:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError, TOMLKitError):
            return False
        if isinstance(at, InlineTable):
            return True
    return False


def _replaced(text: str, path: Path, value: Any) -> str:
    document = tomlkit.parse(text)
    try:
        at: Any = document
        for part in path[:-1]:
            if isinstance(at, AbstractTable) and str(part) not in at:
                at[str(part)] = tomlkit.inline_table()
            at = at[part]
        at[path[-1]] = tomlkit.value(value_text(value))
        return tomlkit.dumps(document)
    except (TOMLKitError, AttributeError, KeyError, IndexError, TypeError, ValueError):
        return ""


def _deleted(text: str, path: Path) -> str:
    document = tomlkit.parse(text)
    try:
        above: Any = document
        for part in path[:-1]:
            above = above[part]
        del above[path[-1]]
        return tomlkit.dumps(document)
    except (TOMLKitError, KeyError, IndexError, TypeError, ValueError):
        return ""


class _Places:
    """Where new lines go. A key or header *starts* a line; what follows a header is its section."""

    def __init__(self, text: str) -> None:
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._found = positions(text)
        self._headers = {one.line for one in self._found.values() if _is_header(one)}
        keys = {one.line for path, one in self._found.items() if self._begins(path, one)}
        self._starts = sorted(self._headers | keys)

    def added(self, path: Path, value: Any) -> str:
        """`key = value` in a table that has a header (or is the file itself)."""
        return self.added_below(path[:-1], path[-1:], value)

    def added_below(self, table: Path, key: Path, value: Any) -> str:
        """The same; `key` may be dotted. Empty where the table has no header."""
        if any(isinstance(part, int) for part in key):
            return ""
        header = self._found.get(table)
        if table and (header is None or not _is_header(header)):
            return ""
        line = f"{key_text(key)} = {value_text(value)}"
        section = header.line if header else 0
        own = [at for at in self._starts if at > section and self._section(at) == section]
        if own:
            return self._inserted(self._end(own[-1]), [line])
        if section:
            return self._inserted(section, [line])
        return self._inserted(self._before_first_header(), [line, ""] if self._headers else [line])

    def new_table(self, path: Path, value: Any) -> str:
        """A header of its own, after the last line of its nearest relatives."""
        names = tuple(part for part in path[:-1] if isinstance(part, str))
        last = next(
            (
                found
                for length in range(len(path) - 1, 0, -1)
                if (found := self._last(path[:length]))
            ),
            self._last_text(),
        )
        lines = ["", f"[{key_text(names)}]", f"{key_text(path[-1:])} = {value_text(value)}"]
        follows = last < len(self._lines) and self._lines[last].strip()
        return self._inserted(last, [*lines, ""] if follows else lines)

    def without_table(self, path: Path) -> str:
        """Without the sections of `path`; what stands between them and the next header stays."""
        gone: set[int] = set()
        for under, one in self._found.items():
            if under[: len(path)] == path and _is_header(one):
                own = [at for at in self._starts if self._section(at) == one.line]
                gone.update(range(one.line, self._end(own[-1]) + 1))
                if one.line > 1 and not self._lines[one.line - 2].strip():
                    gone.add(one.line - 1)
        kept = [line for at, line in enumerate(self._lines, 1) if at not in gone]
        return self._newline.join(kept) if gone else ""

    def _begins(self, path: Path, position: Position) -> bool:
        line = self._lines[position.line - 1]
        return isinstance(path[-1], str) and position.column == len(line) - len(line.lstrip()) + 1

    def _section(self, line: int) -> int:
        """The line of the header under which `line` stands, or that stands there; 0: above all."""
        return max((at for at in self._headers if at <= line), default=0)

    def _last(self, prefix: Path) -> int:
        """The last line of what stands under `prefix`; 0: nothing does."""
        lines = [one.line for path, one in self._found.items() if path[: len(prefix)] == prefix]
        if not lines:
            return 0
        return self._end(max(at for at in self._starts if at <= max(lines)))

    def _end(self, start: int) -> int:
        """The last line of what starts on `start`: the first end that makes it TOML."""
        after = next((at for at in self._starts if at > start), len(self._lines) + 1)
        for end in range(start, after):
            try:
                tomllib.loads("\n".join(self._lines[start - 1 : end]))
            except tomllib.TOMLDecodeError:
                continue
            return end
        return start

    def _before_first_header(self) -> int:
        """Above the comment that heads it; after all text where there is no header."""
        if not self._headers:
            return self._last_text()
        line = min(self._headers) - 1
        while line > 0 and self._lines[line - 1].lstrip().startswith("#"):
            line -= 1
        return line

    def _last_text(self) -> int:
        """The last line that is not blank; 0 in an empty file."""
        return max((at for at, line in enumerate(self._lines, 1) if line.strip()), default=0)

    def _inserted(self, after: int, new: list[str]) -> str:
        lines = [*self._lines[:after], *new, *self._lines[after:]]
        while lines and not lines[0]:
            del lines[0]
        if lines[-1]:
            lines.append("")
        return self._newline.join(lines)


def _is_header(position: Position) -> bool:
    """A header's value is the whole of it, with its brackets: it begins before its key."""
    return position.value.column < position.key.column
