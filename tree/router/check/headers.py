"""Header names that the file speaks of, and services that have a breaker of their own. Pure."""

import re
from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check.file import File

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, 5.6.2


def find(file: File) -> Iterator[Problem]:
    header = file.config.affinity.header
    if header:
        yield from _name(file, ("affinity", "header"), header, "No session would be known by it.")
    for at, rule in enumerate(file.config.rules):
        for name in rule.when.header:
            path = ("rules", at, "when", "header", name)
            yield from _name(file, path, name, "The rule would never hold.", on_key=True)


def _name(
    file: File, path: Path, name: str, effect: str, *, on_key: bool = False
) -> Iterator[Problem]:
    if _TOKEN.match(name):
        return
    plain = re.sub(r"[^0-9a-z]+", "-", name.lower()).strip("-") or "x-session-id"
    yield file.error(
        path,
        f'"{name}" cannot be the name of a header',
        effect=effect,
        fix=f'write it like  "{plain}"',
        on_key=on_key,
    )
