"""YAML as plain data, whatever it holds: bounded before anything is built of it. Pure.

yaml.safe_load makes no objects, but it follows aliases and merges: a few lines can stand for
billions of values, or for a list within itself. So the events are counted first, as if every alias
were written out; and a key that stands twice, of which YAML takes the last, is found there too.
"""

from typing import Any

import yaml
from msgspec import Struct

FILE_BYTES_MAX = 4 << 20  # a thousand deployments are a tenth of this
VALUES_MAX = 200_000
DEPTH_MAX = 64


class YamlFault(Exception):
    """Why a file cannot be read, in a sentence."""


class Yaml(Struct, frozen=True):
    """A file's data; `twice` are the keys of one table that it says two times, with their lines."""

    name: str
    data: dict[str, Any]
    twice: list[tuple[str, int]]


def read(raw: bytes, name: str) -> Yaml:
    """Raises YamlFault."""
    if len(raw) > FILE_BYTES_MAX:
        raise YamlFault(f"it has more than {FILE_BYTES_MAX} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as why:
        raise YamlFault(f"it is not UTF-8: byte {why.start}") from why
    try:
        twice = _measured(text)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as why:
        mark = why.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlFault(f"it is not YAML: {why.problem or why.context}{place}") from why
    except (yaml.YAMLError, ValueError, RecursionError) as why:
        raise YamlFault(f"it is not YAML: {' '.join(str(why).split())}") from why
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise YamlFault("a table is wanted at its top (key: value)")
    return Yaml(name, {str(key): value for key, value in data.items()}, twice)


class _Open:
    """A list or table that is not closed yet. `size` counts its values, aliases written out."""

    def __init__(self, anchor: str | None, *, table: bool) -> None:
        self.anchor = anchor
        self.size = 1
        self.keys: set[str] | None = set() if table else None
        self.at_key = table


def _measured(text: str) -> list[tuple[str, int]]:
    """Raises YamlFault for what is too large, too deep or within itself."""
    opened: list[_Open] = []
    sizes: dict[str, int] = {}
    twice: list[tuple[str, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size = 0
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise YamlFault(f"*{event.anchor} stands for what it is a part of")
            size = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = 1
            _note_key(opened, event, twice)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(opened) >= DEPTH_MAX:
                raise YamlFault(f"it is nested more than {DEPTH_MAX} deep")
            opened.append(_Open(event.anchor, table=isinstance(event, yaml.MappingStartEvent)))
            if event.anchor:
                sizes.pop(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = opened.pop()
            size = closed.size
            if closed.anchor:
                sizes[closed.anchor] = size
        if size:
            total = max(total, size)
            if opened:
                opened[-1].size += size
                opened[-1].at_key = not opened[-1].at_key
                total = max(total, opened[-1].size)
            if total > VALUES_MAX:
                raise YamlFault(f"it holds more than {VALUES_MAX} values, aliases written out")
    return twice


def _note_key(opened: list[_Open], event: yaml.ScalarEvent, twice: list[tuple[str, int]]) -> None:
    keys = opened[-1].keys if opened else None
    if keys is None or not opened[-1].at_key:
        return
    if event.value in keys and event.value != "<<":
        twice.append((event.value, event.start_mark.line + 1 if event.start_mark else 0))
    keys.add(event.value)
