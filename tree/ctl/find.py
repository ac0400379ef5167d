"""Where the fleet is, and with which token to ask it.

    --url          > CRECHE_URL        > url        in creche.toml > http://127.0.0.1:8000
    --token-file   > CRECHE_TOKEN_FILE > token_file in creche.toml > no token
    CRECHE_KEY     > CRECHE_KEY_FILE   > key_file   in creche.toml > no client's key

creche.toml is `$XDG_CONFIG_HOME/creche/creche.toml`, else `~/.config/creche/creche.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ctl.errors import CtlError, Exit

LOOPBACK = "http://127.0.0.1:8000"
_KEYS = ("url", "token_file", "key_file")


@dataclass(frozen=True)
class Place:
    """A router's base URL without a trailing slash, the cluster token, and who named the URL."""

    url: str
    token: str | None
    named_by: str
    #: A client's key, for what is relayed.
    key: str | None = None


def config_path(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME")
    home = Path(environ.get("HOME", "~")).expanduser()
    return (Path(base) if base else home / ".config") / "creche" / "creche.toml"


def find(url: str | None, token_file: str | None, environ: Mapping[str, str]) -> Place:
    """The fleet to talk to. Raises CtlError (usage) on a URL, config or token that cannot be."""
    path = config_path(environ)
    config = _read_config(path)
    named = (
        (url, "--url"),
        (environ.get("CRECHE_URL"), "CRECHE_URL"),
        (config.get("url"), str(path)),
        (LOOPBACK, "the default"),
    )
    address, named_by = next((value, by) for value, by in named if value)
    token_path = token_file or environ.get("CRECHE_TOKEN_FILE") or config.get("token_file")
    key_path = environ.get("CRECHE_KEY_FILE") or config.get("key_file")
    key = environ.get("CRECHE_KEY") or _secret(key_path, "key")
    return Place(_base(address, named_by), _secret(token_path, "token"), named_by, key)


def _base(text: str, named_by: str) -> str:
    candidate = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(candidate)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good:
        raise CtlError(
            f"{named_by} names no URL: {text!r}",
            "a router's address is wanted, like http://10.0.0.10:8000",
            code=Exit.USAGE,
        )
    base = candidate.rstrip("/")
    # OpenAI clients are given …/v1; the same address should work here.
    return base.removesuffix("/v1")


def _read_config(path: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CtlError(f"cannot read {path}", str(error), code=Exit.USAGE) from error
    for key, value in table.items():
        if key not in _KEYS:
            raise CtlError(
                f"{path}: unknown key {key!r}", f"known: {', '.join(_KEYS)}", code=Exit.USAGE
            )
        if not isinstance(value, str):
            raise CtlError(f"{path}: {key} must be a text in quotes", code=Exit.USAGE)
    return table


def _secret(path: str | None, what: str) -> str | None:
    """`what` the file holds: "token" or "key"."""
    if not path:
        return None
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CtlError(
            f"cannot read the {what} file {path}",
            getattr(error, "strerror", None) or str(error),
            "Name one that you may read:  creche --token-file FILE …"
            if what == "token"
            else "Name one that you may read:  CRECHE_KEY_FILE=FILE creche chat …",
            Exit.USAGE,
        ) from error
    if not secret:
        raise CtlError(f"the {what} file {path} is empty", code=Exit.USAGE)
    return secret
