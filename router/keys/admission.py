"""Whether who sent a head may use its route. Pure: time is given.

A client that repeats its head on one connection is looked up once for each ring.
"""

from typing import Protocol

from router import caller
from router.caller import Caller, Scope
from router.errors import RequestError
from router.keys.ring import KeyRing
from router.route import Route
from router.seam import Fields


class Asked(Protocol):
    """A request's head, as far as this is about it."""

    method: str
    path: str
    websocket: bool
    caller: Caller
    admitted_by: object

    @property
    def fields(self) -> Fields: ...


def admit(ring: KeyRing, head: Asked, route: Route, wall: float) -> None:
    """Notes on the head who sent it. Raises RequestError (401, 403). `wall`: unix seconds."""
    if head.admitted_by is ring and wall < head.caller.expires:
        return
    found = ring.identify(head.fields, wall)
    # What a tunnel asks for nobody sees: but for this one, which says it in its query.
    opaque = head.websocket and not head.path.endswith("/realtime")
    if (opaque or not route.for_users) and not found.may(Scope.ADMIN):
        raise RequestError(caller.lacks_scope(found, f"{head.method} {head.path}", Scope.ADMIN))
    head.caller = found
    head.admitted_by = ring
