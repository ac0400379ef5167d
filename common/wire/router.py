"""What a router answers on its control paths (docs/api-router.md)."""

from typing import Any

from msgspec import Struct, field


class RouterHealth(Struct, frozen=True, kw_only=True):
    """`/health` and `/status`, always 200. `healthy_services` reads `H/T`."""

    status: str
    router: str
    healthy_services: str
    registry_url: str
    message: str
    timestamp: str
    epoch: str | None = None
    registry_connected: bool = False


class RouterService(Struct, frozen=True, kw_only=True):
    """One item of `/services`. `response_time` is in seconds; 0 until something was measured."""

    name: str
    host: str
    port: int
    url: str
    babysitter_url: str | None
    healthy: bool
    request_count: int
    error_count: int
    response_time: float
    weight: float
    models: list[str]
    metadata: dict[str, Any]
    health_status: str = "unknown"
    status: str = "running"
    reasons: tuple[dict[str, str], ...] = ()
    in_flight: int = 0
    draining: bool = False
    set_aside: bool = False
    source: str = "registry"
    instance_id: str | None = None
    last_heartbeat: str | None = None


class RouterServices(Struct, frozen=True, kw_only=True):
    services: list[RouterService]
    total: int
    registry_url: str


class ModelStats(Struct, frozen=True, kw_only=True):
    """Times in milliseconds, null until measured."""

    ready: int
    total: int
    in_flight: int = 0
    queued: int = 0
    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0


class ServiceStats(Struct, frozen=True, kw_only=True):
    request_count: int = 0
    error_count: int = 0
    in_flight: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    ttft_p50_ms: float | None = None
    breaker: str = "closed"
    #: What the engine last said of its load as a whole, whoever sent it: {in_flight, …}.
    load: dict[str, float] = field(default_factory=dict)


class RouterStats(Struct, frozen=True, kw_only=True):
    """`/stats`. total = successful + failed + client_errors + cancelled; each request once."""

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    client_errors: int = 0
    cancelled: int = 0
    total_tokens: int = 0
    active_streams: int = 0
    avg_latency_ms: float = 0.0
    requests_per_s: float = 0.0
    uptime: float = 0.0
    services: dict[str, ServiceStats] = field(default_factory=dict)
    models: dict[str, ModelStats] = field(default_factory=dict)
