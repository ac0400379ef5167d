"""Secrets written in the file, wherever: whoever may read the file, or a copy of it, has them.

Pure. What is found is never shown: messages go to terminals and logs.
"""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from common.config import Problem
from common.positions import Path
from common.redact import HIDDEN
from router.check import words
from router.check.file import File

#: Keys of open tables whose value is a secret, whatever it looks like.
_KEYS = re.compile(r"(?i)([\w-]*(api[_-]?key|password|passwd|secret|private_key)|authorization)\Z")
#: sk-…, gsk_…, hf_…, AKIA…: a prefix that only keys have, then a long run with a digit in it.
_KEY = re.compile(
    r"\b(?:sk|pk|rk)-(?=[\w-]*\d)[\w-]{16,}|\b(?:gsk|hf|ghp|xai|nvapi|AIza|AKIA)[-_]?[\w-]{16,}"
)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_IN_URL = re.compile(r"\w+://[^\s/:@]*:[^\s/@]+@")


def find(file: File) -> Iterator[Problem]:
    for path, value in _texts(file.document.data, ()):
        named = isinstance(path[-1], str) and _KEYS.match(path[-1]) is not None
        if value and (named or is_secret(value)):
            yield _fault(file, path, value)


def is_secret(text: str) -> bool:
    """Whether a text looks like a credential, or holds one."""
    return any(one.search(text) for one in (_KEY, _BEARER, _IN_URL))


def _texts(data: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for at, value in enumerate(data):
            yield from _texts(value, (*path, at))


def _fault(file: File, path: Path, value: str) -> Problem:
    effect = "Whoever may read the file, or a copy of it, has it."
    found = file.error(path, "a secret is written in the file", effect=effect, fix=_fix(path))
    # The line is shown without it; what stood under the secret no longer fits.
    shown = found.shown.replace(value, HIDDEN)
    return structs.replace(found, shown=shown, length=found.length if shown == found.shown else 0)


def _fix(path: Path) -> str:
    if path[0] == "providers" and len(path) > 1:
        name = str(path[1])
        line = f'api_key_file = "/etc/creche/{name}.key"'
        if path[-1] == "base_url":
            return f"take it out of the URL; {words.table('providers', name)} gets  {line}"
        return f"write it to a file of mode 600, here  {line}"
    if path[0] == "registries":
        return 'take it out of the URL:  token_file = "/etc/creche/cluster.token"'
    if path[0] == "redis":
        return 'take it out of the URL:  redis_password_file = "/etc/creche/redis.password"'
    if path[0] == "rules":
        return "tell clients apart by a header that is no secret, like x-team"
    if path[0] == "static_services":
        return "make it a provider: a table [providers.…] with  api_key_file"
    return "take it out of the file"
