"""Whether a request's answer may come from the cache, and under which key. Pure.

    chat/completions, completions, messages   `temperature` is stated, and 0; one answer (`n`)
    responses                                 the same, and `store` is stated as false
    embeddings, embedding, rerank, score, classify   always

Never what has effects, or depends on more than the request: a stored or a background response, one
that follows on another, tools that the server runs, a search.

The key is a hash of all that may change the answer: tenant, path and query, the target that the
name resolved to, what the request needs of its upstream, every header but those of `IGNORED`, and
the body. A body up to CANONICAL_BYTES_MAX counts by what it says: neither the order of its keys
nor its spacing matters, `stream: false` is none, and `prompt_cache_key`, which only steers, is left
out. A longer one counts by its bytes. An answer is never shared where two readers could read a body
in two ways: of a key that stands there twice.
"""

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import Struct

from router.needs import Needs

#: Part of every key: another one where entries mean something else than before.
SCHEMA = 1
#: A longer body is not taken apart: that would hold up everybody else for milliseconds.
CANONICAL_BYTES_MAX = 32 * 1024

#: Below the optional `/v1`.
_GENERATE = frozenset({"/chat/completions", "/completions", "/messages", "/responses"})
_COMPUTE = frozenset({"/embeddings", "/embedding", "/rerank", "/score", "/classify"})
PATHS = _GENERATE | _COMPUTE

#: Headers that change no answer: who asks, by which way, and what only the router reads. All
#: others count, whatever they mean.
IGNORED = frozenset(
    {
        "accept-encoding",  # an encoded answer is never kept
        "accept-language",
        "api-key",
        "authorization",
        "baggage",
        "cache-control",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "priority",
        "referer",
        "te",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "user-agent",
        "via",
        "x-api-key",
        "x-creche-explain",
        "x-priority",
        "x-real-ip",
        "x-request-id",
        "x-request-timeout",
        "x-session-id",
    }
)
_IGNORED_PREFIXES = ("x-stainless-", "x-forwarded-", "sec-")

#: Tools that the client runs itself: to name them has no effect.
_CLIENTS_TOOLS = (None, "function", "custom")


class _Body(Struct):
    temperature: Any = None
    n: Any = None
    best_of: Any = None
    store: Any = None
    tools: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    web_search_options: Any = None
    mcp_servers: Any = None
    container: Any = None
    kv_transfer_params: Any = None


_EFFECTS = (
    "background",
    "previous_response_id",
    "conversation",
    "web_search_options",
    "mcp_servers",
    "container",
    "kv_transfer_params",
)

#: Pictures, sounds and files by address or number. Those in the body itself are data: URLs.
_ELSEWHERE = re.compile(
    rb'"(?:url|(?:image|file|audio|video|input_image)_url)"\s*:\s*"(?!data:)|"file_id"\s*:\s*"'
)
_NAME = itemgetter(0)
_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.msgpack.Encoder(order="sorted").encode


class Question(Struct, frozen=True):
    key: bytes
    #: The client wants no older answer; the new one is kept.
    anew: bool = False


def read(
    path: str,
    headers: Iterable[tuple[str, str]],
    body: bytes | None,
    *,
    served: object,
    needs: Needs,
    who: object,
) -> Question | str:
    """The question that a POST asks, or why its answer is never kept, in words.

    `path` is raw, with its query; `headers` are all of them, names in lower case; `body` is None
    where it is no JSON, or above 1 MiB. `served` says which target the name resolved to, `who`
    whose answers these are: other tenants have other ones.
    """
    bare = path.partition("?")[0].removeprefix("/v1")
    if bare not in PATHS:
        return f"answers of {path.partition('?')[0]} are not kept"
    if body is None:
        return "its body is no JSON, or above 1 MiB"
    counted: list[tuple[str, str]] = []
    anew = False
    for name, value in headers:
        if name == "cache-control":
            said = [one.strip().lower() for one in value.split(",")]
            if "no-store" in said:
                return "the request says cache-control: no-store"
            anew = anew or "no-cache" in said or "max-age=0" in said
        elif name not in IGNORED and not name.startswith(_IGNORED_PREFIXES):
            counted.append((name, value))
    if _ELSEWHERE.search(body) is not None:
        return "it names what is kept elsewhere, which may change"
    try:
        why = _refusal(bare, _decode(body))
        if why is not None:
            return why
        if len(body) <= CANONICAL_BYTES_MAX:
            body = _canonical(body)
        # Several of one name stay in their order: which of them counts is the engine's to say.
        key = _encode((SCHEMA, who, path, served, needs, sorted(counted, key=_NAME), body))
    except (ValueError, OverflowError, RecursionError):  # msgspec's are ValueErrors
        return "its body can be read in two ways, or not at all"
    return Question(sha256(key).digest(), anew)


def _refusal(bare: str, said: _Body) -> str | None:
    """Why another answer to the same body may be a different one; None where none can."""
    if bare in _COMPUTE:
        return None
    temperature = said.temperature
    if type(temperature) not in (int, float) or temperature != 0:
        return "temperature is not stated as 0"
    if said.n not in (None, 1) or said.best_of not in (None, 1):
        return "it asks for several answers"
    for name in _EFFECTS:
        if getattr(said, name):
            return f"{name} has effects, or depends on more than the request"
    if said.store or (bare == "/responses" and said.store is not False):
        return "the engine stores the answer: store is not false"
    if bare == "/responses" and said.prompt:
        return "prompt names a text that is kept elsewhere"
    if said.tools and not _clients_own(said.tools):
        return "it names tools that the server runs"
    return None


def _clients_own(tools: Any) -> bool:
    return isinstance(tools, list) and all(
        isinstance(one, dict) and one.get("type") in _CLIENTS_TOOLS for one in tools
    )


def _canonical(body: bytes) -> bytes:
    """What the body says. Raises ValueError where that depends on who reads it.

    A number with a point or an exponent stays as it is written, as bytes: texts are never that.
    """
    said = json.loads(
        body.decode(),
        object_pairs_hook=_object,
        parse_float=str.encode,
        parse_constant=_refuse,
    )
    if not isinstance(said, dict):
        raise ValueError("no object")
    if not said.get("stream"):
        said.pop("stream", None)
    said.pop("prompt_cache_key", None)
    return _encode(said)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
