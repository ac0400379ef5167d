"""The registry's HTTP: bodies in, commands to the keeper, answers out. Wire-compatible with
InfiniLM-SVC's registry; every error is `{"error", "code", "holder"?}`.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from common import auth, clock
from common.http import HttpError, json_response, read_body
from common.wire.registry import (
    BeatReceived,
    Registered,
    RegistryHealth,
    Service,
    ServiceHealth,
    Services,
)
from registry import admission, query
from registry import commands as ask
from registry.config import Config
from registry.feed import Feed
from registry.keeper import Keeper, Overloaded
from registry.metrics import Counters, Exposition
from registry.store import StoreError

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The handlers. They decide nothing: the table does."""

    def __init__(self, config: Config, keeper: Keeper, feed: Feed, token: str | None) -> None:
        self._config = config
        self._keeper = keeper
        self._feed = feed
        self._token = token
        self._counters = Counters()
        self._exposition = Exposition(self._counters, keeper, feed)
        self._started = clock.monotonic()

    def add_routes(self, app: web.Application) -> None:
        one = "/services/{name}"
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/ready", self.ready),
                web.get("/stats", self.stats),
                web.get("/metrics", self.metrics),
                web.get("/watch", self._feed.serve, allow_head=False),
                web.get("/services", self.list),
                web.post("/services", _faults(self.register)),
                web.get(one, self.get),
                web.put(one, _faults(self.update)),
                web.delete(one, _faults(self.remove)),
                web.post(one + "/heartbeat", _faults(self.heartbeat)),
                web.post(one + "/drain", self.drain),
                web.post(one + "/undrain", self.undrain),
                web.get(one + "/health", self.service_health),
            ]
        )

    # about the registry

    async def health(self, _: web.Request) -> web.Response:
        table = self._keeper.table
        suspects = len(table.suspects())
        failing = self._keeper.store_error
        texts = []
        if suspects:
            texts.append(
                f"{suspects} leases lapsed at once: the network is suspected, "
                "these services are kept as suspect"
            )
        if failing:
            texts.append(f"nothing can be registered: {failing}")
        return json_response(
            RegistryHealth(
                status="degraded" if failing else "healthy",
                registry="running",
                registered_services=len(table.entries),
                healthy_services=table.fit_count(),
                timestamp=_now(),
                epoch=table.epoch,
                suspect=suspects > 0,
                text="; ".join(texts) or None,
            )
        )

    async def ready(self, _: web.Request) -> web.Response:
        if self._feed.is_closing:
            raise HttpError(503, "the registry is stopping", "stopping")
        return json_response({"status": "ready", "timestamp": _now()})

    async def stats(self, _: web.Request) -> web.Response:
        uptime_s = clock.monotonic() - self._started
        return json_response(query.stats(self._keeper.table.services(), uptime_s, _now()))

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._exposition.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    # about services

    async def list(self, request: web.Request) -> web.Response:
        table = self._keeper.table
        try:
            found = query.matching(table.services(), request.query)
        except query.Unknown as why:
            raise HttpError(400, str(why)) from None
        return json_response(
            Services(services=found, total=len(found), timestamp=_now(), revision=table.revision)
        )

    async def get(self, request: web.Request) -> web.Response:
        return json_response(self._service(request))

    async def service_health(self, request: web.Request) -> web.Response:
        service = self._service(request)
        return json_response(
            ServiceHealth(
                service=service.name,
                health_status=service.health_status,
                is_healthy=service.is_healthy,
                last_heartbeat=service.last_heartbeat,
                reasons=service.reasons,
                timestamp=_now(),
            )
        )

    async def register(self, request: web.Request) -> web.Response:
        wanted = admission.registration(
            await self._body(request), self._config.limits.metadata_bytes_max
        )
        service = await self._done(ask.Register(wanted, self._registrant(request)))
        assert service is not None
        self._counters.registrations += 1
        leased = service.lease_s is not None
        return json_response(
            Registered(
                message=f"Service '{service.name}' registered successfully",
                service=service,
                lease_s=service.lease_s,
                beat_s=self._config.lease.beat_s if leased else None,
            ),
            201,
        )

    async def update(self, request: web.Request) -> web.Response:
        command = admission.update(
            _name(request),
            await self._body(request),
            self._registrant(request),
            self._config.limits.metadata_bytes_max,
        )
        service = await self._done(command)
        text = f"Service '{command.name}' updated successfully"
        return json_response({"message": text, "service": service})

    async def remove(self, request: web.Request) -> web.Response:
        name = _name(request)
        life = admission.removal(await self._body(request), request.query.get("instance_id"))
        await self._done(ask.Remove(name, life))
        return json_response({"message": f"Service '{name}' unregistered successfully"})

    async def heartbeat(self, request: web.Request) -> web.Response:
        beat = admission.beat(await self._body(request), self._config.limits.metadata_bytes_max)
        await self._settled(self._keeper.beat(_name(request), beat))
        self._counters.beats += 1
        return json_response(BeatReceived(message="Heartbeat received", timestamp=_now()))

    async def drain(self, request: web.Request) -> web.Response:
        return await self._drain(_name(request), on=True)

    async def undrain(self, request: web.Request) -> web.Response:
        return await self._drain(_name(request), on=False)

    async def _drain(self, name: str, *, on: bool) -> web.Response:
        service = await self._done(ask.Drain(name, on))
        what = "is drained" if on else "is no longer drained"
        return json_response({"message": f"Service '{name}' {what}", "service": service})

    # what they share

    def _service(self, request: web.Request) -> Service:
        name = _name(request)
        service = self._keeper.table.service(name)
        if service is None:
            raise self._error(ask.not_found(name))
        return service

    async def _body(self, request: web.Request) -> bytes:
        return await read_body(request, body_bytes_max=self._config.limits.body_bytes_max)

    async def _done(self, command: ask.Command) -> Service | None:
        return await self._settled(self._keeper.do(command))

    async def _settled(self, answer: Awaitable[ask.Answer]) -> Service | None:
        """What became of the service. Raises HttpError for a refusal or a store that fails."""
        try:
            outcome = await answer
        except StoreError as why:
            self._counters.refused("store")
            text = f"nothing was registered, the state can't be kept: {why}"
            raise HttpError(503, text, "store", headers={"Retry-After": "1"}) from why
        except Overloaded:
            self._counters.refused("overloaded")
            text = "too many registrations wait for the disk"
            raise HttpError(503, text, "overloaded", headers={"Retry-After": "1"}) from None
        if isinstance(outcome, ask.Refused):
            raise self._error(outcome)
        return outcome.service

    def _error(self, refused: ask.Refused) -> HttpError:
        self._counters.refused(refused.code)
        extra = {"holder": refused.holder} if refused.holder else None
        return HttpError(refused.status, refused.error, refused.code, extra=extra)

    def _registrant(self, request: web.Request) -> str | None:
        """Where it came from, if it bore the token: the registry may fetch URLs there."""
        header = request.headers.get("Authorization")
        if self._token is None or not auth.is_bearer(header, self._token):
            return None
        return request.remote


def _faults(handler: Callable[[web.Request], Awaitable[web.Response]]) -> _Handler:
    """A body that can't be admitted is the sender's fault: 400."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except admission.Fault as why:
            raise HttpError(400, str(why)) from None

    return handle


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _now() -> str:
    return clock.wire_time(clock.wall())
