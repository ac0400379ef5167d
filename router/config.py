"""router.toml, every key with its default. Pure: shapes, ranges and what must agree.

An empty file is valid on loopback.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from common.certificates import Tls
from router.named import (
    BreakerOf,
    Capability,
    Model,
    Pattern,
    Privacy,
    Provider,
    Rule,
    Tenant,
    UpstreamStrategy,
)

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Retry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a request is tried before its first byte was answered."""

    #: Attempts on the upstreams of one model.
    attempts_per_target: Annotated[int, Meta(ge=1, le=10)] = 2
    #: Attempts in all, whatever they were for.
    attempts_max: Annotated[int, Meta(ge=1, le=20)] = 6
    #: Retries, as a share of a model's requests in the last ten seconds.
    budget_percent: Annotated[float, Meta(ge=0, le=100)] = 20
    #: Retries a second that a model may always make.
    budget_floor_per_s: Annotated[int, Meta(ge=0)] = 10
    #: Streams that may be asked of a second upstream, as a share of those of a model with
    #: `hedge_after_ms`.
    hedge_percent: Annotated[float, Meta(ge=0, le=100)] = 5
    #: Wait before the same upstream is tried again: this, times the attempt, with jitter.
    backoff_ms: Annotated[int, Meta(ge=0, le=1_000)] = 100
    #: Rest of an upstream that answered 429 without a Retry-After, though it had no other request
    #: (or nothing is learnt of it: `queue.learn`). Else it takes fewer at once.
    rest_s: Positive = 60
    #: The longest rest that an upstream's Retry-After can ask for.
    rest_max_s: Positive = 3_600
    #: An upstream with so many errors within `error_window_s` rests too. 0: off.
    error_cooldown: Annotated[int, Meta(ge=0)] = 0
    error_window_s: Positive = 60
    error_cooldown_s: Positive = 300


class Breaker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to stop sending to an upstream that keeps failing. A provider may have its own."""

    #: Failures in a row that open it.
    failures: Count = 5
    #: How long it stays open before a trial, one at a time.
    open_s: Positive = 30
    #: Trials in a row that must succeed to close it.
    trials: Count = 3
    #: Services with numbers of their own, by name.
    services: dict[str, BreakerOf] = field(default_factory=dict)
    #: Where a model has at least so many upstreams and more than `panic_percent` of them are out
    #: by breaker, and no fallback is left, all of them are used.
    panic_upstreams: Count = 4
    panic_percent: Annotated[float, Meta(ge=0, le=100)] = 50


class Needs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request needs that says nothing of it in its x-creche-… headers."""

    region: str | None = None
    #: A service must be at least as private. One that declares nothing is internal.
    privacy: Privacy = "internal"
    max_latency_ms: Positive | None = None
    #: Tokens a second.
    min_throughput: Positive | None = None
    #: 0: cost counts most; 100: speed does. For the strategy `score`.
    cost_tolerance: Annotated[float, Meta(ge=0, le=100)] = 50
    gpu: Literal["prefer", "require"] | None = None
    #: Believe the header x-creche-tenant.
    trust_tenant_header: bool = False


class Score(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of the parts of the strategy `score`: the mean is over the sum of them."""

    health: Annotated[float, Meta(ge=0)] = 1
    latency: Annotated[float, Meta(ge=0)] = 1
    privacy: Annotated[float, Meta(ge=0)] = 1
    locality: Annotated[float, Meta(ge=0)] = 1
    cost: Annotated[float, Meta(ge=0)] = 1
    #: A candidate with less is refused.
    least: Share = 0.1
    #: Only so many of the best are kept.
    kept: Count = 10
    #: What is slower than this at p50 is refused.
    latency_max_ms: Positive = 5_000
    #: p50 of what has not answered yet.
    latency_unknown_ms: Positive = 1_000


class Prefix(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The strategy `prefix`: requests go where their prompt's beginning was read before."""

    #: Bytes of message text in one block.
    block_bytes: Annotated[int, Meta(ge=16, le=65_536)] = 512
    #: Blocks of one prompt that are looked at.
    blocks_max: Annotated[int, Meta(ge=1, le=4_096)] = 256
    #: Memory for what upstreams have read, over all models.
    memory_bytes_max: Bytes = 32 << 20
    #: An upstream with more than this multiple of its fair load is passed over.
    load_factor: Annotated[float, Meta(ge=1, le=100)] = 1.25


class Reload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How configuration is replaced while the router runs."""

    #: Good versions that are kept for `creche config rollback`.
    versions_kept: Annotated[int, Meta(ge=1, le=1_000)] = 10
    #: After so long a reload is undone if the old file would serve and the new one does not.
    #: 0: never.
    rollback_after_s: Annotated[float, Meta(ge=0)] = 30


class Cache(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers that are given again, of models with `cache = true` (docs/cache.md)."""

    #: An answer is given again for so long.
    ttl_s: Positive = 3_600
    #: All answers in this process; above it those go that were not used for longest.
    bytes_max: Bytes = 64 << 20
    #: One answer: a longer one is not kept.
    entry_bytes_max: Bytes = 1 << 20
    #: A request that is just being asked is waited for so long, then asked for itself. 0: never.
    wait_s: Annotated[float, Meta(ge=0)] = 10
    #: Requests that wait so; more are asked for themselves.
    waiting_max: Annotated[int, Meta(ge=0)] = 1_000
    #: Answers go to `redis` as well, where that is set: what one router was answered, all have.
    shared: bool = True


class Timeouts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: A connection to an upstream.
    connect_s: Positive = 1
    #: `stream: true`: from the request's last byte to the first event.
    first_event_s: Positive = 60
    #: `stream: true`: between two pieces of an answer.
    between_chunks_s: Positive = 120
    #: Every other request, from its last byte to its answer's.
    total_s: Positive = 600
    #: `stream: true`: while no event has come, the client hears a comment this often, so that
    #: nothing between gives it up (docs/routing.md). 0: off.
    comment_every_s: Annotated[float, Meta(ge=0)] = 0
    #: A client's request head, from its first byte to its last.
    head_s: Positive = 10
    #: A client's body: no byte for this long is 408.
    body_idle_s: Positive = 60
    #: A client's body, from its head on: this, and a second for each `client_bytes_per_s_min`
    #: bytes that came. Slower is 408.
    body_s: Positive = 60
    #: A client that takes less of its answer than `client_bytes_per_s_min` for so long is closed.
    write_idle_s: Positive = 120
    #: A kept connection without a request, towards clients.
    keep_alive_s: Positive = 75
    #: A kept connection without a request, towards upstreams.
    upstream_idle_s: Positive = 4
    #: An upgraded connection without a byte either way.
    upgrade_idle_s: Positive = 600
    #: An upgraded connection, in all.
    upgrade_lifetime_s: Positive = 86_400
    #: On SIGTERM, how long running requests may take to end.
    drain_s: Positive = 30
    #: Where a successor has taken over (SIGUSR2), how long running requests may take to end.
    replaced_drain_s: Positive = 600


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    head_bytes_max: Bytes = 65_536
    #: One request's body.
    body_bytes_max: Bytes = 512 << 20
    #: A body up to this stays in memory, a larger one goes to an unlinked temporary file.
    body_memory_bytes: Bytes = 1 << 20
    #: JSON that must be read for its model.
    json_bytes_max: Bytes = 32 << 20
    #: All bodies in memory together: above it, 503.
    bodies_memory_bytes_max: Bytes = 512 << 20
    #: All bodies on disk together: above it, 503.
    bodies_disk_bytes_max: Bytes = 8 << 30
    #: One server-sent event: a longer one is a broken answer.
    event_bytes_max: Bytes = 1 << 20
    #: Of a stream that may be resumed, the text that is kept for that; a longer one is not resumed.
    resume_bytes_max: Bytes = 1 << 20
    #: Clients' connections; above it new ones are refused.
    connections_max: Count = 10_000
    #: Of one client address (IPv6: of one /64), but for trusted_proxies; above it new ones are
    #: refused. 0: no limit.
    connections_per_address_max: Annotated[int, Meta(ge=0)] = 5_000
    #: Bytes a second that a client sends of its body, or takes of its answer, at the least. 0: any.
    client_bytes_per_s_min: Annotated[float, Meta(ge=0)] = 500
    #: Bytes a client may send ahead while its request is in flight.
    pipelined_bytes_max: Bytes = 65_536
    #: Kept connections to one upstream.
    upstream_connections_kept: Annotated[int, Meta(ge=0)] = 256


class Usage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests, tokens and cost of each key and model, for `creche usage`."""

    #: Count them, in `state_dir`, or in Redis where `redis` is set.
    enabled: bool = True
    #: Written so often: a router that is killed loses what it counted since.
    write_s: Annotated[float, Meta(gt=0, le=3_600)] = 5
    #: So long it is known by the hour, then by the day (UTC).
    hourly_days: Annotated[int, Meta(ge=1, le=3_660)] = 14
    #: So long it is known at all.
    keep_days: Annotated[int, Meta(ge=1, le=36_600)] = 400


class Queue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that wait, where every upstream that could serve them is full."""

    #: For one model. More are refused, those of whoever has the most first. 0: nobody waits.
    waiting_max: Annotated[int, Meta(ge=0)] = 1_000
    #: For all models together.
    waiting_in_all_max: Annotated[int, Meta(ge=0)] = 4_000
    #: How long one waits at the most; a request's `x-request-timeout` may say less.
    wait_max_s: Annotated[float, Meta(ge=0)] = 30
    #: What comes free is shared out in these proportions between requests with `x-priority` high,
    #: normal (which is what says nothing) and low.
    high_share: Positive = 16
    normal_share: Positive = 4
    low_share: Positive = 1
    #: An upstream that answers 429, or 503 with Retry-After, is believed to take fewer requests at
    #: once than it had then. Without: as many as its `max_concurrency` says, or any number.
    learn: bool = True


class Affinity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests belong together. A body's `prompt_cache_key` always comes first."""

    #: Header that names a session. Empty: none.
    header: str = "x-session-id"
    #: Use the body's `user`.
    user: bool = False
    #: Use the first X-Forwarded-For address with the User-Agent.
    client_address: bool = False
    #: An upstream yields above this multiple of its fair load.
    load_factor: Annotated[float, Meta(ge=1, le=100)] = 1.25


class Health(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upstreams that traffic found unreachable or failing."""

    #: A connect to those set aside.
    connect_probe_s: Positive = 1
    #: A GET to those that keep failing: of /health, or of what a provider's type answers.
    probe_s: Positive = 10
    probe_timeout_s: Positive = 5
    #: A slower probe makes an upstream degraded.
    probe_slow_s: Positive = 1


class StaticService(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service that no registry knows: never expires, counts as type openai-api."""

    name: str
    host: str
    port: Port
    weight: Positive = 1
    #: As a registered service's: models, models_list, capabilities, cache_type, …
    metadata: dict[str, Any] = field(default_factory=dict)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    #: Address and port for clients.
    listen: str = "127.0.0.1:8000"
    #: Another one for metrics and admin paths, which then answer 404 on `listen`.
    control_listen: str | None = None
    #: Addresses of one registry: the first that answers is used. Empty: static services only.
    registries: tuple[str, ...] = ("http://127.0.0.1:18000",)
    #: File with the cluster token. Wanted off loopback, or auth = "none".
    token_file: str | None = None
    #: "none": anyone who reaches a port may use what the token would guard.
    auth: Literal["none"] | None = None
    #: "required": a key is wanted of whoever asks for a model (creche key create NAME). "none":
    #: anyone who reaches `listen` may use the models. One of them must be said off loopback.
    client_keys: Literal["none", "required"] | None = None
    #: How one of a model's upstreams is chosen.
    strategy: UpstreamStrategy = "least_requests"
    #: "openai", which SDKs read, or "plain": {"error": "<text>"}.
    error_shape: Literal["openai", "plain"] = "openai"
    #: Text of messages or prompt above this many bytes prefers cache_type "static".
    static_cache_above_bytes: Annotated[int, Meta(ge=0)] = 51_200
    #: JSON file of static services.
    static_file: str | None = None
    #: Static services, here.
    static_services: tuple[StaticService, ...] = ()
    #: Where the snapshot is kept. Default: $STATE_DIRECTORY, else ~/.local/state/creche/router.
    state_dir: str | None = None
    #: What several routers share is kept here: "redis://[USER@]HOST:PORT/DB", "rediss://…" or
    #: "redis+sentinel://H1,H2/MASTER/DB". None: each router keeps its own.
    redis: str | None = None
    #: File with Redis' password. Default: $CRECHE_REDIS_PASSWORD, else none.
    redis_password_file: str | None = None
    #: File with the sentinels' own password, where they have one.
    redis_sentinel_password_file: str | None = None
    #: Certificate authority of rediss://. Default: the system's.
    redis_ca_file: str | None = None
    #: What the names of all keys in Redis begin with. Routers with another share nothing.
    redis_prefix: Annotated[str, Meta(min_length=1, max_length=64)] = "creche:"
    #: A request waits so long for Redis; then Redis counts as away.
    redis_timeout_ms: Annotated[int, Meta(ge=5, le=4_000)] = 200
    #: While Redis is away, limits are held by each router alone ("local"), by nobody ("open"), or
    #: what has a limit is answered with 503 ("refuse"). docs/limits.md
    limits_without_redis: Literal["local", "open", "refuse"] = "local"
    #: A FIN from a client: "close" frees its upstream, "answer" still answers.
    half_close: Literal["close", "answer"] = "close"
    #: One line per request.
    access_log: bool = True
    #: What web pages of other origins may read: "closed", nothing; "upstream", what an engine's own
    #: Access-Control headers say (vLLM's say everything).
    cors: Literal["closed", "upstream"] = "closed"
    #: Addresses or networks of peers whose X-Forwarded-* headers are kept.
    trusted_proxies: tuple[str, ...] = ()
    #: Models that will come from the registry: `check` trusts these, their absence alerts.
    expect: tuple[str, ...] = ()
    #: The model that serves a name which resolves to nothing.
    default: str | None = None
    #: Chain of every model that has none of its own.
    default_fallbacks: tuple[str, ...] = ()
    #: Upstreams that answered within so many milliseconds are preferred for a first attempt.
    #: 0: off.
    prefer_warm_ms: Annotated[int, Meta(ge=0)] = 0
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    queue: Queue = Queue()
    affinity: Affinity = Affinity()
    health: Health = Health()
    breaker: Breaker = Breaker()
    needs: Needs = Needs()
    score: Score = Score()
    prefix: Prefix = Prefix()
    cache: Cache = Cache()
    reload: Reload = Reload()
    tls: Tls = Tls()
    usage: Usage = Usage()
    #: Endpoints that no registry knows, by name.
    providers: dict[str, Provider] = field(default_factory=dict)
    #: Names that clients ask for, and what serves them.
    models: dict[str, Model] = field(default_factory=dict)
    #: Names by their shape.
    patterns: tuple[Pattern, ...] = ()
    #: Virtual models by what they can do.
    capabilities: dict[str, Capability] = field(default_factory=dict)
    #: Whose keys have something in common, by name.
    tenants: dict[str, Tenant] = field(default_factory=dict)
    #: What goes before every other resolution.
    rules: tuple[Rule, ...] = ()
