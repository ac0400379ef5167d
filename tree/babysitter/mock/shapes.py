"""The JSON that engines answer with: OpenAI's, Anthropic's, Ollama's and llama.cpp's. Pure."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from struct import pack
from typing import Any

from msgspec import Struct
from msgspec.json import encode

from babysitter.mock.faults import ErrorShape
from babysitter.mock.text import ANSWER_IDS

DONE = b"data: [DONE]\n\n"


class Said(Struct, frozen=True, kw_only=True):
    """One generated answer: what every shape below is made of."""

    name: str
    model: str
    number: int
    created: int
    tokens: Iterator[str]
    count: int
    prompt_tokens: int
    cut_short: bool
    """the request asked for fewer tokens than there are: finish_reason `length`"""
    first: int = 0
    """the place of its first token in the whole answer, where that was begun elsewhere"""
    prompt_ids: list[int] | None = None
    """token ids were asked for"""

    @property
    def finish(self) -> str:
        return "length" if self.cut_short else "stop"

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.count,
            "total_tokens": self.prompt_tokens + self.count,
        }


def event(data: Any, name: str | None = None) -> bytes:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + encode(data) + b"\n\n"


# ---- chat and completions


def chat(said: Said) -> bytes:
    message = {"role": "assistant", "content": "".join(said.tokens)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": said.finish}
    return encode(_envelope(said, "chat.completion", "chatcmpl", [choice]) | {"usage": said.usage})


def completion(said: Said) -> bytes:
    text = "".join(said.tokens)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": said.finish}
    return encode(_envelope(said, "text_completion", "cmpl", [choice]) | {"usage": said.usage})


def chat_events(said: Said, with_usage: bool) -> Iterator[bytes]:
    """Role, one event per token, finish, and usage when asked for. Not `[DONE]`."""

    def chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _envelope(said, "chat.completion.chunk", "chatcmpl", [choice])

    yield event(chunk({"role": "assistant", "content": ""}, None))
    # encoded once: a benchmark's upstream sends thousands of these a second
    before, after = event(chunk({"content": "\0"}, None)).split(b'"\\u0000"')
    for token in said.tokens:
        yield before + encode(token) + after
    yield event(chunk({}, said.finish))
    if with_usage:
        empty = _envelope(said, "chat.completion.chunk", "chatcmpl", [])
        yield event(empty | {"usage": said.usage})


def completion_events(said: Said, with_usage: bool) -> Iterator[bytes]:
    def chunk(text: str, finish: str | None, **ids: list[int]) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, **ids}
        return _envelope(said, "text_completion", "cmpl", [choice])

    for at, token in enumerate(said.tokens, ANSWER_IDS + said.first):
        ids = {} if said.prompt_ids is None else {"token_ids": [at]}
        if said.prompt_ids is not None and at == ANSWER_IDS + said.first:
            ids["prompt_token_ids"] = said.prompt_ids
        yield event(chunk(token, None, **ids))
    yield event(chunk("", said.finish))
    if with_usage:
        yield event(_envelope(said, "text_completion", "cmpl", []) | {"usage": said.usage})


def _envelope(said: Said, kind: str, prefix: str, choices: list[Any]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{said.name}-{said.number}",
        "object": kind,
        "created": said.created,
        "model": said.model,
        "system_fingerprint": said.name,
        "choices": choices,
    }


# ---- OpenAI's responses


def response(said: Said) -> dict[str, Any]:
    return _response(said, "completed", "".join(said.tokens))


def _response(said: Said, status: str, text: str | None) -> dict[str, Any]:
    item = f"msg-{said.name}-{said.number}"
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "type": "message",
        "id": item,
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    usage = {
        "input_tokens": said.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said.count,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.prompt_tokens + said.count,
    }
    return {
        "id": response_id(said),
        "object": "response",
        "created_at": said.created,
        "status": status,
        "model": said.model,
        "metadata": {"mock": said.name},
        "output": [] if text is None else [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if text is None else usage,
    }


def response_id(said: Said) -> str:
    return f"resp-{said.name}-{said.number}"


def response_events(said: Said) -> Iterator[bytes]:
    """All events up to and with `response.completed`."""
    place = {"item_id": f"msg-{said.name}-{said.number}", "output_index": 0, "content_index": 0}
    number = 0

    def numbered(kind: str, body: dict[str, Any]) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **body}, kind)

    yield numbered("response.created", {"response": _response(said, "in_progress", None)})
    text = []
    for token in said.tokens:
        text.append(token)
        yield numbered("response.output_text.delta", {**place, "delta": token, "logprobs": []})
    whole = "".join(text)
    yield numbered("response.output_text.done", {**place, "text": whole, "logprobs": []})
    yield numbered("response.completed", {"response": _response(said, "completed", whole)})


# ---- Anthropic's messages


def message(said: Said) -> bytes:
    return encode(_message(said, "".join(said.tokens)))


def _message(said: Said, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg-{said.name}-{said.number}",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": None if text is None else _stop_reason(said),
        "stop_sequence": None,
        "usage": {
            "input_tokens": said.prompt_tokens,
            "output_tokens": said.count if text is not None else 0,
        },
    }


def _stop_reason(said: Said) -> str:
    return "max_tokens" if said.cut_short else "end_turn"


def message_events(said: Said) -> Iterator[bytes]:
    """All events up to and with `message_stop`."""

    def typed(kind: str, body: dict[str, Any]) -> bytes:
        return event({"type": kind, **body}, kind)

    yield typed("message_start", {"message": _message(said, None)})
    block = {"type": "text", "text": ""}
    yield typed("content_block_start", {"index": 0, "content_block": block})
    for token in said.tokens:
        delta = {"type": "text_delta", "text": token}
        yield typed("content_block_delta", {"index": 0, "delta": delta})
    yield typed("content_block_stop", {"index": 0})
    end = {"stop_reason": _stop_reason(said), "stop_sequence": None}
    yield typed("message_delta", {"delta": end, "usage": {"output_tokens": said.count}})
    yield typed("message_stop", {})


# ---- embeddings


def embeddings(model: str, vectors: Sequence[list[float]], prompt_tokens: int) -> bytes:
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return encode({"object": "list", "data": data, "model": model, "usage": usage})


def embeddings_base64(model: str, vectors: Sequence[list[float]], prompt_tokens: int) -> bytes:
    """The same, each vector as base64 of little-endian float32."""
    packed = [b64encode(pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(packed)]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return encode({"object": "list", "data": data, "model": model, "usage": usage})


def legacy_embedding(vectors: Sequence[list[float]]) -> bytes:
    """llama.cpp's `POST /embedding`: a bare array, one embedding per input and pooled slot."""
    return encode([{"index": i, "embedding": [v]} for i, v in enumerate(vectors)])


# ---- models


def model_object(model: str, name: str, created: int, max_model_len: int) -> dict[str, Any]:
    """With vLLM's extra fields and llama.cpp's `meta`: what a router must carry unharmed."""
    return {
        "id": model,
        "object": "model",
        "created": created,
        "owned_by": name,
        "root": model,
        "parent": None,
        "max_model_len": max_model_len,
        "meta": {"vocab_type": 1, "n_vocab": 32000, "n_ctx_train": max_model_len},
    }


def tags(models: Sequence[str]) -> bytes:
    """Ollama's `GET /api/tags`."""
    return encode({"models": [_tag(model) for model in models]})


def _tag(model: str) -> dict[str, Any]:
    return {
        "name": model,
        "model": model,
        "modified_at": "2026-01-31T12:00:00.000000+00:00",
        "size": 594_000,
        "digest": sha256(model.encode()).hexdigest(),
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "1M",
            "quantization_level": "F32",
        },
    }


# ---- errors


def error(status: int, text: str, shape: ErrorShape = "openai", code: str | None = None) -> bytes:
    match shape:
        case "openai":
            kind = "invalid_request_error" if status < 500 else "server_error"
            inner = {"message": text, "type": kind, "param": None, "code": code}
            return encode({"error": inner})
        case "object":
            return encode({"object": "error", "message": text, "type": "Error", "code": status})
        case "detail":
            return encode({"detail": text})
        case "html":
            return f"<html><body><h1>{status}</h1><p>{text}</p></body></html>".encode()
        case "empty":
            return b""
