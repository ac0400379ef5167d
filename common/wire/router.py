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
    #: What went wrong with the configuration and still matters; empty: nothing.
    config_message: str = ""
    #: What keeps usage from being written; empty: nothing.
    usage_message: str = ""


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
    #: Why it is set aside: "connect" (one failed), "answers" (several in a row); empty: it is not.
    why_out: str = ""
    #: Seconds for which it is left in peace, after a 429 or too many errors; 0: it is not.
    resting_s: float = 0.0
    #: As this router's traffic and probes show it: unknown, healthy, degraded, unhealthy.
    node_health: str = "unknown"
    #: closed, open or half_open.
    breaker: str = "closed"
    source: str = "registry"
    instance_id: str | None = None
    last_heartbeat: str | None = None


class RouterServices(Struct, frozen=True, kw_only=True):
    services: list[RouterService]
    total: int
    registry_url: str


class ModelStats(Struct, frozen=True, kw_only=True):
    """Times in milliseconds, null until measured.

    `ready`: of the `total` services behind the name, those that requests go to now: fit, and
    neither set aside, resting nor behind an open breaker.
    """

    ready: int
    total: int
    #: Of the ready: providers that nobody has asked yet, so that nobody knows.
    unasked: int = 0
    #: Names of the services behind it.
    services: tuple[str, ...] = ()
    #: The file names it: in [models], [capabilities] or `expect`.
    configured: bool = False
    #: None is ready, and a model of its chain is.
    by_chain: bool = False
    #: None is ready, nor its chain; requests are tried on those set aside or resting all the same.
    last_resort: bool = False
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
    #: As this router's traffic and probes show it: unknown, healthy, degraded, unhealthy.
    health: str = "unknown"
    #: closed, open or half_open.
    breaker: str = "closed"
    #: Answered tokens a second of one request, smoothed.
    tokens_per_s: float | None = None
    #: What the engine last said of its load as a whole, whoever sent it: {in_flight, …}.
    load: dict[str, float] = field(default_factory=dict)


class CacheStats(Struct, frozen=True, kw_only=True):
    """Of models whose answers are kept. `hits` and `misses` since the start, by requests."""

    hits: int = 0
    misses: int = 0
    #: Requests that waited for the answer of an identical one.
    waits: int = 0
    #: Answers in this process, and what they take.
    entries: int = 0
    bytes: int = 0
    #: Answers that went for others, before their time.
    evictions: int = 0
    #: Of the answers, those that another router was given.
    shared_hits: int = 0
    #: Times that the shared store failed or was too slow, and whether it is left alone now.
    shared_failures: int = 0
    shared_away: bool = False


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
    cache: CacheStats = CacheStats()
    #: Models that `expect` names and no fit service lists.
    absent_expected: tuple[str, ...] = ()


class ConfigVersion(Struct, frozen=True, kw_only=True):
    """A good configuration file that was kept. `rejected`: it was rolled back from."""

    version: int
    kept_at: str
    digest: str
    in_force: bool = False
    rejected: bool = False


class RouterConfig(Struct, frozen=True, kw_only=True):
    """`GET /admin/config`: what is in force, where it came from, what could come back."""

    #: None: it runs without a file.
    file: str | None
    #: None: this one could not be kept.
    version: int | None
    digest: str
    loaded_at: str
    #: "start", "reload", "rollback" or "automatic rollback".
    by: str
    #: The file as it is on disk now says something else (or cannot be read).
    file_differs: bool
    #: Keys of the file that only a restart brings into force.
    needs_restart: list[str]
    #: What went wrong and still matters; empty: nothing.
    message: str
    #: Until then the last reload may undo itself; null: it stays.
    undo_until: str | None
    versions: list[ConfigVersion]
    #: Why neither a reload nor a restart would take the file as it is on disk; empty: they would.
    file_problem: str = ""


class ReloadAnswer(Struct, frozen=True, kw_only=True):
    """`POST /admin/reload` and `/admin/rollback`, status 200: it is in force."""

    #: "reloaded" or "rolled back".
    status: str
    version: int | None
    digest: str
    #: Keys whose values are others now: "providers.openai", "timeouts.total_s".
    changed: list[str]
    #: Keys of the file that only a restart brings into force.
    needs_restart: list[str]
    #: What the checks warn of, as `creche-router check` words it.
    warnings: list[str]
    #: What did not work, though the configuration is in force.
    notes: list[str]
    #: Seconds until the reload is final; 0: it is.
    undo_after_s: float = 0.0
    #: A rollback: whether the file says again what runs, and where the one before it is kept.
    file_written: bool | None = None
    rejected_file: str | None = None


class ReloadRefusal(Struct, frozen=True, kw_only=True):
    """The same, status 400: nothing has changed. `problems` are those of `creche-router check`."""

    error: str
    problems: list[dict[str, Any]]
    #: All of them as text.
    report: str


class KeyView(Struct, frozen=True, kw_only=True):
    """A client's key as it is shown: never its text, nor the digest of it."""

    id: str
    name: str
    scope: str
    created: str
    tenant: str | None = None
    #: Empty: all.
    models: tuple[str, ...] = ()
    privacy: str | None = None
    needs: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    weight: float = 1.0
    expires: str | None = None
    revoked: str | None = None
    #: active, expired or revoked.
    state: str = "active"


class KeyList(Struct, frozen=True, kw_only=True):
    keys: list[KeyView]
    #: Whether this router asks clients for a key.
    required: bool


class KeyMade(Struct, frozen=True, kw_only=True):
    """`text` is shown this once."""

    key: KeyView
    text: str


class KeyRevoked(Struct, frozen=True, kw_only=True):
    key: KeyView


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An order that this router was given. `who` is a key's name, or how else they came in."""

    ts: str
    who: str
    peer: str
    method: str
    path: str
    status: int
    what: dict[str, Any] = field(default_factory=dict)


class AuditList(Struct, frozen=True, kw_only=True):
    entries: list[AuditEntry]
