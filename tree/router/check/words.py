"""How a configuration's parts are called in messages: as they are written in the file. Pure."""

import re
from collections.abc import Iterable, Sequence

NAMES_SHOWN = 4
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def key(name: str) -> str:
    """As a key: quoted where TOML wants that."""
    return name if _BARE.match(name) else quoted(name)


def quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def table(*names: str) -> str:
    """`[models."gpt-4.1"]`."""
    return f"[{'.'.join(map(key, names))}]"


def array(names: Iterable[str]) -> str:
    """`["a", "b"]`."""
    return f"[{', '.join(map(quoted, names))}]"


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; of many the first few and how many more."""
    if len(words) > NAMES_SHOWN:
        words = [*words[: NAMES_SHOWN - 1], f"{len(words) - NAMES_SHOWN + 1} more"]
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def count(number: int, one: str, many: str) -> str:
    """`1 registry`, `2 registries`."""
    return f"{number} {one if number == 1 else many}"


def upper(text: str) -> str:
    """As the beginning of a sentence."""
    return text[:1].upper() + text[1:]
