"""Where a shared store is, as `state` names it, and how to come in. Pure: without the client, which
is imported where one is named.

redis://[user@]host[:port][/db]            rediss:// the same over TLS
redis+sentinel://h1[:port],h2[:port]/master[/db]    rediss+sentinel:// over TLS
"""

from urllib.parse import urlsplit

from msgspec import Struct

from common import address

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
PORT = 6379
SENTINEL_PORT = 26379
SENTINELS_MAX = 32


class Where(Struct, frozen=True, kw_only=True):
    """`master` is the name that the sentinels at `hosts` know; None: `hosts` has the one server."""

    hosts: tuple[tuple[str, int], ...]
    master: str | None = None
    db: int = 0
    user: str | None = None
    tls: bool = False

    def __str__(self) -> str:
        """For logs and people: it holds no secret."""
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.master else "")
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        return f"{scheme}://{hosts}{f'/{self.master}' if self.master else ''}/{self.db}"


class Access(Struct, frozen=True, kw_only=True):
    """How to come in. `timeout_s` bounds every command: a stopped Redis must hold up nobody."""

    password: str | None = None
    sentinel_password: str | None = None
    ca_file: str | None = None
    timeout_s: float = 2.0


def is_redis(state: str) -> bool:
    return state.partition("://")[0] in SCHEMES and "://" in state


def parse(state: str) -> Where:
    """Raises ValueError, one sentence, without the text itself: it may hold a password."""
    parts = urlsplit(state)
    if parts.scheme not in SCHEMES:
        raise ValueError("it is no redis:// URL")
    if parts.query or parts.fragment:
        raise ValueError("it has a query or a fragment, which mean nothing here")
    user, at, hosts = parts.netloc.rpartition("@")
    if ":" in user:
        raise ValueError("it has a password in it, which configuration files spread")
    sentinel = parts.scheme.endswith("+sentinel")
    path = [one for one in parts.path.split("/") if one]
    master = None
    if sentinel:
        if not path:
            raise ValueError("a sentinel's URL ends in the name of the master: …:26379/mymaster/0")
        master = path.pop(0)
    if len(path) > 1 or any(not one.isascii() or not one.isdigit() for one in path):
        raise ValueError("its path is no number of a database")
    found = tuple(_host(one, SENTINEL_PORT if sentinel else PORT) for one in hosts.split(","))
    if len(found) > (SENTINELS_MAX if sentinel else 1):
        raise ValueError("it names too many hosts; several are for redis+sentinel:// alone")
    return Where(
        hosts=found,
        master=master,
        db=int(path[0]) if path else 0,
        user=user if at else None,
        tls=parts.scheme.startswith("rediss"),
    )


def _host(text: str, port: int) -> tuple[str, int]:
    if not text:
        raise ValueError("it names no host")
    where = address.parse(text, port)
    return where.host, where.port
