"""The keys' paths below /admin/: list, create, revoke.

GET /admin/keys · POST /admin/keys · DELETE /admin/keys/{name or id}
"""

from aiohttp import web
from msgspec import structs

from common import clock, http
from common.errors import RefusalError
from common.http import HttpError, json_response
from common.wire.router import KeyList, KeyMade, KeyRevoked, KeyView
from router.keys.keeper import Keeper
from router.keys.orders import Order, OrderError
from router.keys.record import Key, id_of
from router.keys.store import StoreError, TakenError

#: What an order did, for the audit log.
DID: web.RequestKey[dict[str, object]] = web.RequestKey("did", dict)


class KeysApi:
    """`required`: clients are asked for a key."""

    def __init__(self, keeper: Keeper, *, required: bool) -> None:
        self._keeper = keeper
        self._required = required

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/admin/keys", self.list)
        app.router.add_post("/admin/keys", self.create)
        app.router.add_delete("/admin/keys/{which}", self.revoke)

    async def list(self, _: web.Request) -> web.Response:
        try:
            keys = await self._keeper.keys()
        except (StoreError, RefusalError) as why:
            raise _away(why) from why
        now = clock.wall()
        views = [view(key, now) for key in sorted(keys, key=lambda one: (one.name, one.created))]
        return json_response(KeyList(keys=views, required=self._required))

    async def create(self, request: web.Request) -> web.Response:
        order = await http.read_json(request, Order)
        try:
            order.check()
        except OrderError as why:
            raise HttpError(400, str(why), "invalid") from why
        try:
            key, text = await self._keeper.create(order)
        except TakenError as why:
            raise HttpError(409, f"a key named '{order.name}' holds already", "name_taken") from why
        except (StoreError, RefusalError) as why:
            raise _away(why) from why
        did: dict[str, object] = {"key": key.name, "id": key.id, "scope": key.scope.value}
        request[DID] = did
        return json_response(KeyMade(key=view(key, clock.wall()), text=text), 201)

    async def revoke(self, request: web.Request) -> web.Response:
        which = request.match_info["which"]
        which = id_of(which) or which  # pasted whole, it is no word for logs
        try:
            key = await self._keeper.revoke(which)
        except (StoreError, RefusalError) as why:
            raise _away(why) from why
        if key is None:
            raise HttpError(404, f"no key named '{which}' holds", "not_found")
        did: dict[str, object] = {"key": key.name, "id": key.id}
        request[DID] = did
        return json_response(KeyRevoked(key=view(key, clock.wall())))


def _away(why: Exception) -> HttpError:
    return HttpError(503, f"the keys' store is away: {why}", "store_away")


def view(key: Key, now: float) -> KeyView:
    needs, limits = structs.asdict(key.needs), structs.asdict(key.limits)
    budget = structs.asdict(key.budget)
    if key.revoked is not None:
        state = "revoked"
    else:
        state = "expired" if key.expires is not None and key.expires <= now else "active"
    return KeyView(
        id=key.id,
        name=key.name,
        scope=key.scope.value,
        created=clock.wire_time(key.created),
        tenant=key.tenant,
        models=key.models,
        privacy=key.privacy,
        needs={name: value for name, value in needs.items() if value is not None},
        limits={name: value for name, value in limits.items() if value is not None},
        budget={name: value for name, value in budget.items() if value is not None},
        weight=key.weight,
        expires=None if key.expires is None else clock.wire_time(key.expires),
        revoked=None if key.revoked is None else clock.wire_time(key.revoked),
        state=state,
    )
