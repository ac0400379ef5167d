"""What a registration may look like, whoever sends it. Pure; a fault is one sentence.

Names travel in URLs, hosts are connected to, records travel to every router: all are bounded here.
"""

import math
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType

from common import address, names
from common.wire.registry import Beat, Registration
from registry.commands import Update

TEXT_LENGTH_MAX = 256
STATUS_LENGTH_MAX = 64
URL_LENGTH_MAX = 2048
WEIGHT_MAX = 1e6
LOAD_KEYS_MAX = 16
METADATA_DEPTH_MAX = 32  # encoders and comparisons recurse: one deep record would stop them for all

_REQUIRED = ("name", "host", "port", "hostname", "url", "status")


class Fault(Exception):
    """Why a body is refused: whose fault is clear, the text says which field and what is wanted."""


class UpdateBody(Struct, frozen=True, kw_only=True):
    """`PUT`: the older registry took any of these fields, so all may be absent."""

    name: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    hostname: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    weight: float | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    instance_id: str | None = None
    lease_s: float | UnsetType | None = UNSET


class RemoveBody(Struct, frozen=True):
    """`DELETE`, all optional: only this life is removed."""

    instance_id: str | None = None


def registration(body: bytes, metadata_bytes_max: int) -> Registration:
    """The body of a POST. Raises Fault."""
    table = _json(body, dict[str, Any])
    for key in _REQUIRED:
        if key not in table:
            raise Fault(f"Missing required field: {key}")
    if table.get("metadata") is None:  # an older client's null
        table = {k: v for k, v in table.items() if k != "metadata"}
    try:
        wanted = msgspec.convert(table, Registration)
    except msgspec.ValidationError as why:
        raise Fault(f"invalid registration: {why}") from None
    wanted = msgspec.structs.replace(wanted, weight=_weight(wanted.weight, wanted.metadata))
    _check(wanted.name, wanted.host, wanted.port, wanted.hostname, wanted.url, wanted.status)
    check_instance_id(wanted.instance_id)
    _check_lease(wanted.lease_s)
    check_metadata(wanted.metadata, metadata_bytes_max)
    return wanted


def update(name: str, body: bytes, registrant: str | None, metadata_bytes_max: int) -> Update:
    """The body of a PUT. Raises Fault."""
    given: UpdateBody = _json(body, UpdateBody)
    if given.name is not UNSET and given.name != name:
        raise Fault(f"the path says '{name}', the body '{given.name}': a name can't be changed")
    _check(
        name,
        given.host if given.host is not UNSET else "placeholder",
        given.port if given.port is not UNSET else 1,
        given.hostname if given.hostname is not UNSET else "placeholder",
        given.url if given.url is not UNSET else "http://placeholder",
        given.status if given.status is not UNSET else "running",
    )
    check_instance_id(given.instance_id)
    if given.lease_s is not UNSET:
        _check_lease(given.lease_s)
    weight, metadata = given.weight, given.metadata
    if metadata is None:  # an older client's null
        metadata = {}
    if metadata is not UNSET:
        check_metadata(metadata, metadata_bytes_max)
    if weight is not UNSET or (metadata is not UNSET and "weight" in metadata):
        outer = None if weight is UNSET else weight
        weight = _weight(outer, {} if metadata is UNSET else metadata)
    return Update(
        name=name,
        host=given.host,
        port=given.port,
        hostname=given.hostname,
        url=given.url,
        status=given.status,
        weight=weight,
        metadata=metadata,
        instance_id=given.instance_id,
        lease_s=given.lease_s,
        registrant=registrant,
    )


def beat(body: bytes, metadata_bytes_max: int) -> Beat:
    """The body of a heartbeat; none is a beat too. Raises Fault."""
    if not body.strip():
        return Beat()
    table = {k: v for k, v in _json(body, dict[str, Any]).items() if v is not None}
    try:
        given = msgspec.convert(table, Beat)  # a null says nothing, whoever sends it
    except msgspec.ValidationError as why:
        raise Fault(f"invalid beat: {why}") from None
    if given.status is not None:
        _check_status(given.status)
    check_instance_id(given.instance_id)
    if given.models_list is not UNSET:
        check_metadata({"models_list": given.models_list}, metadata_bytes_max)
    if given.load is not None:
        _check_load(given.load)
    return given


def removal(body: bytes, query_instance_id: str | None) -> str | None:
    """Which life a DELETE means, from its query or its body. Raises Fault."""
    instance_id = query_instance_id
    if body.strip():
        given: RemoveBody = _json(body, RemoveBody)
        instance_id = given.instance_id or instance_id
    check_instance_id(instance_id)
    return instance_id


def _json(body: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as why:
        raise Fault(f"invalid body: {why}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Fault("Invalid JSON") from None
    except RecursionError:
        raise Fault("the body is nested too deeply") from None


def _check(name: str, host: str, port: int, hostname: str, url: str, status: str) -> None:
    if not names.is_name(name):
        raise Fault(f"'{name[:TEXT_LENGTH_MAX]}' is no service name: {names.why_not_a_name(name)}")
    if host in names.UNUSABLE_HOSTS or address.is_any(host):
        raise Fault(
            f"host '{host}' leads every router to itself: "
            "advertise the address that reaches this service"
        )
    if not address.is_host(host) or _is_shorthand(host):
        raise Fault(f"host '{host[:TEXT_LENGTH_MAX]}' is neither a host name nor an IP address")
    if not 1 <= port <= address.PORT_MAX:
        raise Fault(f"port {port} is not between 1 and {address.PORT_MAX}")
    if len(hostname) > TEXT_LENGTH_MAX:
        raise Fault(f"hostname has {len(hostname)} characters, {TEXT_LENGTH_MAX} at most")
    _check_status(status)
    _check_url(url)


def _is_shorthand(host: str) -> bool:
    """`0`, `127.1`, `0x7f000001`: what the system's resolver reads as an address, and few see."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    return address.ip(host) is None and (last.isdigit() or last.startswith("0x"))


def _check_status(status: str) -> None:
    if not 0 < len(status) <= STATUS_LENGTH_MAX or not status.isprintable():
        raise Fault(f"status is 1 to {STATUS_LENGTH_MAX} printable characters")


def _check_url(url: str) -> None:
    if len(url) > URL_LENGTH_MAX:
        raise Fault(f"url has {len(url)} characters, {URL_LENGTH_MAX} at most")
    if any(c <= " " or c == "\x7f" for c in url):
        raise Fault("url holds a space or a control character")
    try:
        where = address.parse_http_url(url)
    except ValueError as why:
        raise Fault(str(why)) from None
    if address.is_any(where.host) or _is_shorthand(where.host):
        raise Fault(f"url {url} leads every router to itself: advertise a real address")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise Fault("url holds a user or a password: it would be shown to everybody")


def check_instance_id(instance_id: str | None) -> None:
    if instance_id is None:
        return
    if not 0 < len(instance_id) <= names.NAME_LENGTH_MAX or not instance_id.isprintable():
        raise Fault(f"instance_id is 1 to {names.NAME_LENGTH_MAX} printable characters")


def _check_lease(lease_s: float | None) -> None:
    if lease_s is not None and not (math.isfinite(lease_s) and lease_s > 0):
        raise Fault("lease_s is a positive number of seconds")


def _weight(outer: float | None, metadata: dict[str, Any]) -> float:
    """The outer weight wins; one in `metadata` counts if it is usable, else 1."""
    if outer is not None:
        if not (math.isfinite(outer) and 0 < outer <= WEIGHT_MAX):
            raise Fault(f"weight is a number above 0, {WEIGHT_MAX:g} at most")
        return outer
    inner = metadata.get("weight")
    if isinstance(inner, int | float) and not isinstance(inner, bool) and 0 < inner <= WEIGHT_MAX:
        return float(inner)
    return 1.0


def check_metadata(metadata: dict[str, Any], metadata_bytes_max: int) -> None:
    if _is_deeper(metadata, METADATA_DEPTH_MAX):
        raise Fault(f"metadata is nested too deeply, {METADATA_DEPTH_MAX} levels at most")
    size = len(msgspec.json.encode(metadata))
    if size > metadata_bytes_max:
        raise Fault(f"metadata has {size} bytes, {metadata_bytes_max} at most (metadata_bytes_max)")


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether `value` nests tables and lists more than `levels` deep, itself counted."""
    layer = [value]
    for _ in range(levels):
        layer = [inner for one in layer for inner in _inner(one) if isinstance(inner, dict | list)]
        if not layer:
            return False
    return True


def _inner(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _check_load(load: dict[str, float]) -> None:
    if len(load) > LOAD_KEYS_MAX:
        raise Fault(f"load has {len(load)} keys, {LOAD_KEYS_MAX} at most")
    for key, value in load.items():
        if len(key) > STATUS_LENGTH_MAX or not math.isfinite(value):
            raise Fault("load maps short names to numbers")
