"""The router's own paths, on aiohttp: health, stats, services, models, metrics.

The relay hands a control request's connection over for good, so every answer closes it; a path
that should have been relayed is a client's second request on such a connection: 421.

    /health /status /ready   /models /v1/models /v1/models/{id}   /stats /services
    and the operator's: /metrics /explain /admin/…

Who may use which is `door`'s. An order is written down (`audit`) before its answer goes out.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from common import clock, http
from common.http import HttpError, json_response
from common.redact import redact
from router import errors, metrics, views, whatif
from router.audit import Audit
from router.brain import Brain
from router.caller import Caller
from router.door import Door
from router.errors import RequestError
from router.explain import explain
from router.keys.api import DID, KeysApi
from router.reload import Refused, Reloader
from router.route import Kind, resolve
from router.usage.api import UsageApi
from router.watch import Link


class Rollback(Struct, frozen=True):
    """A body of POST /admin/rollback. `version` null: the good one before."""

    version: int | None = None


#: Who sent a control request.
WHO = web.RequestKey("who", Caller)


class Control:
    """The handlers. `ready`: there is a table to serve from. `epoch`: the registry's."""

    def __init__(
        self,
        brain: Brain,
        found: CollectorRegistry,
        *,
        link: Callable[[], Link],
        epoch: Callable[[], str | None],
        ready: Callable[[], bool],
        reloader: Reloader,
        keys: KeysApi,
        audit: Audit,
        usage: UsageApi,
    ) -> None:
        self._brain = brain
        self._metrics = found
        self._link = link
        self._epoch = epoch
        self._ready = ready
        self._reloader = reloader
        self.keys = keys
        self.audit = audit
        self.usage = usage
        self._started = clock.monotonic()

    async def health(self, _: web.Request) -> web.Response:
        link = self._link()
        answer = views.health(
            self._brain,
            registry_url=link.url,
            connected=link.connected,
            why=link.why,
            epoch=self._epoch(),
            wall=clock.wall(),
            now=clock.monotonic(),
        )
        if self._reloader.message:
            said = self._reloader.message
            answer = replace(answer, message=f"{answer.message}; {said}", config_message=said)
        if self.usage.message:
            said = self.usage.message
            answer = replace(answer, message=f"{answer.message}; {said}", usage_message=said)
        return json_response(answer)

    async def ready(self, _: web.Request) -> web.Response:
        ready = self._ready()
        status = "ready" if ready else "starting: no table yet"
        return json_response({"status": status}, 200 if ready else 503)

    async def stats(self, _: web.Request) -> web.Response:
        now = clock.monotonic()
        return json_response(views.stats(self._brain, now=now, started=self._started))

    async def services(self, request: web.Request) -> web.Response:
        wanted = request.query.get("type")
        now = clock.monotonic()
        return json_response(views.services(self._brain, self._link().url, wanted, now=now))

    async def models(self, request: web.Request) -> web.Response:
        found = views.model_list(self._brain, clock.monotonic())
        who = request[WHO]
        if who.models is not None:
            found = [one for one in found if who.may_ask_for(one["id"])]
        return json_response({"object": "list", "data": found})

    async def model(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        found = views.model(self._brain, name, clock.monotonic())
        if found is None or not request[WHO].may_ask_for(name):
            text = f"The model '{name}' does not exist or is not served now"
            raise HttpError(404, text, "model_not_found")
        return json_response(found)

    async def explain(self, request: web.Request) -> web.Response:
        body = await http.read_body(request) if request.method == "POST" else None
        now = clock.monotonic()
        try:
            asked = whatif.ask(request.query, request.headers, body, request.remote or "", now)
            return json_response(explain(self._brain, asked, now, self._reloader.place))
        except RequestError as error:
            problem = error.problem
            raise HttpError(
                problem.status, problem.message, problem.code or "invalid_request"
            ) from None

    async def config(self, _: web.Request) -> web.Response:
        return _changed(await self._reloader.describe())

    async def reload(self, _: web.Request) -> web.Response:
        return _changed(await self._reloader.reload())

    async def rollback(self, request: web.Request) -> web.Response:
        wanted = await http.read_json(request, Rollback, empty=b"{}")
        return _changed(await self._reloader.rollback(wanted.version))

    async def orders(self, request: web.Request) -> web.Response:
        try:
            count = int(request.query.get("last", "100"))
        except ValueError:
            raise HttpError(400, "last: a number is wanted") from None
        return json_response({"entries": await self.audit.last(max(count, 0))})

    async def metrics(self, _: web.Request) -> web.Response:
        body = metrics.exposition(self._metrics)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})


def _changed(found: Struct | Refused) -> web.Response:
    if isinstance(found, Refused):
        return json_response(found.answer, found.status)
    return json_response(found)


def application(control: Control, door: Door, *, operator: bool) -> web.Application:
    """`operator`: with /metrics and /admin/; without, they are 404 here."""
    app = web.Application(
        middlewares=[
            _guard(door),
            _noted(control.audit),
            http.errors(_shape(door)),
            http.own_pages,
        ]
    )
    paths: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
        "/health": control.health,
        "/status": control.health,
        "/ready": control.ready,
        "/stats": control.stats,
        "/services": control.services,
        "/models": control.models,
        "/v1/models": control.models,
        "/v1/models/{id:.+}": control.model,
    }
    if operator:
        paths["/metrics"] = control.metrics
        paths["/admin/config"] = control.config
        paths["/explain"] = control.explain
        app.router.add_post("/explain", control.explain)
        app.router.add_post("/admin/reload", control.reload)
        app.router.add_post("/admin/rollback", control.rollback)
        paths["/admin/audit"] = control.orders
        control.keys.add_to(app)
        control.usage.add_to(app)
    for path, handler in paths.items():
        app.router.add_get(path, handler)
    app.router.add_route("*", "/{rest:.*}", _elsewhere)
    app.on_response_prepare.append(_close_after)
    return app


async def _elsewhere(request: web.Request) -> web.Response:
    path = request.rel_url.raw_path
    if resolve(request.method, path).kind is Kind.RELAY:
        raise HttpError(
            421, "this connection answers control paths only: open another", "misdirected_request"
        )
    raise HttpError(404, f"no such path: {path}", "not_found")


async def _close_after(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)
    if response.status != 101:
        response.force_close()
        response.headers["Connection"] = "close"


def _guard(door: Door) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            request[WHO] = door.admit(request.method, request.path, headers)
        except RequestError as error:
            problem = error.problem
            return web.Response(
                status=problem.status,
                body=errors.body(problem, plain=door.plain),
                headers=errors.headers(problem),
                content_type="application/json",
            )
        return await handler(request)

    return check


def _noted(audit: Audit) -> Middleware:
    """Of orders, whether they were done or refused for what they said."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if request.method not in ("GET", "HEAD") and request.path.startswith("/admin/"):
            who, peer, did = request[WHO].name, request.remote or "", request.get(DID, {})
            path = redact(request.path)
            await audit.note(who, peer, request.method, path, answer.status, did)
        return answer

    return note


def _shape(door: Door) -> http.ErrorShape:
    def shape(status: int, text: str, code: str) -> dict[str, object]:
        if door.plain:
            return {"error": text}
        kind = "server_error" if status >= 500 else "invalid_request_error"
        param = "model" if code == "model_not_found" else None
        return {"error": {"message": text, "type": kind, "param": param, "code": code}}

    return shape
