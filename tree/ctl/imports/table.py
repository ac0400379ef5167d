"""A table of the YAML that knows what was taken of it: the rest is lost, and told. Pure."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ctl.imports.draft import Draft

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
NO_COUNTERPART = "the router has no counterpart"


class Table:
    """`path` is where it stands: `model_list[3].litellm_params`.

    What has another type than is asked for counts as absent, and is told.
    """

    def __init__(self, data: Mapping[Any, Any], path: str, draft: Draft) -> None:
        self._data = {str(key): value for key, value in data.items()}
        self._left = {key for key, value in self._data.items() if value is not None}
        self._draft = draft
        self.path = path

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def at(self, key: str | int) -> str:
        """The path of what stands under `key`."""
        if isinstance(key, int):
            return f"{self.path}[{key}]"
        shown = key if _BARE.match(key) else '"' + key.replace('"', '\\"') + '"'
        return self.path + shown if self.path[-1:] in {"", " "} else f"{self.path}.{shown}"

    def take(self, *keys: str) -> None:
        """Read elsewhere, or nothing to carry over."""
        self._left -= set(keys)

    def peek(self, key: str) -> Any:
        return self._data.get(key)

    def raw(self, key: str) -> Any:
        self.take(key)
        return self._data.get(key)

    def lose(self, key: str, why: str) -> None:
        if key in self._left:
            self.take(key)
            self._draft.lose(self.at(key), why)

    def text(self, key: str) -> str | None:
        value = self.raw(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)  # YAML reads a bare 4 as a number
        good = isinstance(value, str) and bool(value.strip())
        return str(value) if self._is(key, value, good, "a text") else None

    def number(self, key: str) -> float | None:
        """Above 0, or it is told. Numbers in quotes count."""
        value = self.raw(key)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                pass
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = good and math.isfinite(value) and value > 0
        return float(value) if self._is(key, value, good, "a number above 0") else None

    def whole(self, key: str, least: int = 1) -> int | None:
        value = self.raw(key)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return int(value) if self._is(key, value, good, f"a whole number from {least}") else None

    def flag(self, key: str) -> bool | None:
        value = self.raw(key)
        return value if self._is(key, value, isinstance(value, bool), "true or false") else None

    def table(self, key: str) -> "Table":
        """An empty one where there is none."""
        value = self.raw(key)
        good = self._is(key, value, isinstance(value, dict), "a table")
        return Table(value if good else {}, self.at(key), self._draft)

    def tables(self, key: str) -> Iterator[tuple[str, "Table"]]:
        """A table of tables."""
        above = self.table(key)
        for name in above:
            if not name.strip():
                self._draft.lose(above.at(name), "it has no name")
            elif name in above:
                yield name, above.table(name)

    def items(self, key: str) -> list[tuple[str, Any]]:
        """A list's items with their paths."""
        value = self.raw(key)
        good = self._is(key, value, isinstance(value, list), "a list")
        return [(f"{self.at(key)}[{at}]", one) for at, one in enumerate(value if good else [])]

    def rows(self, key: str) -> Iterator["Table"]:
        """A list of tables."""
        for path, one in self.items(key):
            if isinstance(one, dict):
                yield Table(one, path, self._draft)
            else:
                self._draft.lose(path, "it is no table")

    def names(self, key: str) -> list[tuple[str, str]]:
        """A list of texts, each with its path; one text alone is a list of one."""
        if isinstance(self._data.get(key), str):
            return [(self.at(key), str(self.raw(key)))]
        found = []
        for path, one in self.items(key):
            if isinstance(one, str) and one.strip():
                found.append((path, one))
            else:
                self._draft.lose(path, "it is no name")
        return found

    def rest(self, why: Mapping[str, str] | None = None, quiet: Iterable[str] = ()) -> None:
        """All that was not taken is lost, with its reason. `quiet`: words for people alone."""
        for key in self._data:
            if key in self._left and key not in quiet:
                self._draft.lose(self.at(key), (why or {}).get(key, NO_COUNTERPART))
        self._left.clear()

    def _is(self, key: str, value: Any, good: bool, wanted: str) -> bool:
        if not good and value is not None:
            self._draft.lose(self.at(key), f"{wanted} is wanted there")
        return good
