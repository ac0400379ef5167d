"""A client's key as it is kept: what it may do, and a digest that tells whether a text is it. Pure.

    sk-creche-<id>-<secret>      the text, shown once; `id` is no secret and finds the record

The digest is SHA-256 over the whole text: a secret of 192 random bits needs no slow hash.
"""

import hashlib
import hmac
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from router.caller import Scope
from router.named import Budget, Limits, Priority, Privacy

PREFIX = "sk-creche-"
ID_BYTES, SECRET_BYTES = 6, 24
_FORM = re.compile(r"sk-creche-([0-9a-f]{12})-[0-9a-f]{48}\Z")
#: Longer texts are no keys, whatever they are.
TEXT_MAX = len(PREFIX) + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES

Positive = Annotated[float, Meta(gt=0)]


class KeyNeeds(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What its requests need that say nothing of it. Names and ranges as in [needs]."""

    region: str | None = None
    max_latency_ms: Positive | None = None
    min_throughput: Positive | None = None
    cost_tolerance: Annotated[float, Meta(ge=0, le=100)] | None = None
    gpu: Literal["prefer", "require"] | None = None


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key may do, as an operator orders it and as it is kept."""

    name: str
    tenant: str | None = None
    scope: Scope = Scope.USE
    #: Names that it may ask for; `*` at the end stands for anything. Empty: all.
    models: tuple[str, ...] = ()
    #: Its requests are at least so private.
    privacy: Privacy | None = None
    needs: KeyNeeds = KeyNeeds()
    limits: Limits = Limits()
    budget: Budget = Budget()
    #: Its share where requests wait, beside others of the same priority.
    weight: Positive = 1.0
    #: Its requests are no more urgent, whatever their `x-priority` says.
    priority_max: Priority = "high"


class Key(Terms, frozen=True, kw_only=True, omit_defaults=True):
    """Times in unix seconds. Unknown fields are ignored: a newer router may have written them."""

    id: str
    #: SHA-256 of its text, in hex.
    digest: str
    created: float
    expires: float | None = None
    revoked: float | None = None


def text_of(id_bytes: bytes, secret: bytes) -> str:
    """The text of a new key, from random bytes."""
    return f"{PREFIX}{id_bytes.hex()}-{secret.hex()}"


def id_of(text: str) -> str | None:
    """Which key `text` says it is. None: it has no key's form."""
    found = _FORM.match(text)
    return found[1] if found else None


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def is_text_of(text: str, digest: str) -> bool:
    """Takes the same time whatever `text` holds."""
    return hmac.compare_digest(digest_of(text), digest)
