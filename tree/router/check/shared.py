"""Where what routers share is kept: its URL, and what is said of it to no avail. Pure.

Whether anybody answers there is for the start to find: a Redis that is away stops no router.
"""

from collections.abc import Iterator

from common import redis_url
from common.config import Problem
from router.check.file import File
from router.config import Config

#: They say how to reach it, or what to do without it.
_OF_REDIS = (
    "redis_password_file",
    "redis_sentinel_password_file",
    "redis_ca_file",
    "redis_prefix",
    "redis_timeout_ms",
    "limits_without_redis",
)

_DEFAULTS = Config()


def find(file: File) -> Iterator[Problem]:
    url = file.config.redis
    if url is None:
        yield from _alone(file)
        return
    try:
        where = redis_url.parse(url)
    except ValueError as why:
        if "password" not in str(why):  # that is a secret in the file
            yield file.error(
                ("redis",),
                f"the URL in redis can't be used: {why}",
                effect="With this file the router does not start.",
                fix='redis = "redis://HOST:6379/0"',
            )
        return
    if file.config.redis_ca_file is not None and not where.tls:
        yield file.warning(
            ("redis_ca_file",),
            "redis_ca_file counts for nothing where redis is no rediss:// URL",
            effect="What routers share, passwords too, goes over the network in clear.",
            fix='redis = "rediss://…"',
        )
    if file.config.redis_sentinel_password_file is not None and where.master is None:
        yield file.warning(
            ("redis_sentinel_password_file",),
            "redis_sentinel_password_file counts for nothing where redis names no sentinels",
            effect="It is sent to nobody.",
            fix="take the line out",
        )


def _alone(file: File) -> Iterator[Problem]:
    for key in _OF_REDIS:
        said = (key,) in file.document.positions
        if said and getattr(file.config, key) != getattr(_DEFAULTS, key):
            yield file.warning(
                (key,),
                f"{key} counts for nothing where redis is not set",
                effect="Each router keeps what it counts for itself.",
                fix='redis = "redis://HOST:6379/0", or take the line out',
            )
