"""No secret that a test gives its processes is written anywhere: logs, state, audit, snapshots.

Gathered without the test's doing: what stands alone in a file of its folder that only its owner
may read (token_file, api_key_file, …), and what variables with a secret's name hold.
`Processes.secrets` takes more, for instance a key that a router has made. Looked for when the
processes have ended.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from common.redact import SECRET_LENGTH_MIN, is_secret_name

#: What a test writes itself, and hands to a process.
_GIVEN = frozenset({".toml", ".conf", ".yaml", ".yml", ".env", ".pem", ".key", ".sh", ".py"})
_FILES_MAX = 5_000
_BYTES_MAX = 32 << 20


def of_files(folder: Path) -> set[str]:
    return {found for path in _files(folder) if (found := _alone(path)) is not None}


def of_environment(variables: Mapping[str, str]) -> set[str]:
    return {
        value
        for name, value in variables.items()
        if is_secret_name(name) and len(value) >= SECRET_LENGTH_MIN and " " not in value
    }


def leaks(folder: Path, secrets: Iterable[str]) -> list[str]:
    """Each place that holds one of `secrets`, as words without it."""
    wanted = {secret.encode(): secret[:4] for secret in secrets}
    found: list[str] = []
    if not wanted:
        return found
    for path in _files(folder):
        if path.suffix in _GIVEN or _alone(path) is not None:
            continue
        try:
            with path.open("rb") as file:
                data = file.read(_BYTES_MAX)
        except FileNotFoundError:  # another part of the test goes on in the folder
            continue
        for secret, begins in wanted.items():
            at = data.find(secret)
            if at >= 0:
                before = data[max(at - 80, 0) : at].decode(errors="replace")
                found.append(f"{path} holds a secret ({begins}…) after {before!r}")
    return found


def _files(folder: Path) -> Iterator[Path]:
    found = [Path(base, name) for base, _, names in os.walk(folder) for name in names]
    assert len(found) < _FILES_MAX, f"{folder} has too many files to look through"
    for path in sorted(found):
        if path.is_file() and not path.is_symlink():
            yield path


def _alone(path: Path) -> str | None:
    """The secret that this file is for."""
    try:
        found = path.stat()
        if stat.S_IMODE(found.st_mode) & 0o077 or not SECRET_LENGTH_MIN <= found.st_size <= 4_096:
            return None
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    text = data.decode(errors="replace").strip()
    plain = text.isascii() and text.isprintable() and not set(text) & set(" {}[]()\"'<>")
    return text if plain and len(text) >= SECRET_LENGTH_MIN else None
