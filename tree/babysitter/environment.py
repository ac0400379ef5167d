"""What an engine finds in its environment. Pure.

The babysitter's own, less what is meant for the babysitter alone; then what its kind needs, its
GPUs, `env_file`, `env`: the later wins.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from common.redact import is_secret_name

#: Ours alone: systemd's sockets and credentials, and tokens that are for daemons.
_OURS = frozenset(
    {
        "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
        "LISTEN_FDNAMES", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY",
        "LOGS_DIRECTORY", "CACHE_DIRECTORY", "CONFIGURATION_DIRECTORY", "INVOCATION_ID",
        "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MAINPID", "CRECHE_TOKEN", "CRECHE_ENGINE_ID",
    }
)  # fmt: skip
_SECRET_ENDINGS = ("_KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIALS")


class EnvFileError(ValueError):
    """A line that is no NAME=value. Says which, never what it holds."""


def build(
    inherited: Mapping[str, str],
    kind: Mapping[str, str],
    gpus: tuple[int, ...] | None,
    env_file: Mapping[str, str],
    env: Mapping[str, str],
) -> dict[str, str]:
    """The engine's whole environment."""
    base = {name: value for name, value in inherited.items() if name not in _OURS}
    base.setdefault("PYTHONUNBUFFERED", "1")  # else the last words of a crash stay in a buffer
    if gpus is not None:
        base["CUDA_VISIBLE_DEVICES"] = ",".join(str(one) for one in gpus)
    return {**base, **kind, **env_file, **env}


def secrets(
    env_file: Mapping[str, str], env: Mapping[str, str], argv: Sequence[str] = ()
) -> list[str]:
    """Values that no log may show: all of `env_file`, and what in `env` (the engine's whole
    environment) or `argv` (`--api-key x`, `--api-key=x`) is called a secret."""
    named = [value for name, value in env.items() if name.upper().endswith(_SECRET_ENDINGS)]
    return list(dict.fromkeys([*env_file.values(), *named, *_in_argv(argv)]))


def _in_argv(argv: Sequence[str]) -> Iterator[str]:
    for word, after in pairwise((*argv, "")):
        flag, equals, value = word.partition("=")
        if flag.startswith("-") and is_secret_name(flag.lstrip("-")):
            yield value if equals else after


def parse(text: str) -> dict[str, str]:
    """NAME=value lines, `#` comments, optional quotes and `export`. Raises EnvFileError."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name = name.strip()
        if not equals or not name.isidentifier() or "\0" in value:
            raise EnvFileError(f"line {number} is no NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name] = value
    return found
