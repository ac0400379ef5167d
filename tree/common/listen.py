"""Listening sockets: exclusive, and fatal when taken, with the owner's name; or given to us.

SO_REUSEADDR is set (a restart need not wait for TIME_WAIT), SO_REUSEPORT never: two daemons must
not share a port by accident. bind and listen happen together, since Linux lets two sockets with
SO_REUSEADDR bind the same port as long as neither listens.

What systemd or a holder opened for us (`common.inherit`) is used in the place of binding.
"""

import errno
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from common import inherit, procnet
from common.address import Address, is_any
from common.errors import RefusalError

BACKLOG = 1024  # the kernel lowers it to net.core.somaxconn


class Opened(NamedTuple):
    """Listening sockets by config key. Those of `given` are held by who gave them, too."""

    sockets: dict[str, list[socket.socket]]
    given: frozenset[str]

    def close(self) -> None:
        for found in self.sockets.values():
            for one in found:
                one.close()


def open_all(wanted: Mapping[str, Address], *, must_match: bool = True) -> Opened:
    """What listens for each config key: the sockets that were given for it, else bound here.

    A given one that no key wants is refused where `must_match`, else closed. Raises RefusalError;
    then nothing stays open.
    """
    opened = Opened({}, frozenset())
    left = inherit.take()
    try:
        for key, address in wanted.items():
            where = _resolve(address, key) if left else []
            opened.sockets[key] = [one.socket for one in left if one.is_for(where)]
            left = [one for one in left if one.socket not in opened.sockets[key]]
        if left and must_match:
            raise _unwanted(left[0], wanted)
        given = frozenset(key for key, found in opened.sockets.items() if found)
        for key, address in wanted.items():
            if key not in given:
                opened.sockets[key] = bind(address, key=key)
    except BaseException:
        opened.close()
        raise
    finally:
        for one in left:
            one.socket.close()
    return opened._replace(given=given)


def _unwanted(one: inherit.Given, wanted: Mapping[str, Address]) -> RefusalError:
    says = ", ".join(f'{key} = "{address}"' for key, address in wanted.items())
    first, address = next(iter(wanted.items()))
    return RefusalError(
        f'the service manager holds {one} ("{one.name}"), and the configuration says {says}.\n'
        f'  Make them agree: ListenStream={address} in the .socket unit, or  {first} = "{one}"'
    )


def bind(address: Address, *, key: str = "listen", backlog: int = BACKLOG) -> list[socket.socket]:
    """Listening, non-blocking sockets for every address that `address.host` means.

    Port 0 takes any free port (read it from `getsockname`). Raises RefusalError, naming config key
    `key` as what to change.
    """
    bound: list[socket.socket] = []
    try:
        for family, where in _resolve(address, key):
            # localhost on port 0: the same port on v4 and v6
            port = bound[0].getsockname()[1] if bound else address.port
            try:
                bound.append(_bind_one(family, (where[0], port, *where[2:]), backlog))
            except OSError as why:
                if bound and why.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    continue  # localhost where IPv6 is off
                raise _refusal(address, why, key) from why
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def port_of(sockets: list[socket.socket]) -> int:
    """The port they listen on."""
    return int(sockets[0].getsockname()[1])


_Where = tuple[Any, ...]  # (host, port) or (host, port, flow, scope)


def _resolve(address: Address, key: str) -> list[tuple[int, _Where]]:
    host = "0.0.0.0" if address.host in {"", "*"} else address.host  # noqa: S104
    try:
        found = socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as why:
        raise RefusalError(
            f'the host of {key} = "{address}" cannot be resolved: {why.strerror}.\n'
            f'  Set  {key} = "127.0.0.1:{address.port}"  or an address of this machine.'
        ) from why
    return list(dict.fromkeys((int(family), where) for family, _, _, _, where in found))


def _bind_one(family: int, where: _Where, backlog: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and where[0] != "::":
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
        one.listen(backlog)
        one.setblocking(False)
    except BaseException:
        one.close()
        raise
    return one


def _refusal(address: Address, why: OSError, key: str) -> RefusalError:
    host, port = address.host, address.port
    if why.errno == errno.EADDRINUSE:
        owner = procnet.owner_of(port)
        taken = f"port {port} is taken by {owner or 'a process that cannot be seen from here'}."
        return RefusalError(f'{taken}\n  Stop it, or set  {key} = "…"  to another port.')
    if why.errno == errno.EADDRNOTAVAIL:
        return RefusalError(
            f"{address} cannot be listened on: {host} is not an address of this machine.\n"
            f'  Set  {key} = "0.0.0.0:{port}"  for every interface, or one of its own addresses.'
        )
    if why.errno == errno.EACCES:
        return RefusalError(
            f"{address} cannot be listened on: ports below 1024 need a privilege.\n"
            f'  Set  {key} = "…"  to a port from 1024 on, or grant CAP_NET_BIND_SERVICE.'
        )
    return RefusalError(
        f"{address} cannot be listened on: {os.strerror(why.errno or 0)}.\n"
        f'  Set  {key} = "…"  to another address.'
    )


def address_towards(host: str, port: int) -> str | None:
    """The address of this machine that packets to `host` leave from; None where no route is known.

    Connecting a datagram socket sends nothing; it only asks the kernel for the route. `host` is
    resolved, so a name may take a while: call it off the loop, or with an address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError):
        return None
    for family, kind, proto, _, where in found:
        with socket.socket(family, kind, proto) as probe:
            try:
                probe.connect(where)
            except OSError:
                continue
            name = str(probe.getsockname()[0])
            if not is_any(name):
                return name
    return None
