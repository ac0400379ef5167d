"""Certificates in force: contexts for a daemon's port and for what it connects to.

Files are looked at every few seconds; what changed is tried in a context of its own first, so that
half a renewal harms nothing, and new connections get the new certificate. An authority that was
taken out of a file is believed until a restart.
"""

import asyncio
import os
import ssl
import stat
from pathlib import Path

from common import logs
from common.certificates import Tls
from common.errors import RefusalError

EVERY_S = 5.0

_log = logs.get("tls")
#: Of a file: another one has another. The mode counts, since a key that all can read is refused:
#: one that is closed after it was written is then taken.
Mark = tuple[int, int, int, int]


class Certificates:
    """`server` is None where the port speaks plain HTTP, `client` where the system's authorities
    are all that is believed (who needs those reads them: it takes time). Raises RefusalError."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._marks = self._look()
        self.server: ssl.SSLContext | None = None
        if tls.serves:
            self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server.minimum_version = ssl.TLSVersion.TLSv1_2
            # HTTP/1.1 is all that is spoken here: who offers something else is told so at once.
            self.server.set_alpn_protocols(["http/1.1"])
            self._fill_server(self.server)
        self.client: ssl.SSLContext | None = None
        if tls.ca_file is not None or tls.serves:
            self.client = system_context()
            self._fill_client(self.client)

    async def run(self) -> None:
        """Until cancelled: follow the files."""
        while True:
            await asyncio.sleep(EVERY_S)
            await asyncio.to_thread(self.follow)

    def follow(self) -> bool:
        """Whether a changed file was taken. One that cannot be is told once, and left alone."""
        marks = self._look()
        if marks == self._marks:
            return False
        self._marks = marks
        try:
            self._fill_server(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._fill_client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            if self.server is not None:
                self._fill_server(self.server)
            if self.client is not None:
                self._fill_client(self.client)
        except RefusalError as why:
            _log.error("changed certificates cannot be used; the old ones stay", why=str(why))
            return False
        _log.info("certificates read again", files=[str(file) for file in marks])
        return True

    # --- files ------------------------------------------------------------------------------------

    def _fill_server(self, context: ssl.SSLContext) -> None:
        tls = self._tls
        self._show(context)
        if tls.client_ca_file is not None and tls.serves:
            context.verify_mode = ssl.CERT_REQUIRED
            _believe(context, tls.client_ca_file, "client_ca_file")

    def _fill_client(self, context: ssl.SSLContext) -> None:
        if self._tls.ca_file is not None:
            _believe(context, self._tls.ca_file, "ca_file")
        self._show(context)

    def _show(self, context: ssl.SSLContext) -> None:
        cert, key = self._tls.cert_file, self._tls.key_file
        if cert is None or key is None:
            return
        _refuse_open(Path(key))
        try:
            context.load_cert_chain(cert, key)
        except FileNotFoundError as why:
            missing = cert if not Path(cert).exists() else key
            raise RefusalError(f"{missing} of [tls] is not there.\n  Name a PEM file.") from why
        except (OSError, ssl.SSLError) as why:
            raise RefusalError(
                f"cert_file {cert} and key_file {key} cannot be used together: {_words(why)}.\n"
                "  Name a certificate (with its chain) and its own key, both PEM."
            ) from why

    def _look(self) -> dict[Path, Mark | None]:
        tls = self._tls
        named = (tls.cert_file, tls.key_file, tls.ca_file, tls.client_ca_file)
        return {Path(one): _mark(Path(one)) for one in named if one is not None}


def system_context() -> ssl.SSLContext:
    """For a client that believes the system's authorities."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _believe(context: ssl.SSLContext, path: str, key: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as why:
        raise RefusalError(
            f"{key} {path} cannot be used: {_words(why)}.\n"
            "  Name a file with certificates alone (PEM)."
        ) from why


def _refuse_open(key: Path) -> None:
    try:
        mode = os.stat(key).st_mode
    except OSError:
        return  # told by who reads it
    if stat.S_ISREG(mode) and mode & 0o007:
        raise RefusalError(
            f"key_file {key} can be read by every user of this machine (mode {mode & 0o777:03o}).\n"
            f"  Close it:  chmod 600 {key}"
        )


def _mark(file: Path) -> Mark | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _words(why: Exception) -> str:
    if isinstance(why, ssl.SSLError):
        return (why.reason or "no certificate in it").replace("_", " ").lower()
    return getattr(why, "strerror", None) or str(why)
