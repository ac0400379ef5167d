"""The babysitter's HTTP: what its engines do, and an operator's orders. Decides nothing.

GET  /health /ready /models /info /metrics /engines /engines/{name} /engines/{name}/log
POST /engines/{name}/start|stop|restart|kill /reload
"""

import asyncio
import contextlib

from aiohttp import web

from babysitter import events, logtail
from babysitter.metrics import Exposition
from babysitter.records import Me
from babysitter.registrar import Registrar
from babysitter.reload import Reloader
from babysitter.shimlog import LINES_MAX
from babysitter.supervisor import Supervisor
from common import clock
from common.http import HttpError, json_response
from common.redact import redact
from common.version import VERSION
from common.wire.babysitter import (
    BabysitterHealth,
    BabysitterInfo,
    BabysitterReloadRefusal,
    EngineBrief,
    Engines,
    EngineState,
)

ORDERS: dict[str, events.Event] = {
    "start": events.StartAsked(),
    "stop": events.StopAsked(),
    "restart": events.RestartAsked(),
    "kill": events.KillAsked(),
}


class Api:
    """The handlers. `ready` is set once every engine was adopted or started; `registrar` is the
    babysitter's own."""

    def __init__(
        self,
        me: Me,
        engines: dict[str, Supervisor],
        ready: asyncio.Event,
        registrar: Registrar | None,
        reloader: Reloader,
    ) -> None:
        self._me = me
        self._engines = engines
        self._ready = ready
        self._registrar = registrar
        self._reloader = reloader
        self._following: set[asyncio.Timeout] = set()
        self._started = clock.monotonic()
        self._exposition = Exposition(engines)

    def add_routes(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/ready", self.ready),
                web.get("/models", self.models),
                web.get("/v1/models", self.models),
                web.get("/info", self.info),
                web.get("/metrics", self.metrics),
                web.get("/engines", self.list),
                web.get("/engines/{name}", self.one),
                web.get("/engines/{name}/log", self.log),
                web.post("/reload", self.reload),
                web.post("/engines/{name}/{order:start|stop|restart|kill}", self.order),
            ]
        )

    async def health(self, _: web.Request) -> web.Response:
        """200 only while every engine that should run is ready."""
        views = {name: one.view() for name, one in self._engines.items()}
        well = all(
            views[name].state is EngineState.READY
            for name, one in self._engines.items()
            if one.wanted or not self._ready.is_set()
        )
        body = BabysitterHealth(
            status="healthy" if well else "unhealthy",
            service=self._me.name,
            engines={
                name: EngineBrief(
                    state=view.state, last_exit=view.last_exit, restarts=view.restarts
                )
                for name, view in views.items()
            },
            timestamp=_now(),
            message=self._reloader.message,
        )
        return json_response(body, 200 if well else 503)

    async def ready(self, _: web.Request) -> web.Response:
        """Whether the babysitter itself does its work; its engines are `/health`'s matter."""
        well = self._ready.is_set()
        return json_response({"ready": well, "service": self._me.name}, 200 if well else 503)

    async def models(self, _: web.Request) -> web.Response:
        """What its ready engines serve, each model once."""
        union = {model["id"]: model for one in self._engines.values() for model in one.models}
        return json_response({"object": "list", "data": [union[id] for id in sorted(union)]})

    async def info(self, _: web.Request) -> web.Response:
        body = BabysitterInfo(
            name=self._me.name,
            host=self._me.advertise,
            port=self._me.port,
            url=self._me.url,
            engines=list(self._engines),
            uptime=clock.monotonic() - self._started,
            restart_count=sum(one.view().restarts for one in self._engines.values()),
            version=VERSION,
            registered=self._registrar is not None and self._registrar.registered,
            conflict=self._registrar.conflict if self._registrar is not None else None,
        )
        return json_response(body)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._exposition.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def list(self, _: web.Request) -> web.Response:
        views = [one.view() for one in self._engines.values()]
        return json_response(Engines(engines=views, total=len(views), timestamp=_now()))

    async def one(self, request: web.Request) -> web.Response:
        """With `load=now` the engine is asked what it does before the answer."""
        engine = self._engine(request)
        if request.query.get("load") == "now":
            await engine.read_load()
        return json_response(engine.view())

    async def order(self, request: web.Request) -> web.Response:
        """202: it is taken; `GET /engines/{name}` tells what comes of it."""
        engine = self._engine(request)
        engine.post(ORDERS[request.match_info["order"]])
        return json_response(engine.view(), 202)

    async def reload(self, _: web.Request) -> web.Response:
        """200: the file is in force; 400: it is not, nothing has changed."""
        found = await self._reloader.reload()
        return json_response(found, 400 if isinstance(found, BabysitterReloadRefusal) else 200)

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Lines of text: the last `lines` (default: all that are kept, within bounds), and with
        `follow` those to come, until the client leaves."""
        engine = self._engine(request)
        lines = _lines(request.query.get("lines"))
        if request.query.get("follow", "0") in ("", "0", "false"):
            found = await logtail.tail(engine.log_file, lines)
            text = "".join(f"{redact(line)}\n" for line in found)
            return web.Response(text=text, content_type="text/plain")
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(None) as until,
                logtail.follow(engine.log_file, lines) as following,
            ):
                await response.prepare(request)  # whoever has its head misses no line
                self._following.add(until)
                try:
                    async for line in following:
                        await response.write(f"{redact(line)}\n".encode())
                finally:
                    self._following.discard(until)
        return response

    def end_following(self) -> None:
        """Logs that are followed end here: the daemon's end need not wait for their readers."""
        for until in self._following:
            until.reschedule(0.0)

    def _engine(self, request: web.Request) -> Supervisor:
        name = request.match_info["name"]
        engine = self._engines.get(name)
        if engine is None:
            known = ", ".join(self._engines)
            raise HttpError(404, f"no engine is called '{name}'; there is {known}", "not_found")
        return engine


def _lines(text: str | None) -> int:
    if text is None:
        return LINES_MAX
    if not (text.isascii() and text.isdigit()):
        raise HttpError(400, f"lines is a number of lines, not '{text[:20]}'")
    return min(int(text[:9]), LINES_MAX)


def _now() -> str:
    return clock.wire_time(clock.wall())
