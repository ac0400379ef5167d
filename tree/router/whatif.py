"""The request that /explain is asked about, made without one being sent. Pure.

GET  /explain?model=code&stream=true&path=/v1/chat/completions
POST /explain?path=/v1/chat/completions     the body as it would be sent, its headers as well
"""

from collections.abc import Mapping

from router import envelope
from router.envelope import EMPTY, Envelope
from router.errors import RequestError, invalid
from router.route import Kind, resolve
from router.seam import Ask

DEFAULT_PATH = "/v1/chat/completions"
_TRUE = ("1", "true", "yes")


def ask(
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes | None,
    client: str,
    now: float,
) -> Ask:
    """Raises RequestError where the request itself would be refused. `body` None: a GET."""
    path = query.get("path", DEFAULT_PATH)
    route = resolve("POST", path)
    if route.kind is not Kind.RELAY:
        raise RequestError(invalid(f"{path} is answered by the router itself", param="path"))
    if body:
        said = envelope.read(route, headers.get("content-type", "application/json"), body, path)
    else:
        model = query.get("model") or None
        stream = query.get("stream", "").lower() in _TRUE
        said = Envelope(model, stream) if model or stream else EMPTY
    fields = {name.lower(): value for name, value in headers.items()}
    return Ask("explain", "POST", path, route, fields, said, client, len(body or b""), now)
