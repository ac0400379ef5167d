"""Where one engine's things are, and what it is given besides its command line."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from babysitter import environment
from babysitter.environment import EnvFileError
from babysitter.kinds import KINDS
from babysitter.settings import Settings
from common import paths
from common.errors import RefusalError
from common.redact import SECRETS

ENV_FILE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """`env` is its whole environment; `digest` tells whether what it is given besides its command
    line changed."""

    folder: Path
    runtime: Path
    env: dict[str, str]
    digest: str


def place_of(one: Settings, state: Path) -> Place:
    from_file = _env_file(one)
    run = KINDS[one.kind].plan(one.given)
    kind_env = run.env
    env = environment.build(os.environ, kind_env, one.gpus, from_file, one.env)
    for secret in environment.secrets(from_file, env, run.argv):
        SECRETS.add(secret)
    given = (one.given.work_dir, one.gpus, sorted(kind_env.items()), sorted(from_file.items()))
    digest = hashlib.sha256(repr((given, sorted(one.env.items()))).encode()).hexdigest()[:32]
    return Place(
        folder=state / "engines" / one.name,
        runtime=runtime_of(state),
        env=env,
        digest=digest,
    )


def runtime_of(state: Path) -> Path:
    """Short, and this state folder's alone: unix sockets have 107 bytes."""
    mark = hashlib.sha256(os.fsencode(state)).hexdigest()[:8]
    return paths.runtime_dir(f"babysitter-{mark}")


def _env_file(one: Settings) -> dict[str, str]:
    if one.env_file is None:
        return {}
    file = Path(one.env_file).expanduser()
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(ENV_FILE_BYTES_MAX + 1)
    except OSError as why:
        raise RefusalError(f"{one.name}: env_file {file} cannot be read: {why.strerror}.") from why
    if stat.S_ISREG(mode) and mode & 0o007:
        raise RefusalError(
            f"{one.name}: env_file {file} can be read by every user of this machine "
            f"(mode {mode & 0o777:03o}).\n  Close it:  chmod 600 {file}"
        )
    try:
        return environment.parse(raw.decode())
    except (EnvFileError, UnicodeDecodeError) as why:
        text = str(why) if isinstance(why, EnvFileError) else "it is not UTF-8"
        raise RefusalError(f"{one.name}: env_file {file}: {text}.") from None
