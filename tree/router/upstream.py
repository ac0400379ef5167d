"""An engine as the router sees it: an immutable view of its record, and the Node that it keeps.

A view is replaced when the record changes; the Node stays for as long as name, instance_id and
address do.
"""

from math import isfinite
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec import Struct

from common.address import is_host
from common.wire.registry import (
    TYPE_OPENAI,
    Health,
    Metadata,
    Service,
    Status,
    known_metadata,
    model_objects,
)
from router.affinity import name_hash
from router.endpoint import PATH_SAFE
from router.names.target import Target
from router.needs import INTERNAL, PRIVACY
from router.nodes import Node

#: Of a million tokens: of the prompt, of those of it that were cached, of the answer.
Prices = tuple[float | None, float | None, float | None]


class Upstream:
    """A record in the table. Never edited after it is made.

    `fit`: healthy, not draining, running. `suspect`: used only where nothing fit is left.
    `source` is "registry" or "static".
    """

    __slots__ = (
        "cache_type",
        "capabilities",
        "context_tokens",
        "cost",
        "fit",
        "gpu",
        "hash",
        "identity",
        "limiter",
        "max_concurrency",
        "metadata",
        "model_objects",
        "models",
        "name",
        "node",
        "openai",
        "prices",
        "priority",
        "privacy",
        "region",
        "service",
        "source",
        "suspect",
        "tenants",
        "weight",
    )

    def __init__(
        self, service: Service, node: Node, *, source: str = "registry", suspect: bool = False
    ) -> None:
        metadata = known_metadata(service.metadata)
        self.service = service
        self.node = node
        self.source = source
        self.name = service.name
        self.hash = name_hash(service.name)
        self.identity = identity(service)
        self.metadata: Metadata = metadata
        self.openai = metadata.type == TYPE_OPENAI
        self.model_objects: tuple[dict[str, Any], ...] = tuple(model_objects(metadata))
        self.models: tuple[str, ...] = tuple(dict.fromkeys(m["id"] for m in self.model_objects))
        self.capabilities = frozenset(metadata.capabilities)
        self.cache_type = metadata.cache_type
        self.weight = service.weight if service.weight > 0 else 1.0
        self.region = metadata.region
        #: Rank in `needs.PRIVACY`; what declares none is internal.
        self.privacy = PRIVACY.index(metadata.privacy) if metadata.privacy in PRIVACY else INTERNAL
        self.gpu = bool(metadata.gpu)
        #: 0 to 1, relative; None where it is not declared.
        self.cost = metadata.cost
        #: None where it declares none.
        self.prices = _prices(metadata)
        self.priority = metadata.priority
        self.max_concurrency = metadata.max_concurrency
        #: Of a provider with limits of its own.
        self.limiter = node.limiter
        self.tenants = frozenset(metadata.tenants)
        #: The largest context of its models, in tokens; 0 where nothing says.
        self.context_tokens = metadata.context_tokens or max(
            map(_context_tokens, self.model_objects), default=0
        )
        held_back = service.health_status is Health.SUSPECT
        serves = self.openai and not service.draining and service.status == Status.RUNNING
        self.fit = serves and service.is_healthy and not suspect and not held_back
        self.suspect = serves and not self.fit and (held_back or (suspect and service.is_healthy))

    def model_of(self, target: Target) -> str | None:
        """The name to ask it for. None: as the body says."""
        if target.name != "":
            return target.name
        return next((model for model in target.models if model in self.models), target.models[0])

    def serves(self, capability: str | None) -> bool:
        """A service that declares no capability accepts all."""
        return capability is None or not self.capabilities or capability in self.capabilities


def _prices(metadata: Metadata) -> Prices | None:
    found = (metadata.input_per_million, metadata.cached_per_million, metadata.output_per_million)
    # TOML can write what no range catches: nan.
    if any(price is not None and not isfinite(price) for price in found):
        return None
    return None if found == (None, None, None) else found


def _context_tokens(model: dict[str, Any]) -> int:
    """vLLM says max_model_len; llama.cpp meta.n_ctx, or what it was trained on."""
    meta = model.get("meta")
    table = meta if isinstance(meta, dict) else {}
    for found in (model.get("max_model_len"), table.get("n_ctx"), table.get("n_ctx_train")):
        if isinstance(found, int) and found > 0:
            return found
    return 0


Identity = tuple[str | None, str, int, str]


def identity(service: Service) -> Identity:
    """What must stay the same for a name's Node to stay."""
    return service.instance_id, service.host, service.port, service.url


class Address(Struct, frozen=True):
    host: str
    port: int
    tls: bool
    path_prefix: str


#: Resolves nowhere, by RFC 2606.
_NOWHERE = "unusable.invalid"


def address(service: Service) -> Address:
    """Where requests go: its `url`, or `host` and `port` where that is no http URL.

    Both become parts of heads, so they hold nothing that a head may not: a record that names no
    usable host is one that cannot be reached, and harms no other.
    """
    try:
        parts = urlsplit(service.url)
        if parts.scheme in ("http", "https") and is_host(parts.hostname or ""):
            tls = parts.scheme == "https"
            port = parts.port or (443 if tls else 80)
            path = quote(parts.path.rstrip("/"), safe=PATH_SAFE, errors="replace")
            return Address(parts.hostname or "", port, tls, path)
    except ValueError:
        pass
    host = service.host if is_host(service.host) else _NOWHERE
    return Address(host, service.port, False, "")
