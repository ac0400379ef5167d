"""Reading an engine's model list, in the shapes that engines give it. Pure.

`{"data": [...]}` (OpenAI), a bare array, and `{"models": [...]}` (llama.cpp besides, Ollama).
llama.cpp lists one model with all that it is called in `aliases`: each name is a model here.
Extra fields (`max_model_len`, `meta`) are kept: clients of the aggregate read them.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

#: More bytes than this is no model list.
BODY_BYTES_MAX = 1024 * 1024
MODELS_MAX = 10_000

Model = dict[str, Any]


def parse(body: bytes) -> list[Model] | None:
    """The models in `body`, each with a string `id`; None where it is no model list at all."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, dict):
        found = found.get("data", found.get("models"))
    if not isinstance(found, list):
        return None
    models = [model for item in found[:MODELS_MAX] for model in _models(item)]
    return list({model["id"]: model for model in models[:MODELS_MAX]}.values())


def _models(item: object) -> Iterator[Model]:
    if isinstance(item, str) and item:
        yield named(item)
    if isinstance(item, dict):
        name = item.get("id") or item.get("name") or item.get("model")
        aliases = item.get("aliases")
        for one in (name, *(aliases if isinstance(aliases, list) else ())):
            if isinstance(one, str) and one:
                yield {"object": "model", **item, "id": one}


def named(name: str, owned_by: str = "creche") -> Model:
    """A model object for a name that only the config knows."""
    return {"id": name, "object": "model", "owned_by": owned_by}


def names(models: list[Model]) -> list[str]:
    return [model["id"] for model in models]


def same(one: list[Model], other: list[Model]) -> bool:
    """Whether two lists say the same; `created` moves with every reading on some engines."""
    return _stable(one) == _stable(other)


def _stable(models: list[Model]) -> list[Model]:
    return [{k: v for k, v in model.items() if k != "created"} for model in models]
