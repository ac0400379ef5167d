"""Who asks: what a client's key stands for, as far as deciding may know. Pure.

    key ─ KeyRing.find ─▶ Caller ─▶ may it use this route, this model? ─▶ needs, limits, its share

Where no keys are wanted everybody is ANYBODY, who may use all and is counted nowhere.
"""

from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import Any

from router.errors import Problem
from router.named import Budget, Limits


class Scope(Enum):
    """What a key may do. Each one includes those before it."""

    #: Ask models, and list them.
    USE = "use"
    #: Read stats, services and metrics.
    READ = "read"
    #: All the operator's paths, and routes of engines that are not inference.
    ADMIN = "admin"


#: How urgent a request is, as `x-priority` says it: the most urgent first.
BANDS = ("high", "normal", "low")
_RANKS = {scope: rank for rank, scope in enumerate(Scope)}


class Caller:
    """Compared by identity: one for each life of a key."""

    __slots__ = (
        "band_max",
        "budget",
        "counted",
        "expires",
        "id",
        "is_anybody",
        "limits",
        "models",
        "name",
        "needs",
        "prefixes",
        "privacy",
        "scope",
        "tenant",
        "wanted",
        "weight",
    )

    def __init__(
        self,
        name: str,
        *,
        id: str = "",
        tenant: str | None = None,
        scope: Scope = Scope.USE,
        models: Iterable[str] = (),
        privacy: int | None = None,
        needs: dict[str, object] | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
        weight: float = 1.0,
        band_max: int = 0,
        expires: float = inf,
    ) -> None:
        #: What logs, counts and limits call it; empty: nobody in particular.
        self.name = name
        self.id = id
        self.tenant = tenant
        self.scope = scope
        patterns = tuple(models)
        #: Names that it may ask for, and beginnings of such names. None: all.
        self.models = frozenset(patterns) if patterns else None
        self.prefixes = tuple(one[:-1] for one in patterns if one.endswith("*"))
        #: Its requests are never less private than this, whatever their headers say.
        self.privacy = privacy
        #: Fields of Needs of a request that says nothing, in the place of the configuration's.
        self.needs = needs or None
        #: None: it has none of its own.
        self.limits = None if limits == Limits() else limits
        self.budget = None if budget == Budget() else budget
        #: Its share where requests wait, beside other callers' of the same priority.
        self.weight = weight
        #: Index in BANDS of the most urgent that its requests may be.
        self.band_max = band_max
        #: Unix seconds.
        self.expires = expires
        self.is_anybody = False
        #: What its requests are counted by: a memo of `Limiters`.
        self.counted: tuple[object, Any] = (None, None)
        #: A configuration's defaults, and the needs of this caller made from them: a memo.
        self.wanted: tuple[object, object] = (None, None)

    def may(self, scope: Scope) -> bool:
        return _RANKS[self.scope] >= _RANKS[scope]

    def may_ask_for(self, model: str) -> bool:
        return self.models is None or model in self.models or model.startswith(self.prefixes)


def _anybody() -> Caller:
    found = Caller("", scope=Scope.USE)
    found.is_anybody = True
    return found


#: Who asks where no keys are wanted.
ANYBODY = _anybody()

NO_KEY = Problem(
    401,
    "No API key was given. Send it as  Authorization: Bearer <key>",
    code="invalid_api_key",
    type="invalid_request_error",
)
WRONG_KEY = Problem(
    401, "Incorrect API key provided", code="invalid_api_key", type="invalid_request_error"
)


def expired(caller: Caller) -> Problem:
    return Problem(
        401,
        f"The API key '{caller.name}' has expired",
        code="invalid_api_key",
        type="invalid_request_error",
    )


def lacks_scope(caller: Caller, what: str, scope: Scope) -> Problem:
    """`what`: "DELETE /api/delete"."""
    return Problem(
        403,
        f"{what} wants a key with the scope '{scope.value}';"
        f" '{caller.name}' has '{caller.scope.value}'",
        code="insufficient_scope",
        type="permission_error",
        should_retry=False,
    )


def may_not_ask_for(caller: Caller, model: str) -> Problem:
    return Problem(
        403,
        f"The API key '{caller.name}' may not use the model '{model}'",
        code="model_not_allowed",
        type="permission_error",
        param="model",
        should_retry=False,
    )


def names_no_model(caller: Caller) -> Problem:
    """Of a key that may use certain models: what it gets without naming one is not known."""
    return Problem(
        400,
        f"A model must be named: the API key '{caller.name}' may use certain models alone",
        code="model_required",
        type="invalid_request_error",
        param="model",
    )
