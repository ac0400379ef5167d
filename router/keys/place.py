"""Which store a configuration means: Redis where routers share one, else a file of its own."""

from pathlib import Path

from router import shared_store
from router.config import Config
from router.keys.sqlite_file import SqliteKeys
from router.keys.store import Store

FILE = "keys.db"
#: What was last read of Redis, for a start without it.
KNOWN_FILE = "known-keys.json"
#: One follows, orders come seldom.
CONNECTIONS_MAX = 4


def store(config: Config, folder: Path) -> Store:
    """Raises RefusalError."""
    where = shared_store.where(config)
    if where is None:
        return SqliteKeys(folder / FILE)
    # here: the client takes 20 MB and a tenth of a second, which a router alone can spare
    from common import redis_link
    from router.keys.redis_hash import RedisKeys

    access = shared_store.access(config)
    redis, sentinel = redis_link.client(where, access, connections_max=CONNECTIONS_MAX)
    return RedisKeys(redis, sentinel, config.redis_prefix, folder / KNOWN_FILE)
