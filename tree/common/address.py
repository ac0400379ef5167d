"""Addresses, URLs and networks as texts, and what may be said of them. Pure: nothing is resolved.

10.0.0.10:18000    [::1]:8000    gpu-03:8100    :8000 (every interface)
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

PORT_MAX = 65535
HOST_LENGTH_MAX = 253
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Address(Struct, frozen=True, order=True):
    """A host (without brackets) and a port from 0 to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, default_port: int | None = None) -> Address:
    """`host:port`, `[v6]:port`, `:port`, or with `default_port` a bare host. Raises ValueError."""
    host, port_text = _split(text.strip())
    if port_text is None:
        if default_port is None:
            raise ValueError(f'"{text}" names no port: write HOST:PORT')
        return Address(host, default_port)
    return Address(host, parse_port(port_text))


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ip(host) or (rest and not rest.startswith(":")):
            raise ValueError(f'"{text}" is no address: write [IPV6]:PORT')
        return host, rest[1:] if rest else None
    if _is_ip(text) and ":" in text:
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, ""
    if ":" in host:
        raise ValueError(f'"{text}" is no address: an IPv6 address goes in brackets, [{host}]:PORT')
    if colon and not host:
        return "0.0.0.0", port  # noqa: S104  (":8000" says every interface)
    if not is_host(host):
        raise ValueError(f'"{text}" is no address: write HOST:PORT')
    return host, port if colon else None


def parse_port(text: str) -> int:
    """1 to 65535, or 0 for "any free port". Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX):
        raise ValueError(f'"{text}" is no port: ports are 1 to 65535')
    return int(text)


def is_host(text: str) -> bool:
    """Whether `text` could be a host name or an IP address (without brackets)."""
    if _is_ip(text):
        return True
    return 0 < len(text) <= HOST_LENGTH_MAX and all(c in _HOST_CHARACTERS for c in text)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`. Names but localhost: no."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = ip(host)
    return address is not None and address.is_loopback


def is_any(host: str) -> bool:
    """Whether `host` means every interface: empty, `*`, 0.0.0.0 or ::."""
    address = ip(host)
    return host in {"", "*"} or (address is not None and address.is_unspecified)


def ip(host: str) -> IPAddress | None:
    """The IP address that `host` spells (brackets allowed; v4-mapped v6 as v4), None for names."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def http_url(host: str, port: int, scheme: str = "http") -> str:
    """`http://host:port`, IPv6 in brackets."""
    return f"{scheme}://{Address(host.strip('[]'), port)}"


def parse_http_url(text: str) -> Address:
    """Where `http://host[:port][/…]` leads; the port defaults to 80 or 443. Raises ValueError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as why:
        raise ValueError(f'"{text}" is no URL: {why}') from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f'"{text}" is no URL: it begins with neither http:// nor https://')
    host = parts.hostname or ""
    if not is_host(host):
        raise ValueError(f'"{text}" is no URL: it names no host')
    if port == 0:
        raise ValueError(f'"{text}" is no URL: ports are 1 to 65535')
    return Address(host, port or (443 if parts.scheme == "https" else 80))


class Networks:
    """A list of hosts that may be talked to: addresses, networks (`10.0.0.0/24`), exact names.

    Loopback is always in unless `loopback=False`.
    """

    def __init__(self, entries: Iterable[str], *, loopback: bool = True) -> None:
        self._loopback = loopback
        self._networks: list[IPNetwork] = []
        self._names: set[str] = set()
        for entry in entries:
            if network := _network(entry):
                self._networks.append(network)
            else:
                self._names.add(entry.lower().rstrip("."))

    def __contains__(self, host: object) -> bool:
        """Whether `host` (a name or an address) is in the list. Names are never resolved."""
        if not isinstance(host, str):
            return False
        if self._loopback and is_loopback(host):
            return True
        address = ip(host)
        if address is None:
            return host.lower().rstrip(".") in self._names
        return any(address in network for network in self._networks)


def _network(text: str) -> IPNetwork | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        if "/" in text or not is_host(text):
            raise ValueError(
                f'"{text}" is neither an address, a network like 10.0.0.0/24, nor a host name'
            ) from None
        return None
