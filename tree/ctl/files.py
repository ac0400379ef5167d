"""Configuration files on this machine: which one is meant, and how it is replaced.

A file is written whole (beside it, fsync, rename), keeps its mode and owner, and is left alone when
somebody else wrote it meanwhile. A link stays one: what it points to is replaced.
"""

import contextlib
import os
import socket
import stat
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from common.config import ConfigError, read_text
from ctl.errors import CtlError, Exit

ROUTER_FILE = Path("/etc/creche/router.toml")


def text_of(path: Path) -> str:
    """Its text. Raises CtlError with the reason that `check` would give."""
    try:
        return read_text(path)
    except ConfigError as why:
        first = why.problems[0]
        raise CtlError(f"{path}: {first.text}", first.fix) from why


def is_there(path: Path) -> bool:
    return path.is_file()


def is_here(url: str) -> bool:
    """Whether `url`'s host is this machine: only its own addresses can be bound."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(OSError):
        for family, kind, _, _, where in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.bind(where)
                return True
    return False


def replace(path: Path, before: str, after: str) -> None:
    """Put `after` in the place of `before`. Raises CtlError, the file as it was."""
    real = Path(os.path.realpath(path))
    try:
        if read_text(real) != before:
            raise CtlError(
                f"{path} was changed by somebody else meanwhile", "nothing was written", "Try again"
            )
        _write(real, after, os.stat(real))
    except ConfigError as why:
        raise CtlError(f"{path}: {why.problems[0].text}", "nothing was written") from why
    except OSError as why:
        raise _unwritable(path, why) from why


def create(path: Path, text: str, *, force: bool) -> None:
    """A new file; with `force` in the place of another. Raises CtlError."""
    try:
        if force and path.exists():
            real = Path(os.path.realpath(path))
            _write(real, text, os.stat(real))
            return
        with path.open("x", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        _sync_folder(path.parent)
    except FileExistsError as why:
        raise CtlError(
            f"{path} is there already", "", "Name another, or replace it with  --force", Exit.USAGE
        ) from why
    except OSError as why:
        raise _unwritable(path, why) from why


def _write(path: Path, text: str, like: os.stat_result) -> None:
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as opened:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(handle, like.st_uid, like.st_gid)
            os.fchmod(handle, stat.S_IMODE(like.st_mode))
            opened.write(text)
            opened.flush()
            os.fsync(handle)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, why: OSError) -> CtlError:
    fix = f"It is owned by another user: try  sudo creche …  (ls -l {path})"
    return CtlError(
        f"{path} cannot be written: {why.strerror}",
        "nothing was written",
        fix if isinstance(why, PermissionError) else "",
    )
