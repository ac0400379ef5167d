"""What a request needs of whoever serves it. Pure."""

from msgspec import Struct

#: From open to closed: a service must be at least as private as the request wants.
PRIVACY = ("public", "internal", "confidential", "restricted")
INTERNAL = PRIVACY.index("internal")


class Needs(Struct, frozen=True, kw_only=True):
    """As its headers say, else the configuration's defaults. Ranks index PRIVACY."""

    region: str | None = None
    privacy: int = INTERNAL
    max_latency_ms: float | None = None
    #: Tokens a second.
    min_throughput: float | None = None
    #: 0: cost counts most; 100: speed does.
    cost_tolerance: float = 50.0
    #: "prefer" or "require".
    gpu: str | None = None
    tenant: str | None = None


NONE = Needs()
