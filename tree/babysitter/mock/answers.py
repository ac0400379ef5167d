"""What a mock engine answers to a request, before any fault. Decides; touches no socket."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec import Struct

from babysitter.mock import shapes, text
from babysitter.mock.faults import Faults
from babysitter.mock.multipart import form_fields
from babysitter.mock.settings import Settings

#: Answers to `POST /v1/responses` that `GET /v1/responses/{id}` still finds.
RESPONSES_KEPT_MAX = 1000

JSON = b"application/json"


class Request(Struct, kw_only=True):
    """One received request. Header names are lower case; `headers` keeps their order."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool
    http10: bool

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: bytes) -> str | None:
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None


class Plain(Struct, frozen=True):
    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Stream(Struct, frozen=True):
    """Server-Sent Events, made as they are sent; `pace_s` between them.

    `closing` is what a client waits for as the end: `[DONE]`, or nothing where the last event
    says so.
    """

    events: Iterator[bytes]
    closing: bytes
    pace_s: float
    status: int = 200


Answer = Plain | Stream


class Refused(Exception):
    """The engine's own refusal of a request, as an answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.answer = Plain(status, shapes.error(status, message, code=code))


_PATHS_OF_CONTROL = frozenset({"/health", "/metrics", "/models", "/api/tags", "/props", "/version"})


def strip_v1(path: str) -> str:
    return path[3:] if path.startswith("/v1/") else path


def is_control(path: str) -> bool:
    """Whether this path is asked by probes rather than by clients' work."""
    path = strip_v1(path)
    return path in _PATHS_OF_CONTROL or path.startswith(("/models/", "/mock/"))


def parse_body(request: Request) -> dict[str, Any]:
    """The body's fields: a JSON object, or a multipart form. {} when there is no body.

    Raises Refused with 400.
    """
    if not request.body:
        return {}
    kind = request.header(b"content-type") or ""
    if kind.startswith("multipart/"):
        return dict(form_fields(kind, request.body))
    try:
        body = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    return body


class Answers:
    """Answers for one engine. Owns the counter of ids and the kept responses."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._number = 0
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._makers = {
            "/chat/completions": self._chat,
            "/completions": self._completion,
            "/embeddings": self._embeddings,
            "/embedding": self._legacy_embedding,
            "/responses": self._respond,
            "/messages": self._message,
            "/audio/transcriptions": self._transcribe,
            "/audio/translations": self._transcribe,
        }

    def model_of(self, body: dict[str, Any]) -> str:
        """The model meant: the body's, else the first served. Raises Refused with 404."""
        model = body.get("model")
        if model is None:
            return self._settings.models[0]
        if not isinstance(model, str):
            raise Refused(400, "model is not a string")
        if model not in self._settings.models and not self._settings.any_model:
            raise Refused(404, f"The model `{model}` does not exist.", "model_not_found")
        return model

    def control(self, request: Request, wall_s: float) -> Plain | None:
        """The answer of a path that probes ask, but for those that need the engine's counts."""
        settings = self._settings
        match strip_v1(request.path):
            case "/models":
                data = [
                    shapes.model_object(model, settings.name, int(wall_s), settings.max_model_len)
                    for model in settings.models
                ]
                return Plain(200, msgspec.json.encode({"object": "list", "data": data}))
            case "/api/tags":
                return Plain(200, shapes.tags(settings.models))
            case "/version":
                return Plain(200, b'{"version":"0.1.0"}')
            case "/props":
                props = {"total_slots": settings.max_concurrency or 1, "model_path": "mock"}
                return Plain(200, msgspec.json.encode(props))
        if strip_v1(request.path).startswith("/models/"):
            model = unquote(strip_v1(request.path)[len("/models/") :])
            if model not in settings.models:
                raise Refused(404, f"The model `{model}` does not exist.", "model_not_found")
            found = shapes.model_object(model, settings.name, int(wall_s), settings.max_model_len)
            return Plain(200, msgspec.json.encode(found))
        return None

    def answer(
        self, request: Request, body: dict[str, Any], model: str, faults: Faults, wall_s: float
    ) -> Answer:
        """The answer of a path that does work. Raises Refused."""
        path = strip_v1(request.path)
        maker = self._makers.get(path)
        if maker is not None:
            if request.method != "POST":
                raise Refused(405, f"{request.method} is not allowed here")
            return maker(body, model, faults, wall_s)
        if path.startswith("/responses/"):
            return self._kept_response(request.method, path)
        return self._echo(request, model)

    # ---- one maker per path

    def _said(
        self,
        body: dict[str, Any],
        model: str,
        heard: Sequence[str],
        faults: Faults,
        wall_s: float,
        first: int = 0,
        prompt_ids: list[int] | None = None,
    ) -> shapes.Said:
        """What is said from the answer's token `first` on."""
        settings = self._settings
        self._number += 1
        whole = max((settings.tokens if faults.tokens is None else faults.tokens) - first, 0)
        count = whole
        for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            limit = body.get(key)
            if isinstance(limit, int) and 0 < limit < count:
                count = limit
        name = self._speaker
        return shapes.Said(
            name=settings.name,
            model=model,
            number=self._number,
            created=int(wall_s),
            tokens=islice(text.tokens(name, model, heard, first + count), first, None),
            count=count,
            prompt_tokens=sum(text.token_count(part) for part in heard) + first,
            cut_short=count < whole,
            first=first,
            prompt_ids=prompt_ids,
        )

    @property
    def _speaker(self) -> str | None:
        return None if self._settings.anonymous else self._settings.name

    def _pace(self, faults: Faults) -> float:
        return (self._settings.pace_ms if faults.pace_ms is None else faults.pace_ms) / 1000

    def _chat(self, body: dict[str, Any], model: str, faults: Faults, wall_s: float) -> Answer:
        heard = _heard(body.get("messages"))
        first = 0
        if body.get("continue_final_message") is True:
            if body.get("add_generation_prompt") is not False:
                raise Refused(400, "continue_final_message wants add_generation_prompt: false")
            begun = _content(body["messages"][-1].get("content"))
            first = text.said_tokens(self._speaker, model, heard, begun)
        said = self._said(body, model, heard, faults, wall_s, first)
        if body.get("stream") is True:
            events = shapes.chat_events(said, _wants_usage(body))
            return Stream(events, shapes.DONE, self._pace(faults))
        return Plain(200, shapes.chat(said))

    def _completion(
        self, body: dict[str, Any], model: str, faults: Faults, wall_s: float
    ) -> Answer:
        prompt: Any = body.get("prompt")
        heard, first = _texts(prompt, "prompt"), 0
        if _are_ids(prompt):
            given = [one for one in prompt if one < text.ANSWER_IDS]
            heard, first = [text.of_prompt_ids(given)], len(prompt) - len(given)
        elif len(heard) == 1:
            # A prompt that goes on with what this engine would say is an answer begun elsewhere.
            asked, speaker, rest = heard[0].partition(f"{self._speaker or 'mock'}:")
            if speaker:
                heard = [asked]
                first = text.said_tokens(self._speaker, model, heard, speaker + rest)
        ids = None
        if body.get("return_token_ids") is True:
            ids = prompt if _are_ids(prompt) else text.prompt_ids(heard[0])
        said = self._said(body, model, heard, faults, wall_s, first, ids)
        if body.get("stream") is True:
            events = shapes.completion_events(said, _wants_usage(body))
            return Stream(events, shapes.DONE, self._pace(faults))
        return Plain(200, shapes.completion(said))

    def _respond(self, body: dict[str, Any], model: str, faults: Faults, wall_s: float) -> Answer:
        given = body.get("input")
        heard = _heard(given) if isinstance(given, list) else _texts(given, "input")
        said = self._said(body, model, heard, faults, wall_s)
        if body.get("stream") is True:
            return Stream(shapes.response_events(said), b"", self._pace(faults))
        made = shapes.response(said)
        self._kept[made["id"]] = made
        while len(self._kept) > RESPONSES_KEPT_MAX:
            self._kept.popitem(last=False)
        return Plain(200, msgspec.json.encode(made))

    def _kept_response(self, method: str, path: str) -> Plain:
        """GET, DELETE, cancel and input_items: known only to the engine that made it."""
        response_id, _, verb = path[len("/responses/") :].partition("/")
        made = self._kept.get(response_id)
        if made is None:
            raise Refused(404, f"Response with id '{response_id}' not found.")
        if method == "DELETE":
            del self._kept[response_id]
            gone = {"id": response_id, "object": "response", "deleted": True}
            return Plain(200, msgspec.json.encode(gone))
        if verb == "input_items":
            return Plain(200, b'{"object":"list","data":[],"has_more":false}')
        return Plain(200, msgspec.json.encode(made))

    def _message(self, body: dict[str, Any], model: str, faults: Faults, wall_s: float) -> Answer:
        said = self._said(body, model, _heard(body.get("messages")), faults, wall_s)
        if body.get("stream") is True:
            return Stream(shapes.message_events(said), b"", self._pace(faults))
        return Plain(200, shapes.message(said))

    def _vectors(self, given: Any, model: str, key: str) -> tuple[list[list[float]], int]:
        texts = _texts(given, key)
        dim = self._settings.embedding_dim
        vectors = [text.embedding(model, part, dim) for part in texts]
        return vectors, sum(text.token_count(part) for part in texts)

    def _embeddings(
        self, body: dict[str, Any], model: str, faults: Faults, wall_s: float
    ) -> Answer:
        vectors, prompt_tokens = self._vectors(body.get("input"), model, "input")
        if body.get("encoding_format") == "base64":  # what OpenAI's SDK asks for by default
            return Plain(200, shapes.embeddings_base64(model, vectors, prompt_tokens))
        return Plain(200, shapes.embeddings(model, vectors, prompt_tokens))

    def _legacy_embedding(
        self, body: dict[str, Any], model: str, faults: Faults, wall_s: float
    ) -> Answer:
        vectors, _ = self._vectors(body.get("content", body.get("input")), model, "content")
        return Plain(200, shapes.legacy_embedding(vectors))

    def _transcribe(
        self, body: dict[str, Any], model: str, faults: Faults, wall_s: float
    ) -> Answer:
        file = body.get("file")
        if not isinstance(file, str | bytes):
            raise Refused(400, "file is required")
        heard = f"{self._settings.name} heard {len(file)} bytes with {model}"
        return Plain(200, msgspec.json.encode({"text": heard, "model": model}))

    def _echo(self, request: Request, model: str) -> Plain:
        """Whatever else is asked comes back as it arrived: so a relay can be looked through."""
        arrived = {
            "mock": self._settings.name,
            "model": model,
            "method": request.method,
            "path": request.path,
            "query": request.target.partition("?")[2],
            "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in request.headers],
            "body_bytes": len(request.body),
            "body": request.body[:4096].decode("utf-8", "replace"),
        }
        return Plain(200, msgspec.json.encode(arrived))


def query_model(request: Request) -> str | None:
    """The `model` of a query: how a WebSocket names it."""
    found = parse_qs(request.target.partition("?")[2]).get("model")
    return found[0] if found else None


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _heard(messages: Any) -> list[str]:
    """What the user said in a list of messages, oldest first. Raises Refused with 400."""
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages is required: a list with at least one message")
    heard = []
    for message in messages:
        if not isinstance(message, dict):
            raise Refused(400, "a message is not an object")
        if message.get("role") in ("user", None):
            heard.append(_content(message.get("content")))
    return heard


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return " ".join(part for part in parts if isinstance(part, str))
    return ""


def _texts(given: Any, key: str) -> list[str]:
    """One text, many, or token ids. Raises Refused with 400."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if _are_ids(given):
            return [_joined(given)]
        return [item if isinstance(item, str) else _joined(item) for item in given]
    raise Refused(400, f"{key} is required")


def _are_ids(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(item, int) for item in given)


def _joined(ids: Any) -> str:
    return " ".join(map(str, ids)) if isinstance(ids, list) else str(ids)
