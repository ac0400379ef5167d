"""The Redis that routers share, as `redis` in the configuration names it: how to come in there."""

import os

from common import auth, redis_url
from common.redact import SECRETS
from common.redis_url import Access, Where
from router.config import Config

PASSWORD_VARIABLE = "CRECHE_REDIS_PASSWORD"  # noqa: S105  (its name)


def where(config: Config) -> Where | None:
    """None: routers share nothing."""
    return None if config.redis is None else redis_url.parse(config.redis)


def access(config: Config) -> Access:
    """Reads the files that it names. Raises RefusalError where they can't be read."""
    sentinel_file = config.redis_sentinel_password_file
    return Access(
        password=_password(config),
        sentinel_password=(
            auth.read_token(sentinel_file, "redis_sentinel_password_file")
            if sentinel_file
            else None
        ),
        ca_file=config.redis_ca_file,
        timeout_s=config.redis_timeout_ms / 1000,
    )


def _password(config: Config) -> str | None:
    if config.redis_password_file:
        return auth.read_token(config.redis_password_file, "redis_password_file")
    password = os.environ.get(PASSWORD_VARIABLE) or None
    SECRETS.add(password)
    return password
