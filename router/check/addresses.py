"""Where the router listens: addresses, ports, clashes, and the words that are wanted off loopback.

Pure: whether a port is free, and whether a token can be read, is for the start to find.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from common import address
from common.address import Address
from common.config import Problem
from router.check.file import File

#: Below it a process wants a privilege to listen.
PORT_FREE = 1024
LISTENS = (("listen", 8000), ("control_listen", 8001))


def find(file: File) -> Iterator[Problem]:
    for key, port in LISTENS:
        text = getattr(file.config, key)
        if text is not None:
            yield from _listen(file, key, text, port)
    yield from _clash(file)
    yield from _reach(file)
    yield from _proxies(file)


def parsed(text: str | None) -> Address | None:
    try:
        return None if text is None else address.parse(text)
    except ValueError:
        return None


def overlap(one: Address, other: Address) -> bool:
    """Whether two listening addresses want the same socket."""
    return one.port == other.port != 0 and _same_host(one.host, other.host)


def _same_host(one: str, other: str) -> bool:
    if address.is_any(one) or address.is_any(other):
        return True
    return _plain(one) == _plain(other)


def _plain(host: str) -> str:
    host = host.lower().rstrip(".")
    return "127.0.0.1" if host in {"localhost", "::1"} else host


def _listen(file: File, key: str, text: str, port: int) -> Iterator[Problem]:
    example = f'write  {key} = "127.0.0.1:{port}"'
    where = parsed(text)
    if where is None:
        try:
            address.parse(text)
        except ValueError as why:
            yield file.error((key,), str(why), effect="The router could not listen.", fix=example)
        return
    if where.port == 0:
        yield file.warning(
            (key,),
            f"{key} takes any free port",
            effect="It is another one after each start, so no client can be told of it.",
            fix=example,
        )
    elif where.port < PORT_FREE:
        yield file.warning(
            (key,),
            f"port {where.port} is a reserved one",
            effect=f"Below {PORT_FREE} a process wants a privilege to listen.",
            fix=f"take a port from {PORT_FREE} on, or grant CAP_NET_BIND_SERVICE",
        )


def _clash(file: File) -> Iterator[Problem]:
    public, control = parsed(file.config.listen), parsed(file.config.control_listen)
    if public is None or control is None or not overlap(public, control):
        return
    same = "is the same address as listen"
    both = f"and listen ({public}) want port {control.port} of the same address"
    yield file.error(
        ("control_listen",),
        f"control_listen {same if public == control else both}",
        effect="One of the two could not be opened.",
        fix="take another port, or leave control_listen out: its paths are then on listen",
    )


def _reach(file: File) -> Iterator[Problem]:
    """What the start refuses off loopback (router.access), said before it."""
    config = file.config
    public = parsed(config.listen)
    if public is not None and config.client_keys is None and not address.is_loopback(public.host):
        yield file.error(
            ("listen",),
            f"{public} is reachable by others and client_keys is not set",
            effect="The router refuses to guess who may use the models.",
            fix='add  client_keys = "required"   then: creche key create ana',
        )
    yield from _makers(file)
    if config.token_file is not None and config.auth is not None:
        yield file.warning(
            ("auth",),
            'auth = "none" counts for nothing where token_file is set',
            effect="The token is wanted all the same.",
            fix="take one of the two out",
        )
    if config.token_file is not None or config.auth is not None:
        return
    for key, _ in LISTENS:
        where = parsed(getattr(config, key))
        if where is not None and not address.is_loopback(where.host):
            yield file.error(
                (key,),
                f"{where} is reachable by others and neither token_file nor auth is set",
                effect="The router refuses to guess who may read services, stats and metrics.",
                fix='add  token_file = "/etc/creche/cluster.token"',
            )
            return


def _makers(file: File) -> Iterator[Problem]:
    """Whoever reaches the operator's paths makes keys, where no token is wanted there."""
    config = file.config
    if config.client_keys != "required" or config.token_file is not None:
        return
    where = parsed(config.control_listen or config.listen)
    if where is None:
        return
    if not address.is_loopback(where.host):
        yield file.error(
            ("client_keys",),
            f"keys are wanted, and whoever reaches {where} could make one",
            effect="The router refuses to start: a key that anyone makes keeps nobody out.",
            fix='add  token_file = "/etc/creche/cluster.token"',
        )
    elif config.control_listen is None:
        yield file.warning(
            ("client_keys",),
            f"keys are wanted, and whoever reaches {where} can make one",
            effect="A proxy on this machine would let everybody make keys.",
            fix='add  token_file = "/etc/creche/cluster.token"',
        )


def _proxies(file: File) -> Iterator[Problem]:
    for at, text in enumerate(file.config.trusted_proxies):
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            yield file.error(
                ("trusted_proxies", at),
                f'"{text}" is neither an IP address nor a network',
                effect="Nothing such a proxy says of its clients would be believed.",
                fix='write addresses or networks, like  ["10.0.0.5", "10.1.0.0/16"]',
            )
            continue
        if network.prefixlen == 0:
            yield file.warning(
                ("trusted_proxies", at),
                f'"{text}" trusts every client as a proxy',
                effect="Each could say that it is any other, in X-Forwarded-For.",
                fix="name the addresses of your proxies",
            )
