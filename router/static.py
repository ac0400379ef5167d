"""Services that no registry knows: a JSON file in any of three shapes, or config tables.

    [ … ]      {"services": [ … ]}      {"static_services": {"services": [ … ]}}

Items: `name host port weight=1 metadata`. They never expire and count as type openai-api.
"""

from pathlib import Path
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Struct, ValidationError, convert, field, json

from common import address, clock
from common.errors import RefusalError
from common.names import is_name, why_not_a_name
from common.wire.registry import TYPE_OPENAI, Health, Service, Status

FILE_BYTES_MAX = 64 << 20


class Item(Struct, frozen=True, kw_only=True):
    """Of the file: unknown keys are let pass, older files carry more."""

    name: str
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    weight: Annotated[float, Meta(gt=0)] = 1.0
    metadata: dict[str, Any] = field(default_factory=dict)


def parse(data: bytes) -> list[Item]:
    """The items of a file in one of the three shapes. Raises ValueError that says what is wrong."""
    try:
        document = json.decode(data)
    except (DecodeError, RecursionError) as why:
        raise ValueError(f"it is not JSON: {why}") from None
    items = _items(document)
    try:
        return convert(items, list[Item])
    except ValidationError as why:
        raise ValueError(str(why)) from None


def _items(document: Any) -> Any:
    if isinstance(document, dict) and isinstance(document.get("static_services"), dict):
        document = document["static_services"]
    if isinstance(document, dict):
        document = document.get("services")
    if not isinstance(document, list):
        raise ValueError('wanted is [ … ], {"services": [ … ]} or {"static_services": { … }}')
    return document


def load(path: str) -> list[Item]:
    """Raises RefusalError: a start with half a fleet is worse than none."""
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ValueError(f"it is larger than {FILE_BYTES_MAX} bytes")
        return parse(data)
    except OSError as why:
        raise RefusalError(
            f"static_file {file} cannot be read: {why.strerror}.\n  Mend or remove static_file."
        ) from why
    except ValueError as why:
        raise RefusalError(
            f"static_file {file} cannot be used: {why}.\n"
            '  Each item is {"name": …, "host": …, "port": …}, with weight and metadata if wanted.'
        ) from why


def services(items: list[Item]) -> dict[str, Service]:
    """As records. Raises RefusalError for bad or repeated names."""
    found: dict[str, Service] = {}
    for item in items:
        if not is_name(item.name):
            why = why_not_a_name(item.name)
            raise RefusalError(f'static service "{item.name}": {why}.\n  Give it another name.')
        if item.name in found:
            raise RefusalError(
                f'two static services are named "{item.name}".\n  Give one another name.'
            )
        found[item.name] = record(
            item.name,
            item.host,
            item.port,
            url=address.http_url(item.host, item.port),
            weight=item.weight,
            metadata={**item.metadata, "type": TYPE_OPENAI},
        )
    return found


def record(
    name: str,
    host: str,
    port: int,
    *,
    url: str,
    weight: float,
    metadata: dict[str, Any],
    instance_id: str | None = None,
) -> Service:
    """Of what no registry knows: fit until traffic says otherwise."""
    now = clock.wire_time(clock.wall())
    return Service(
        name=name,
        host=host,
        port=port,
        hostname=host,
        url=url,
        status=Status.RUNNING,
        timestamp=now,
        last_heartbeat=now,
        health_status=Health.UNKNOWN,
        is_healthy=True,
        weight=weight,
        metadata=metadata,
        instance_id=instance_id,
    )
