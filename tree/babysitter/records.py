"""The records that the registry keeps of a babysitter and its engines. Pure."""

from typing import Any

from msgspec import Struct

from babysitter.models import Model, names
from babysitter.settings import Settings
from common.address import http_url
from common.wire.babysitter import Engine, EngineState, LastExit
from common.wire.registry import (
    LEASE_S_DEFAULT,
    TYPE_BABYSITTER,
    TYPE_OPENAI,
    Registration,
    Status,
)


class Me(Struct, frozen=True, kw_only=True):
    """Who this babysitter is. `advertise` is the address that routers reach this host at."""

    name: str
    host_name: str
    advertise: str
    port: int
    instance_id: str

    @property
    def url(self) -> str:
        return http_url(self.advertise, self.port)

    def service_of(self, engine: str) -> str:
        return f"{engine}@{self.host_name}"


def engine_record(
    me: Me,
    engine: Settings,
    *,
    instance_id: str,
    status: Status,
    models: list[Model],
    last_exit: LastExit | None,
) -> Registration:
    """`last_exit` goes into its metadata; with its log once it is given up."""
    metadata: dict[str, Any] = {
        **engine.metadata,
        "type": TYPE_OPENAI,
        "kind": engine.kind,
        "models": names(models),
        "models_list": models,
        "babysitter_url": me.url,
        "parent_service": me.name,
    }
    if last_exit is not None:
        metadata["last_exit"] = _told(last_exit, log=status is Status.FATAL)
    return Registration(
        name=me.service_of(engine.name),
        host=me.advertise,
        port=engine.given.port,
        hostname=me.host_name,
        url=http_url(me.advertise, engine.given.port),
        status=status.value,
        weight=engine.weight,
        metadata=metadata,
        instance_id=instance_id,
        lease_s=LEASE_S_DEFAULT,
    )


def babysitter_record(me: Me, engines: list[Engine], status: Status) -> Registration:
    """`metadata.engines` tells each engine's state, and how it last ended."""
    return Registration(
        name=me.name,
        host=me.advertise,
        port=me.port,
        hostname=me.host_name,
        url=me.url,
        status=status.value,
        metadata={
            "type": TYPE_BABYSITTER,
            "babysitter_url": me.url,
            "engines": {one.name: _brief(one) for one in engines},
        },
        instance_id=me.instance_id,
        lease_s=LEASE_S_DEFAULT,
    )


def _brief(engine: Engine) -> dict[str, Any]:
    last = engine.last_exit
    fatal = engine.state is EngineState.FATAL
    return {
        "state": engine.state.value,
        "service": engine.service,
        "restarts": engine.restarts,
        "last_exit": None if last is None else _told(last, log=fatal),
    }


def _told(last: LastExit, *, log: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"cause": last.cause, "text": last.text, "at": last.at}
    if last.code is not None:
        told["code"] = last.code
    if last.signal is not None:
        told["signal"] = last.signal
    if log:
        told["log"] = list(last.log)
    return told
