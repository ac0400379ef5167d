"""The cluster token: who must have it, where it is read, how it is compared.

On loopback nothing is wanted. Off loopback a daemon wants `token_file`, or the explicit word
`auth = "none"`; else it refuses to start and says which line settles it.
"""

import hmac
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common.address import Address, is_loopback
from common.errors import RefusalError
from common.redact import SECRET_LENGTH_MIN, SECRETS

TOKEN_BYTES_MAX = 4096
OPEN_PATHS = frozenset({"/health", "/ready"})


def settle(
    listens: Iterable[Address],
    *,
    token_file: str | None,
    auth: str | None,
    config_file: str,
    others_may: str = "register services and stop engines",
) -> str | None:
    """The token to demand, or None for open paths. Raises RefusalError where nothing settles it.

    `auth` is the config's word ("none" or None), `config_file` the file to name in the message,
    `others_may` what anyone could do without a token.
    """
    if token_file:
        return read_token(token_file)
    if auth == "none":
        return None
    for listen in listens:
        if not is_loopback(listen.host):
            raise RefusalError(
                f"{listen} is reachable by others and neither token_file nor auth is set.\n"
                f"  Add one line to {config_file}:\n"
                f'    token_file = "/etc/creche/cluster.token"    one token for the whole cluster\n'
                f'    auth = "none"                               anyone who reaches the port may '
                f"{others_may}"
            )
    return None


def read_token(path: str, key: str = "token_file") -> str:
    """The one line of `path`, which only its owner (and group) may read. Raises RefusalError.

    From then on the token is hidden from the logs.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(TOKEN_BYTES_MAX + 1)
    except OSError as why:
        raise RefusalError(
            f"{key} {file} cannot be read: {why.strerror}.\n"
            f"  Make one:  (umask 077; openssl rand -hex 32 > {file})"
        ) from why
    if stat.S_ISREG(mode) and mode & 0o007:
        raise RefusalError(
            f"{key} {file} can be read by every user of this machine (mode {mode & 0o777:03o}).\n"
            f"  Close it:  chmod 600 {file}"
        )
    token = _token(raw, file, key)
    SECRETS.add(token)
    return token


def _token(raw: bytes, file: Path, key: str) -> str:
    text = raw.decode("ascii", errors="replace").strip()
    if len(raw) > TOKEN_BYTES_MAX:
        why = f"is longer than {TOKEN_BYTES_MAX} bytes"
    elif not text:
        why = "is empty"
    elif len(text) < SECRET_LENGTH_MIN:
        why = f"holds a token of {len(text)} characters, at least {SECRET_LENGTH_MIN} are wanted"
    elif not all("!" <= c <= "~" for c in text):
        why = "holds more than one line of printable ASCII"
    else:
        return text
    raise RefusalError(
        f"{key} {file} {why}.\n  Make one:  (umask 077; openssl rand -hex 32 > {file})"
    )


def bearer(token: str | None) -> dict[str, str]:
    """The header that carries `token`; empty without one."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def is_bearer(header: str | None, token: str) -> bool:
    """Whether an `Authorization` header carries `token`. Takes the same time whatever it holds."""
    scheme, _, given = (header or "").strip().partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() == "bearer" and same


def middleware(token: str | None, open_paths: Collection[str] = OPEN_PATHS) -> Middleware:
    """Answers 401 to requests without `token`, but on `open_paths`. None lets all in."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (
            token is None
            or request.path in open_paths
            or is_bearer(request.headers.get("Authorization"), token)
        ):
            return await handler(request)
        return unauthorized()

    return check


def unauthorized() -> web.Response:
    """The 401 of every control port."""
    return web.json_response(
        {"error": "a valid token is wanted: Authorization: Bearer <token>", "code": "unauthorized"},
        status=401,
        headers={"WWW-Authenticate": "Bearer"},
    )
