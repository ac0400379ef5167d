"""What a provider's base_url and type mean: where it is, how a request's path joins its own, how
its key is sent, what a probe asks for. Pure.

    base_url https://api.x.com/v1         /v1/chat/completions, /chat/completions ─▶ /v1/chat/…
    base_url https://x.com/api/openai/v1  the same, under /api/openai/v1
    base_url http://h:11434/v1, ollama    the same, and /api/tags ─▶ /api/tags: an engine's own
                                          routes stand beside /v1
"""

import re
from urllib.parse import quote, urlsplit

from msgspec import Struct

from common.address import parse_http_url
from common.wire.registry import TYPE_OPENAI
from router.named import Provider

#: What may stand in a path as it is.
PATH_SAFE = "/%:@!$&'()*+,;=~"
#: Servers with routes of their own beside those under /v1.
_ENGINES = frozenset({"ollama", "vllm", "llama_cpp", "infinilm"})
#: Whose routes are all under /v1, whether or not a base_url says so.
_ONLY_V1 = frozenset({"ollama", "vllm", "openai", "anthropic"})
#: First parts of the paths that stand under /v1.
_OF_V1 = frozenset(
    b"chat completions embeddings responses messages models audio images moderations files batches"
    b" uploads fine_tuning assistants threads vector_stores realtime".split()
)
#: A version in a path, like v1, v4 or v1beta: the request's own /v1 would be a second one.
_VERSION = re.compile(r"/v\d+[a-z]*\d*(?=/|\Z)")
_PROBES = {"ollama": "/api/tags", "vllm": "/health", "llama_cpp": "/health", "infinilm": "/health"}


class Paths:
    """How a request's target becomes the upstream's. `prefix` goes before it."""

    __slots__ = ("_adds_v1", "_prefix", "_strips_v1", "prefix")

    def __init__(self, prefix: str, *, strips_v1: bool = False, adds_v1: bool = False) -> None:
        self.prefix = prefix
        self._prefix = prefix.encode("latin-1")
        #: The prefix has a version: a request's own /v1 goes.
        self._strips_v1 = strips_v1
        #: A request for one of the routes under /v1 gets it where it lacks it.
        self._adds_v1 = adds_v1

    def under(self, target: bytes) -> bytes:
        """`target` is a path with its query, as it came."""
        if self._strips_v1:
            if target.startswith(b"/v1/"):
                return self._prefix + target[3:]
        elif self._adds_v1:
            first = target[1:].partition(b"?")[0].partition(b"/")[0]
            if first in _OF_V1:
                return b"%b/v1%b" % (self._prefix, target)
        return self._prefix + target


class Key:
    """A header that proves who asks. Shown nowhere."""

    __slots__ = ("header", "value")

    def __init__(self, header: str, value: str) -> None:
        self.header = header
        self.value = value

    def __repr__(self) -> str:
        return "<Key [hidden]>"


class Endpoint(Struct, frozen=True):
    host: str
    port: int
    tls: bool
    #: None: a request's path is the upstream's.
    paths: Paths | None
    #: What a probe asks for, with its prefix.
    probe: str


def endpoint(provider: Provider) -> Endpoint:
    """Raises ValueError that says what is wrong with the base_url."""
    where = parse_http_url(provider.base_url)
    parts = urlsplit(provider.base_url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds a user or a password")
    if parts.query or parts.fragment:
        raise ValueError(f'"{provider.base_url}" goes on after its path')
    paths = _paths(provider.type, quote(parts.path.rstrip("/"), safe=PATH_SAFE, errors="replace"))
    probe = paths.prefix + _PROBES.get(provider.type, "")
    if provider.type not in _PROBES:
        probe = paths.under(b"/v1/models").decode("latin-1")
    return Endpoint(where.host, where.port, parts.scheme == "https", paths, probe)


def _paths(type: str, path: str) -> Paths:
    if type in _ENGINES:
        root = path.removesuffix("/v1")
        return Paths(root, adds_v1=root != path or type in _ONLY_V1)
    versioned = _VERSION.search(path) is not None
    return Paths(path, strips_v1=versioned, adds_v1=not path and type in _ONLY_V1)


def key(provider: Provider, value: str) -> Key:
    if provider.type == "anthropic":
        return Key("x-api-key", value)
    return Key("Authorization", f"Bearer {value}")


def metadata(provider: Provider) -> dict[str, object]:
    """As a registered service would declare it."""
    found: dict[str, object] = {
        "type": TYPE_OPENAI,
        "provider": provider.type,
        "models": list(provider.models),
        "capabilities": list(provider.capabilities),
        "region": provider.region,
        "privacy": provider.privacy,
        "cost": provider.cost.relative,
        "input_per_million": provider.cost.input_per_million,
        "cached_per_million": provider.cost.cached_per_million,
        "output_per_million": provider.cost.output_per_million,
        "context_tokens": provider.context_tokens,
        "priority": provider.priority,
        "max_concurrency": provider.limits.max_concurrency,
    }
    return {name: value for name, value in found.items() if value is not None}
