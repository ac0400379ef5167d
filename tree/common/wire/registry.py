"""What travels to and from the registry (docs/api-registry.md). Unknown fields are ignored.

Times are RFC 3339 with offset and microseconds (`common.clock.wire_time`).
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert, field

TYPE_OPENAI = "openai-api"
TYPE_BABYSITTER = "babysitter"

BEAT_S_DEFAULT = 5.0
LEASE_S_DEFAULT = 15.0


class Status(StrEnum):
    """What a service says of itself. Older clients send other words: they are kept as they came."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FATAL = "fatal"


class Health(StrEnum):
    """What the registry concludes. `unknown` is routable, `suspect` only when nothing else is."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"


class ErrorCode(StrEnum):
    STALE_INSTANCE = "stale_instance"
    NAME_CONFLICT = "name_conflict"
    ADDRESS_CONFLICT = "address_conflict"
    NOT_FOUND = "not_found"
    INVALID = "invalid"


class Reason(Struct, frozen=True):
    """Why a service is not fit: a stable code for programs, a sentence for people."""

    code: str
    text: str


class Service(Struct, frozen=True, kw_only=True):
    """A service's record as the registry serves it.

    `is_healthy` means routable. `weight` is relative (default 1). `lease_s` is null for records
    that keep the older rule. `revision` is the registry's revision of the record's last change.
    `draining` is the operator's will; it belongs to the name and survives beats and new lives.
    """

    name: str
    host: str
    port: int
    hostname: str
    url: str
    status: str
    timestamp: str
    last_heartbeat: str
    health_status: Health = Health.UNKNOWN
    is_healthy: bool = True
    weight: float = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)
    instance_id: str | None = None
    lease_s: float | None = None
    revision: int = 0
    reasons: tuple[Reason, ...] = ()
    draining: bool = False


class Registration(Struct, frozen=True, kw_only=True):
    """The body of `POST /services` and `PUT /services/{name}`.

    `weight` may also come as `metadata.weight`; the outer one wins. `lease_s` asks for a lease.
    """

    name: str
    host: str
    port: int
    hostname: str
    url: str
    status: str
    weight: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    instance_id: str | None = None
    lease_s: float | None = None


class Registered(Struct, frozen=True, kw_only=True):
    """The 201 of `POST /services`. A babysitter obeys `lease_s` and `beat_s`."""

    message: str
    service: Service
    lease_s: float | None = None
    beat_s: float | None = None


class Beat(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The optional body of a heartbeat. What is absent stays as it was."""

    status: str | None = None
    instance_id: str | None = None
    models_list: list[dict[str, Any]] | UnsetType = UNSET
    load: dict[str, float] | None = None


class BeatReceived(Struct, frozen=True, kw_only=True):
    message: str
    timestamp: str


class Services(Struct, frozen=True, kw_only=True):
    services: list[Service]
    total: int
    timestamp: str
    revision: int = 0


class RegistryHealth(Struct, frozen=True, kw_only=True):
    """`GET /health`. `suspect` is true while mass expiry is being held back."""

    status: str
    registry: str
    registered_services: int
    healthy_services: int
    timestamp: str
    epoch: str = ""
    suspect: bool = False
    text: str | None = None


class ServiceHealth(Struct, frozen=True, kw_only=True):
    """`GET /services/{name}/health`."""

    service: str
    health_status: Health
    is_healthy: bool
    last_heartbeat: str
    reasons: tuple[Reason, ...]
    timestamp: str


class RegistryStats(Struct, frozen=True, kw_only=True):
    total_services: int
    healthy_services: int
    unhealthy_services: int
    status_distribution: dict[str, int]
    host_distribution: dict[str, int]
    uptime: float
    timestamp: str


class RegistryError(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal. `holder` names who has the name or the address."""

    error: str
    code: ErrorCode
    holder: str | None = None


# `GET /watch`: Server-Sent Events reset, put, delete, synced, load. A `put` carries a Service.
# Ids are `<epoch>-<revision>`, on `synced` and live events only.


class WatchReset(Struct, frozen=True):
    epoch: str


class WatchSynced(Struct, frozen=True):
    revision: int


class WatchDelete(Struct, frozen=True):
    name: str
    instance_id: str | None = None


WatchLoad = dict[str, dict[str, float]]
"""`load`: service name to `{in_flight, …}`."""


#: More than 1 for a token is a slip of the pen.
Price = Annotated[float, Meta(ge=0, le=1_000_000)]


class Metadata(Struct, frozen=True, kw_only=True):
    """The known keys of a record's open metadata table, typed.

    `models_list` holds OpenAI model objects; `models` plain names (the older shape, the fallback).
    `cost` is relative, 0 to 1. `privacy` is public, internal, confidential or restricted.
    `engines` is on a babysitter's own record: engine name to `{state, last_exit, restarts}`.
    """

    type: str | None = None
    models: tuple[str, ...] = ()
    models_list: tuple[dict[str, Any], ...] = ()
    babysitter_url: str | None = None
    parent_service: str | None = None
    capabilities: tuple[str, ...] = ()
    region: str | None = None
    privacy: str | None = None
    cost: float | None = None
    #: Prices of a million tokens: of the prompt, of those of it that were cached, of the answer.
    input_per_million: Price | None = None
    cached_per_million: Price | None = None
    output_per_million: Price | None = None
    gpu: bool | str | None = None
    cache_type: str | None = None
    max_concurrency: int | None = None
    #: Context window, where the models list does not say it.
    context_tokens: int | None = None
    #: Tier for the strategy `priority`: the lowest is asked first.
    priority: int = 0
    #: Only these may use it. Empty: all.
    tenants: tuple[str, ...] = ()
    engines: dict[str, Any] = field(default_factory=dict)


_KNOWN = Metadata.__struct_fields__


def known_metadata(table: dict[str, Any]) -> Metadata:
    """The known keys of `table`. A key of the wrong type counts as absent: peers' tables vary."""
    present = {key: table[key] for key in _KNOWN if table.get(key) is not None}
    try:
        return convert(present, Metadata)
    except ValidationError:
        return _one_by_one(present)


def _one_by_one(present: dict[str, Any]) -> Metadata:
    good: dict[str, Any] = {}
    for key, value in present.items():
        try:
            convert({key: value}, Metadata)
        except ValidationError:
            continue
        good[key] = value
    return convert(good, Metadata)


def model_objects(metadata: Metadata, owned_by: str = "creche") -> list[dict[str, Any]]:
    """A service's models as OpenAI model objects: `models_list` first, `models` as the fallback.

    Extra fields are kept. Items without a string `id` (or `name`) are left out.
    """
    found: list[dict[str, Any]] = []
    for item in metadata.models_list:
        name = item.get("id") or item.get("name")
        if isinstance(name, str) and name:
            found.append({"object": "model", "owned_by": owned_by, **item, "id": name})
    if found:
        return found
    return [
        {"id": name, "object": "model", "owned_by": owned_by} for name in metadata.models if name
    ]
