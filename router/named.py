"""What an operator names in router.toml: providers, models, patterns, capabilities, rules. Pure.

Shapes and ranges alone; what must agree between them is `router.check`'s, what they mean for a
request `router.names`'.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: More than 1 for a token is a slip of the pen.
Price = Annotated[float, Meta(ge=0, le=1_000_000)]

ProviderType = Literal[
    "ollama", "vllm", "llama_cpp", "openai", "anthropic", "openai_compatible", "infinilm"
]
ProviderStatus = Literal["active", "disabled", "pending_integration", "template"]
Privacy = Literal["public", "internal", "confidential", "restricted"]
#: Of requests that wait, as `x-priority` says it.
Priority = Literal["high", "normal", "low"]

#: Choose one of a target's upstreams.
UpstreamStrategy = Literal[
    "least_requests",
    "round_robin",
    "weighted_random",
    "power_of_two",
    "least_latency",
    "usage_based",
    "most_capacity",
    "consistent_hash",
    "prefix",
    "priority",
    "score",
    "direct",
    "least_loaded",
    "least_connections",
    "fastest_response",
    "random",
    "priority_based",
    "load_balance",
]
#: "tokens": exact where an engine tells its token ids on request.
Resume = bool | Literal["tokens"]

#: Choose the model itself; the upstream then by the router's `strategy`.
ModelStrategy = Literal["complexity_based", "context_based", "quality_based", "adaptive_weighted"]
Strategy = UpstreamStrategy | ModelStrategy


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every table of the file: unknown keys are refused."""


class Limits(_Table, frozen=True, kw_only=True):
    """What may be asked of it in a minute, and at once. What is not set is not limited."""

    #: Requests a minute.
    rpm: Count | None = None
    #: Tokens a minute, prompt and answer together.
    tpm: Count | None = None
    #: Requests at the same time.
    max_concurrency: Count | None = None


class Budget(_Table, frozen=True, kw_only=True):
    """What may be used in a calendar month (UTC), as usage counts it."""

    #: Tokens, prompt and answer together.
    tokens_monthly: Count | None = None
    #: In whatever prices are given in.
    cost_monthly: Positive | None = None


class Tenant(_Table, frozen=True, kw_only=True):
    """What all keys of one tenant share."""

    limits: Limits = Limits()
    #: When it is used up, their requests are refused until the next month.
    budget: Budget = Budget()
    #: Its share where requests wait, beside other tenants' of the same priority.
    weight: Positive = 1


class ModelTimeouts(_Table, frozen=True, kw_only=True):
    """In the place of those in [timeouts], for this model."""

    #: `stream: true`: from the request's last byte to the first event.
    first_event_s: Positive | None = None
    #: `stream: true`: between two pieces of an answer.
    between_chunks_s: Positive | None = None
    #: Every other request, from its last byte to its answer's.
    total_s: Positive | None = None
    #: `stream: true`: comments this often, until the first event. 0: none.
    comment_every_s: Annotated[float, Meta(ge=0)] | None = None


class BreakerOf(_Table, frozen=True, kw_only=True):
    """In the place of those in [breaker], for this provider."""

    #: Failures in a row that open it.
    failures: Count | None = None
    #: How long it stays open before a trial.
    open_s: Positive | None = None
    #: Trials in a row that must succeed to close it.
    trials: Count | None = None


class ModelCache(_Table, frozen=True, kw_only=True):
    """Keep answers of this model, with a time of its own."""

    #: An answer is given again for so long. Default: that of [cache].
    ttl_s: Positive | None = None
    #: Any text: another one, and what was kept before is not given again. Change it where another
    #: model answers to the same name.
    version: str = ""


class Cost(_Table, frozen=True, kw_only=True):
    """What it costs. `relative` enters the score, prices the usage accounts."""

    #: 0 (free) to 1 (the dearest), for the strategy `score`.
    relative: Share | None = None
    #: Price of a million prompt tokens.
    input_per_million: Price | None = None
    #: Price of a million of those that it had in its cache. Default: as the others.
    cached_per_million: Price | None = None
    #: Price of a million answered tokens.
    output_per_million: Price | None = None


class Provider(_Table, frozen=True, kw_only=True):
    """An endpoint that no registry knows: a cloud, or a fixed server."""

    #: What speaks there: decides how its key is sent and which routes of its own it has.
    type: ProviderType
    #: With its base path: "https://api.openai.com/v1". A request's own /v1 is not doubled.
    base_url: str
    #: Only an active one is asked. The others keep their place in the file.
    status: ProviderStatus = "active"
    #: Names it answers to. Others only by a [models] entry, a pattern or a rule that names it.
    models: tuple[str, ...] = ()
    #: Environment variable that holds its key. The client's own key is never sent on.
    api_key_env: str | None = None
    #: File that holds its key.
    api_key_file: str | None = None
    #: Certificates to trust beside the system's, for a private https server.
    ca_file: str | None = None
    #: Share among equals, for the strategies that weigh.
    weight: Positive = 1
    #: Tier for the strategy `priority`: the lowest number is asked first.
    priority: Annotated[int, Meta(ge=0)] = 0
    #: transcribe, synthesize, generate, code, embed, image_gen, custom:<name>. None: all.
    capabilities: tuple[str, ...] = ()
    region: str | None = None
    #: Requests that want more privacy than this go elsewhere.
    privacy: Privacy = "internal"
    #: Context window in tokens, for the strategy `most_capacity`.
    context_tokens: Count | None = None
    #: A connection to it. Clouds are farther away than engines.
    connect_s: Positive = 5
    limits: Limits = Limits()
    cost: Cost = Cost()
    breaker: BreakerOf = BreakerOf()


class Levels(_Table, frozen=True, kw_only=True):
    """Which model serves which kind of request, for the strategies that choose the model.

    complexity_based: low, medium, high. context_based: standard, complex, large. quality_based:
    standard, high, and any name that the header x-quality-tier may say, in `tiers`.
    """

    low: str | None = None
    medium: str | None = None
    high: str | None = None
    standard: str | None = None
    complex: str | None = None
    large: str | None = None
    #: Value of the header x-quality-tier to the model that serves it.
    tiers: dict[str, str] = field(default_factory=dict)
    #: complexity_based: from so many estimated prompt tokens a request is medium.
    medium_from_tokens: Count = 50
    #: complexity_based: above so many it is high.
    high_above_tokens: Count = 100
    #: context_based: above so many it is large.
    large_above_tokens: Count = 4_000
    #: quality_based: a longer prompt is high.
    high_above_characters: Count = 1_000


class WeightWhen(_Table, frozen=True, kw_only=True):
    """adaptive_weighted: weights that hold while a condition does. The first that holds counts."""

    #: batch: several inputs in one request; local_saturated: the registered upstreams of the
    #: targets are busier than `saturated_above`; complexity: a prompt of `level`.
    when: Literal["batch", "local_saturated", "complexity"]
    #: Model to weight, in the place of `targets`.
    targets: dict[str, Positive]
    #: local_saturated: share of max_concurrency in flight.
    saturated_above: Share = 0.8
    #: complexity: low, medium or high, by the thresholds of `levels`.
    level: Literal["low", "medium", "high"] = "high"


class Model(_Table, frozen=True, kw_only=True):
    """A name that clients ask for: an alias, a virtual model, or settings of a real one."""

    #: Models that serve it, each with its share: one is drawn, the others follow if it cannot.
    targets: dict[str, Positive] = field(default_factory=dict)
    #: The name its upstreams know: an alias. Written into the body in the place of the asked one.
    backend_model: str | None = None
    #: Ask this provider alone, whether or not its `models` list the name.
    provider: str | None = None
    #: How one of its upstreams is chosen, or, of those that choose a model, which target.
    strategy: Strategy | None = None
    #: For the strategies that choose the model by what is asked.
    levels: Levels | None = None
    #: For adaptive_weighted.
    weights: tuple[WeightWhen, ...] = ()
    #: Models to ask, in order, where it cannot be had. Default: `default_fallbacks`. []: none.
    fallbacks: tuple[str, ...] | None = None
    #: Upstreams that answered within so many milliseconds are preferred for a first attempt.
    prefer_warm_ms: Annotated[int, Meta(ge=0)] | None = None
    #: Streams of chats and completions that break off, or stall, are continued by another of its
    #: upstreams (docs/resume.md). "tokens": engines are asked for token ids besides (vLLM), so
    #: that a completion goes on exactly where it was.
    resume: Resume = False
    #: Streams whose first event has not come by then are asked of a second upstream too; the first
    #: event that comes answers, the other is cancelled (docs/routing.md). 0: off.
    hedge_after_ms: Annotated[int, Meta(ge=0)] | None = None
    #: Identical deterministic requests have one answer (docs/cache.md): true, or a table with
    #: ttl_s. Default: as the model behind an alias has it, else false.
    cache: bool | ModelCache | None = None
    timeouts: ModelTimeouts = ModelTimeouts()
    limits: Limits = Limits()


class Pattern(_Table, frozen=True, kw_only=True):
    """Names by their shape, where nothing names them exactly. The first that matches counts."""

    #: RE2, matched against the whole name.
    match: str
    #: Who serves what matches.
    provider: str
    #: The name to send on; \\1 is the pattern's first group. Default: the asked name.
    rewrite: str | None = None
    #: Models to ask, in order, where it cannot be had. Default: `default_fallbacks`. []: none.
    fallbacks: tuple[str, ...] | None = None


class Capability(_Table, frozen=True, kw_only=True):
    """A virtual model that stands for what it can do: clients ask for its name."""

    #: Models that can do it, the preferred one first.
    models: tuple[str, ...]
    #: Among the upstreams of all its models; `priority` keeps their order.
    strategy: Strategy = "priority"
    levels: Levels | None = None
    weights: tuple[WeightWhen, ...] = ()
    #: Models to ask, in order, where none of them can be had. Default: `default_fallbacks`.
    fallbacks: tuple[str, ...] | None = None


class When(_Table, frozen=True, kw_only=True):
    """Conditions of a rule: all that are set must hold."""

    #: The name that was asked for, RE2 against the whole of it.
    model: str | None = None
    #: Header name to the value it must equal.
    header: dict[str, str] = field(default_factory=dict)
    #: The body's `stream`.
    stream: bool | None = None
    #: Inputs in one request: items of `input` or `prompt`.
    batch_min: Count | None = None
    batch_max: Count | None = None
    #: Estimated tokens of the prompt.
    prompt_tokens_min: Annotated[int, Meta(ge=0)] | None = None
    prompt_tokens_max: Annotated[int, Meta(ge=0)] | None = None
    #: Billions of parameters as the asked name says them: "<8B", "8B-13B", ">13B".
    model_size: str | None = None


class Rule(_Table, frozen=True, kw_only=True):
    """Goes before every other resolution. The first whose conditions hold counts."""

    #: Shown by /explain.
    name: str | None = None
    when: When
    #: Serve by this model …
    model: str | None = None
    #: … or by this provider, under the asked name.
    provider: str | None = None
    #: Models to ask, in order, where it cannot be had. Default: those of its model, else
    #: `default_fallbacks`. []: none.
    fallbacks: tuple[str, ...] | None = None
