"""What a method and a raw path mean: ours or relayed, which capability, which error shape. Pure.

Control paths match the raw path exactly (no decoding, no trailing slash): GET and HEAD of those
listed, POST of `/explain`, and all of `/admin/`. Every other path and method is relayed.
"""

from enum import Enum


class Kind(Enum):
    RELAY = "relay"
    CONTROL = "control"
    #: Lives on `control_listen` where that is set: 404 on the public port, never relayed.
    OPERATOR = "operator"


class Family(Enum):
    """Whose dialect the route speaks: decides the shape of errors, plain and in-band."""

    CHAT = "chat"  # OpenAI: chat, completions and everything without a dialect of its own
    RESPONSES = "responses"
    MESSAGES = "messages"  # Anthropic


class Route:
    """`inference`: asking twice is harmless, so it may be retried after bytes were sent."""

    __slots__ = (
        "capability",
        "events",
        "family",
        "for_users",
        "inference",
        "kind",
        "retry_after_sent",
        "takes_model",
    )

    def __init__(
        self,
        kind: Kind,
        *,
        capability: str | None = None,
        family: Family = Family.CHAT,
        inference: bool = False,
        retry_after_sent: bool = False,
        takes_model: bool = False,
        for_users: bool = False,
        events: bool = False,
    ) -> None:
        self.kind = kind
        self.capability = capability
        self.family = family
        self.inference = inference
        #: Whether another attempt is allowed once bytes of the request reached an upstream.
        self.retry_after_sent = retry_after_sent
        #: POST: the body may name a model. GET never parses a body.
        self.takes_model = takes_model
        #: With `stream: true` it is answered by server-sent events, for certain.
        self.events = events
        #: What a key is for that may only use models. The rest could delete or pull one, or show
        #: others' prompts, and wants an operator's.
        self.for_users = inference or for_users


GENERATE, EMBED, TRANSCRIBE = "generate", "embed", "transcribe"
SYNTHESIZE, CODE, IMAGE_GEN = "synthesize", "code", "image_gen"
CAPABILITIES = frozenset({TRANSCRIBE, SYNTHESIZE, GENERATE, CODE, EMBED, IMAGE_GEN})

#: Below the optional `/v1`. What is not here still passes, as a path without capability.
_INFERENCE: dict[str, str | None] = {
    "/chat/completions": GENERATE,
    "/completions": GENERATE,
    "/responses": GENERATE,
    "/messages": GENERATE,
    "/messages/count_tokens": GENERATE,
    "/embeddings": EMBED,
    "/audio/transcriptions": TRANSCRIBE,
    "/audio/translations": TRANSCRIBE,
    "/audio/speech": SYNTHESIZE,
    "/images/generations": IMAGE_GEN,
    "/images/edits": IMAGE_GEN,
    "/images/variations": IMAGE_GEN,
    "/moderations": None,
    "/rerank": None,
    "/score": None,
    "/classify": None,
    "/tokenize": None,
    "/detokenize": None,
    # llama.cpp's own
    "/completion": None,
    "/embedding": None,
    "/infill": None,
    "/apply-template": None,
    # Ollama's own that only compute
    "/api/chat": None,
    "/api/generate": None,
    "/api/embed": None,
    "/api/embeddings": None,
}

#: What tells of models, or of the asker's own requests, without being inference.
_FOR_USERS = frozenset({"/api/tags", "/api/show", "/api/version", "/realtime"})
_OF_USERS = ("/responses/", "/images/")

#: Others stream as well, but not always, or not so (Ollama's are lines of JSON).
_EVENTS = frozenset({"/chat/completions", "/completions", "/responses", "/messages"})

_CONTROL = ("/health", "/status", "/ready", "/stats", "/services", "/models", "/v1/models")
_OPERATOR = ("/metrics", "/explain", "/dashboard")
_ONE_MODEL = "/v1/models/"
_ADMIN = "/admin/"

_CONTROL_ROUTE = Route(Kind.CONTROL)
_OPERATOR_ROUTE = Route(Kind.OPERATOR)
_READ = Route(Kind.RELAY, retry_after_sent=True)
_USERS_READ = Route(Kind.RELAY, retry_after_sent=True, for_users=True)
_WRITE = Route(Kind.RELAY)
_POST = Route(Kind.RELAY, takes_model=True)


def _family(path: str) -> Family:
    if path == "/responses" or path.startswith("/responses/"):
        return Family.RESPONSES
    if path == "/messages" or path.startswith("/messages/"):
        return Family.MESSAGES
    return Family.CHAT


def _known() -> dict[str, Route]:
    routes: dict[str, Route] = {}
    for path in _CONTROL:
        routes["GET " + path] = routes["HEAD " + path] = _CONTROL_ROUTE
    for path in _OPERATOR:
        routes["GET " + path] = routes["HEAD " + path] = _OPERATOR_ROUTE
    routes["POST /explain"] = _OPERATOR_ROUTE
    for path, capability in _INFERENCE.items():
        route = Route(
            Kind.RELAY,
            capability=capability,
            family=_family(path),
            inference=True,
            retry_after_sent=True,
            takes_model=True,
            events=path in _EVENTS,
        )
        routes["POST " + path] = routes["POST /v1" + path] = route
    return routes


_KNOWN = _known()


def resolve(method: str, path: str) -> Route:
    """The route of a raw path (without its query). Never fails: what is unknown is relayed."""
    return _KNOWN.get(f"{method} {path}") or _unlisted(method, path)


def _unlisted(method: str, path: str) -> Route:
    if path.startswith(_ADMIN):
        return _OPERATOR_ROUTE
    if method in ("GET", "HEAD"):
        if path.startswith(_ONE_MODEL) and len(path) > len(_ONE_MODEL):
            return _CONTROL_ROUTE
        return _USERS_READ if _is_for_users(path) else _READ
    takes_model, for_users = method == "POST", _is_for_users(path)
    bare = path.removeprefix("/v1")
    family = _family(bare)
    if not for_users and family is Family.CHAT:
        return _POST if takes_model else _WRITE
    return Route(
        Kind.RELAY,
        capability=IMAGE_GEN if bare.startswith("/images/") else None,
        family=family,
        takes_model=takes_model,
        for_users=for_users,
    )


def _is_for_users(path: str) -> bool:
    bare = path.removeprefix("/v1")
    return bare in _FOR_USERS or bare == "/responses" or bare.startswith(_OF_USERS)


def is_capability(text: str) -> bool:
    """Whether header `x-creche-capability` may hold `text`."""
    return text in CAPABILITIES or (text.startswith("custom:") and len(text) > 7)
