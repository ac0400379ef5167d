"""Who may use the router's own paths, and what for.

    open to all     /health /status /ready
    use             /models and what is below, where keys are wanted; else open to all
    read            /stats /services /metrics, and what is told of usage
    admin           everything else

The cluster token may do all of it. Where no token is wanted (loopback, auth = "none"), whoever
reaches these paths may.
"""

from collections.abc import Mapping

from common import auth, clock
from router import caller
from router.caller import Caller, Scope
from router.errors import Problem, RequestError
from router.keys.ring import KeyRing, given
from router.seam import Fields

OPEN = frozenset({"/health", "/status", "/ready"})
READ = frozenset({"/stats", "/services", "/metrics", "/admin/usage"})
_MODELS = ("/models", "/v1/models")
_ONE_MODEL = "/v1/models/"

#: Who has the cluster token, and who reaches paths that want none.
OPERATOR = Caller("the cluster token", scope=Scope.ADMIN)
WHOEVER = Caller("anyone", scope=Scope.ADMIN)

_NO_TOKEN = Problem(
    401,
    "a valid token is wanted: Authorization: Bearer <token>",
    code="unauthorized",
    type="invalid_request_error",
)


class Door:
    """A reload changes `token` and `plain`, the keys' keeper `ring` (None: no keys are wanted)."""

    def __init__(self, token: str | None, *, plain: bool = False) -> None:
        self.token = token
        self.ring: KeyRing | None = None
        #: `error_shape = "plain"`.
        self.plain = plain

    def lets_in(self, headers: Fields | Mapping[str, str]) -> bool:
        """Whether who sent these with a request for a model may have its answer explained."""
        if self.token is None:
            return self.ring is None
        return auth.is_bearer(headers.get("authorization"), self.token)

    def admit(self, method: str, path: str, headers: Mapping[str, str]) -> Caller:
        """Who asks for one of the router's own paths. Raises RequestError (401, 403)."""
        scope = self._wanted(path)
        token, ring = self.token, self.ring
        if scope is None or token is None:
            return WHOEVER
        if auth.is_bearer(headers.get("authorization"), token):
            return OPERATOR
        if ring is None or not given(headers):
            raise RequestError(caller.NO_KEY if scope is Scope.USE else _NO_TOKEN)
        found = ring.identify(headers, clock.wall())
        if not found.may(scope):
            raise RequestError(caller.lacks_scope(found, f"{method} {path}", scope))
        return found

    def _wanted(self, path: str) -> Scope | None:
        if path in OPEN:
            return None
        if path in _MODELS or path.startswith(_ONE_MODEL):
            return None if self.ring is None else Scope.USE
        return Scope.READ if path in READ else Scope.ADMIN
