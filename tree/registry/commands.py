"""What can be asked of the table, and what it answers. Pure.

Each command is one mutation that may have to be durable before its answer.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from common.wire.registry import Beat, ErrorCode, Registration, Service
from registry.records import Record, Verdict


class Register(Struct, frozen=True):
    """`POST /services`. `registrant`: the address it came from, if it came with a token."""

    registration: Registration
    registrant: str | None = None


class Update(Struct, frozen=True, kw_only=True):
    """`PUT /services/{name}`: what is absent stays as it was. Counts as a heartbeat."""

    name: str
    host: str | UnsetType = UNSET
    port: int | UnsetType = UNSET
    hostname: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    weight: float | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    instance_id: str | None = None
    lease_s: float | UnsetType | None = UNSET
    registrant: str | None = None


def merged(record: Record, update: Update) -> Registration:
    """`record` as a registration, with what `update` says instead."""
    return Registration(
        name=record.name,
        host=record.host if update.host is UNSET else update.host,
        port=record.port if update.port is UNSET else update.port,
        hostname=record.hostname if update.hostname is UNSET else update.hostname,
        url=record.url if update.url is UNSET else update.url,
        status=record.status if update.status is UNSET else update.status,
        weight=record.weight if update.weight is UNSET else update.weight,
        metadata=record.metadata if update.metadata is UNSET else update.metadata,
        instance_id=update.instance_id or record.instance_id,
        lease_s=record.lease_s if update.lease_s is UNSET else update.lease_s,
    )


class Heartbeat(Struct, frozen=True):
    """`POST /services/{name}/heartbeat`."""

    name: str
    beat: Beat


class Remove(Struct, frozen=True):
    """`DELETE /services/{name}`; with an `instance_id` only that life is removed."""

    name: str
    instance_id: str | None = None


class Drain(Struct, frozen=True):
    """`POST /services/{name}/drain` and `/undrain`."""

    name: str
    on: bool


class Probed(Struct, frozen=True):
    """A probe of a record without a lease ended. By `url` the record is known as still the same."""

    name: str
    url: str
    verdict: Verdict


class Tick(Struct, frozen=True):
    """Time has passed."""


Command = Register | Update | Heartbeat | Remove | Drain | Probed | Tick


class Done(Struct, frozen=True):
    """It is so. `service` is what became of it, None where it is gone."""

    service: Service | None = None


class Refused(Struct, frozen=True, kw_only=True):
    """It was not done. `holder`: which name has the address, or which host:port has the name."""

    status: int
    code: ErrorCode
    error: str
    holder: str | None = None


Answer = Done | Refused


def not_found(name: str) -> Refused:
    return Refused(status=404, code=ErrorCode.NOT_FOUND, error=f"Service '{name}' not found")


def stale(name: str, instance_id: str) -> Refused:
    return Refused(
        status=409,
        code=ErrorCode.STALE_INSTANCE,
        error=f"instance {instance_id} of service '{name}' was replaced or deleted: "
        "register with a new instance_id",
    )


def invalid(error: str, status: int = 400) -> Refused:
    return Refused(status=status, code=ErrorCode.INVALID, error=error)
