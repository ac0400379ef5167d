"""Where daemons keep files: state that must last, and sockets that need short paths.

state    --state-dir / config > $STATE_DIRECTORY (systemd) > ~/.local/state/creche/<daemon>
runtime  $RUNTIME_DIRECTORY (systemd) > $XDG_RUNTIME_DIR/creche > /tmp/creche-<uid>
"""

import os
import stat
from pathlib import Path

from common.errors import RefusalError

#: `sun_path` holds 108 bytes with its closing NUL.
SOCKET_PATH_BYTES_MAX = 107


def state_dir(daemon: str, configured: str | None = None) -> Path:
    """The folder for `daemon`'s lasting files, made with mode 0700. Raises RefusalError."""
    path = Path(configured).expanduser() if configured else _default_state_dir(daemon)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as why:
        raise RefusalError(
            f"the state folder {path} cannot be made: {why.strerror}.\n"
            f'  Set  state_dir = "…"  to a folder that this user may write.'
        ) from why
    if not os.access(path, os.W_OK | os.X_OK):
        raise RefusalError(
            f"the state folder {path} cannot be written by this user.\n"
            f'  Set  state_dir = "…"  to a folder that this user may write.'
        )
    return path.resolve()


def _default_state_dir(daemon: str) -> Path:
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "creche" / daemon


def runtime_dir(*parts: str) -> Path:
    """A short private folder (mode 0700, ours) for unix sockets. Raises RefusalError."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if given:
        base = Path(given)
    elif session and Path(session).is_dir():
        base = Path(session) / "creche"
    else:
        base = Path(f"/tmp/creche-{os.getuid()}")
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_foreign(base)
    path = base.joinpath(*parts)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _refuse_foreign(path: Path) -> None:
    """In a folder that others may write, a name can be taken by someone else first."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RefusalError(
            f"{path} belongs to someone else (uid {found.st_uid}); sockets there could be theirs.\n"
            f"  Set  RUNTIME_DIRECTORY=…  to a folder of this user."
        )
    if found.st_mode & 0o022:
        path.chmod(0o700)


def socket_path(folder: Path, name: str) -> Path:
    """`folder/name`, refused where the kernel would: a unix socket's path has 107 bytes at most."""
    path = folder / name
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise RefusalError(
            f"the socket path {path} has {length} bytes, above the kernel's limit of "
            f"{SOCKET_PATH_BYTES_MAX}.\n"
            f"  Set  RUNTIME_DIRECTORY=…  to a shorter folder."
        )
    return path
