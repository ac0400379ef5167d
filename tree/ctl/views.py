"""One line per engine, from everyone who knows something of it. Pure.

The babysitter's own word on an engine's state comes first; where it is silent, its record in the
registry; where there is neither (older clients, static services), what the router sees.
"""

from typing import Any

import msgspec
from msgspec import Struct

from common.wire.babysitter import Engine, EngineBrief, EngineState, LastExit
from common.wire.registry import TYPE_OPENAI, Service, known_metadata
from common.wire.router import RouterService
from ctl.fleet import Fleet

#: `kind` of a provider, and its state before the first request went to it: nobody has looked.
PROVIDER = "provider"
UNASKED = "UNASKED"


class EngineView(Struct, frozen=True, kw_only=True):
    """`service` is its name in the registry, `name` what its babysitter calls it. `fit` is the
    router's view, None where it has none.

    `state` is a babysitter's word in capitals, or the record's status where no babysitter tells;
    UNASKED: a provider that no request has gone to yet.
    """

    service: str
    name: str
    host: str
    state: str
    fit: bool | None = None
    kind: str = ""
    since: str | None = None
    models: tuple[str, ...] = ()
    port: int | None = None
    pid: int | None = None
    url: str = ""
    restarts: int = 0
    last_exit: LastExit | None = None
    progress: str | None = None
    conflict: str | None = None
    registered: bool | None = None
    babysitter_url: str | None = None
    reasons: tuple[str, ...] = ()
    reason_codes: tuple[str, ...] = ()
    last_heartbeat: str | None = None
    draining: bool = False
    set_aside: bool = False
    why_out: str = ""
    resting_s: float = 0.0
    breaker: str = "closed"
    in_flight: int = 0
    told_by: str = "router"

    @property
    def is_provider(self) -> bool:
        """Of the router's file, and elsewhere: no engine of this fleet's, on no host of it."""
        return self.kind == PROVIDER

    @property
    def left_out(self) -> bool:
        """The router's own traffic speaks against it: requests go elsewhere while they can."""
        return self.set_aside or self.resting_s > 0 or self.breaker == "open"

    @property
    def ready(self) -> bool:
        """Ready, and where the router has a say, routable."""
        return self.state == EngineState.READY and self.fit is not False and not self.left_out


def engine_views(fleet: Fleet) -> list[EngineView]:
    """Every engine that anyone knows, sorted by service name."""
    routed = {one.name: one for one in fleet.services.services}
    found: dict[str, EngineView] = {}
    for url, engines in fleet.engines.items():
        for engine in engines:
            found[engine.service] = _told_by_babysitter(
                engine, url, routed.get(engine.service), fleet
            )
    for record in fleet.babysitter_records():
        if record.url.rstrip("/") in fleet.engines:
            continue
        for name, table in known_metadata(record.metadata).engines.items():
            view = _told_by_registry(name, table, record, routed, fleet)
            if view is not None:
                found.setdefault(view.service, view)
    for service in fleet.services.services:
        if service.name not in found and service.metadata.get("type", TYPE_OPENAI) == TYPE_OPENAI:
            found[service.name] = _seen_by_router(service, fleet)
    return [found[name] for name in sorted(found)]


def host_of(service: str, host: str) -> str:
    """`engine@gpu-03` runs on gpu-03; without an @ the address must do."""
    return service.rsplit("@", 1)[1] if "@" in service else host


def _routed(service: RouterService | None, fleet: Fleet) -> dict[str, Any]:
    if service is None:
        return {"fit": None}
    stats = fleet.stats.services.get(service.name)
    return {
        "fit": service.healthy,
        "reasons": tuple(one.get("text") or one.get("code", "") for one in service.reasons),
        "reason_codes": tuple(one.get("code", "") for one in service.reasons),
        "last_heartbeat": service.last_heartbeat,
        "draining": service.draining,
        "set_aside": service.set_aside,
        "why_out": service.why_out,
        "resting_s": service.resting_s,
        "in_flight": service.in_flight,
        "breaker": stats.breaker if stats else service.breaker,
    }


def _told_by_babysitter(
    engine: Engine, url: str, service: RouterService | None, fleet: Fleet
) -> EngineView:
    return EngineView(
        service=engine.service,
        name=engine.name,
        host=host_of(engine.service, engine.host),
        state=engine.state.value,
        kind=engine.kind,
        since=engine.since,
        models=engine.models or tuple(service.models if service else ()),
        port=engine.port,
        pid=engine.pid,
        url=engine.url,
        restarts=engine.restarts,
        last_exit=engine.last_exit,
        progress=engine.progress,
        conflict=engine.conflict,
        registered=engine.registered,
        babysitter_url=url,
        told_by="babysitter",
        **_routed(service, fleet),
    )


def _told_by_registry(
    name: str,
    table: Any,
    record: Service | RouterService,
    routed: dict[str, RouterService],
    fleet: Fleet,
) -> EngineView | None:
    try:
        brief = msgspec.convert(table, EngineBrief)
    except msgspec.ValidationError:
        return None
    host = host_of(record.name, getattr(record, "hostname", "") or record.host)
    service = next(
        (
            one
            for one in routed.values()
            if one.name.split("@", 1)[0] == name
            and (one.metadata.get("parent_service") == record.name or one.name == f"{name}@{host}")
        ),
        None,
    )
    full = service.name if service else (table.get("service") or f"{name}@{host}")
    return EngineView(
        service=full,
        name=name,
        host=host_of(full, host),
        state=brief.state.value,
        models=tuple(service.models) if service else (),
        port=service.port if service else None,
        url=service.url if service else "",
        restarts=brief.restarts,
        last_exit=brief.last_exit,
        babysitter_url=record.url.rstrip("/"),
        told_by="registry",
        **_routed(service, fleet),
    )


def is_unasked(service: RouterService) -> bool:
    """Nobody looks after a provider but its traffic, and there was none."""
    return service.source == PROVIDER and not service.request_count


def _seen_by_router(service: RouterService, fleet: Fleet) -> EngineView:
    state = "READY" if service.healthy or service.status == "running" else service.status.upper()
    if is_unasked(service):
        state = UNASKED
    return EngineView(
        service=service.name,
        name=service.name.split("@", 1)[0],
        host=host_of(service.name, service.host),
        state=state,
        kind=service.source,
        models=tuple(service.models),
        port=service.port,
        url=service.url,
        babysitter_url=service.babysitter_url,
        **_routed(service, fleet),
    )
