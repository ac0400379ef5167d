"""A client of a shared store: Redis or Valkey, alone or behind sentinels, over TLS or not.

One try for each command, bounded in time: who asks decides what an absence means.
"""

import ssl
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as AwayFromRedis
from redis.exceptions import TimeoutError as SlowRedis

from common.redis_url import Access, Where

#: What a client raises when its server can't be reached, or not in time. RuntimeError is uvloop's
#: word for writing to a connection that was closed a moment ago, which the client lets through.
AWAY = (OSError, TimeoutError, AwayFromRedis, SlowRedis, RuntimeError)


def client(where: Where, access: Access, *, connections_max: int) -> tuple[Redis, Sentinel | None]:
    """The client, and who tells it where its server is. Close both."""
    options: dict[str, Any] = {
        "socket_timeout": access.timeout_s,
        "socket_connect_timeout": access.timeout_s,
        "socket_keepalive": True,
        # what is sent twice may have been done twice
        "retry": Retry(NoBackoff(), 0),
        "max_connections": connections_max,
        "protocol": 2,
    }
    if where.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": access.ca_file,
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        }
    mine = {**options, "db": where.db, "username": where.user, "password": access.password}
    if where.master is None:
        ((host, port),) = where.hosts
        return Redis(host=host, port=port, **mine), None
    theirs = {**options, "password": access.sentinel_password}
    sentinel = Sentinel(where.hosts, sentinel_kwargs=theirs, **mine)  # type: ignore[no-untyped-call]
    return sentinel.master_for(where.master), sentinel
