"""The names of what a shim keeps in its engine's folder, and how it is written there.

    state.json          what is known of this life (SCHEMA)
    engine.log, .1, …   what the engine printed
    lock                held while a shim keeps an engine
    socket              where to make the control socket anew

Light on purpose: the shim imports it under `python -I -S`.
"""

import os

SCHEMA = 1
STATE, LOCK, LOG, SOCKET = "state.json", "lock", "engine.log", "socket"


def write_atomically(path: str, text: bytes) -> None:
    """Replace `path` (mode 0600) in one step. Raises OSError."""
    new = f"{path}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, text)
    finally:
        os.close(fd)
    if written != len(text):
        raise OSError("the disk took only part of it")
    os.replace(new, path)
