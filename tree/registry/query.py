"""Which services a `GET /services` means, and the counts of `/stats`. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

from common.wire.registry import RegistryStats, Service, known_metadata, model_objects


class Unknown(Exception):
    """A filter's value means nothing. The text says which."""


def matching(services: Iterable[Service], query: Mapping[str, str]) -> list[Service]:
    """`healthy`, `status`, `type`, `model`; all that are given must hold. Raises Unknown."""
    found = list(services)
    if healthy := query.get("healthy"):
        wanted = _truth(healthy)
        found = [one for one in found if one.is_healthy is wanted]
    if status := query.get("status"):
        found = [one for one in found if one.status == status]
    if kind := query.get("type"):
        found = [one for one in found if one.metadata.get("type") == kind]
    if model := query.get("model"):
        found = [one for one in found if _offers(one, model)]
    return found


def _truth(text: str) -> bool:
    if text.lower() in {"true", "1", "yes"}:
        return True
    if text.lower() in {"false", "0", "no"}:
        return False
    raise Unknown(f"healthy={text} is neither true nor false")


def _offers(service: Service, model: str) -> bool:
    objects = model_objects(known_metadata(service.metadata))
    return any(one["id"] == model for one in objects)


def stats(services: Iterable[Service], uptime_s: float, timestamp: str) -> RegistryStats:
    listed = list(services)
    fit = sum(one.is_healthy for one in listed)
    return RegistryStats(
        total_services=len(listed),
        healthy_services=fit,
        unhealthy_services=len(listed) - fit,
        status_distribution=dict(Counter(one.status for one in listed)),
        host_distribution=dict(Counter(one.host for one in listed)),
        uptime=round(uptime_s, 3),
        timestamp=timestamp,
    )
