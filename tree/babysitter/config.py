"""The babysitter's TOML: what each key means. Pure.

    [[engine]]
    kind  = "llama_cpp"
    model = "/models/qwen3-8b-q4.gguf"

is a whole file on one machine. `[defaults]` holds for every engine; an engine's own keys win
(`settings.py`). What may be wrong with a file is in `check.py`.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

REGISTRY_DEFAULT = "http://127.0.0.1:18000"

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0, le=604800)]
Positive = Annotated[float, Meta(gt=0, le=604800)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Shared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that an `[[engine]]` and `[defaults]` have in common."""

    #: How long a start may take until it listens, answers and lists its models (default 600).
    #: Large models load slowly: set what yours needs.
    ready_timeout_s: Positive | None = None
    #: A ready engine that gives no good answer for so long is not ready any more (default 30).
    unresponsive_s: Positive | None = None
    #: Requests in flight and no token for so long: unready, then restarted (default 90; 0: off).
    #: Works for kinds that tell what they do: vllm, sglang, llama_cpp, xllamacpp, mock.
    stall_s: Seconds | None = None
    #: How often its own metrics are read, for its load and for `stall_s` (default 5; 0: never, and
    #: `stall_s` has nothing to go by). Works for the same kinds.
    metrics_s: Seconds | None = None
    #: On a stop or restart, how long requests in flight may go on (default 30; 0: not at all).
    drain_timeout_s: Seconds | None = None
    #: Kinds that do not tell their load: a connection that said nothing for so long after an answer
    #: holds up no stop (default 2). More for engines that pause longer in the middle of an answer.
    drain_idle_s: Positive | None = None
    #: After TERM, how long until KILL (default 10).
    stop_grace_s: Seconds | None = None
    #: Restarts within `restart_window_s` before it is given up, FATAL (default 10).
    max_restarts: Count | None = None
    #: The window that `max_restarts` counts in (default 600).
    restart_window_s: Positive | None = None
    #: The first wait before a restart; it doubles with each failure in a row (default 1).
    backoff_first_s: Positive | None = None
    #: The longest wait before a restart (default 60).
    backoff_max_s: Positive | None = None
    #: So long ready, and the waits begin at `backoff_first_s` again (default 60).
    healthy_s: Positive | None = None
    #: "socket": the listening socket must belong to the engine's processes (default). "none": not
    #: checked, for engines in a network namespace of their own.
    identity: Literal["socket", "none"] | None = None
    #: Variables for the engine, over those of the babysitter. Secrets belong in `env_file`.
    env: dict[str, str] | None = None
    #: A file of NAME=value lines for the engine's environment; never shown or logged.
    env_file: str | None = None
    #: One log file's limit in bytes (default 10485760).
    log_bytes_max: Annotated[int, Meta(ge=4096)] | None = None
    #: So many log files are kept, the current one included (default 5).
    log_files: Annotated[int, Meta(ge=1, le=1000)] | None = None
    #: Relative share of requests (default 1).
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    #: What it can do: transcribe, synthesize, generate, code, embed, image_gen, custom:<name>
    #: (default: none declared, which accepts all).
    capabilities: tuple[str, ...] | None = None
    #: Where it runs, for routing by region.
    region: str | None = None
    #: How private it is (unknown counts as internal).
    privacy: Literal["public", "internal", "confidential", "restricted"] | None = None
    #: What it costs, relative, 0 to 1.
    cost: Annotated[float, Meta(ge=0, le=1)] | None = None
    #: Whether, or which, GPU it declares (default: true where `gpus` names any).
    gpu: bool | str | None = None
    #: "paged" or "static": routers prefer static for large prompts.
    cache_type: str | None = None
    #: So many requests at once; routers queue beyond it.
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    #: More keys for its record's metadata, passed on as they are.
    metadata: dict[str, Any] | None = None


class Defaults(Shared, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[defaults]`: for every engine of this file."""


class EngineConfig(Shared, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[engine]]`."""

    #: command, vllm, sglang, llama_cpp, xllamacpp, infinilm, infinilm_rust, ollama or mock.
    kind: str
    #: Registers as `name@host` (default: the model's file name, else the kind).
    name: str | None = None
    #: The model to load: a path, or an id that the engine understands.
    model: str | None = None
    #: What clients ask for (default: the model's file name).
    models: tuple[str, ...] = ()
    #: The engine's program, or for Python engines the Python to run it (default: found on PATH).
    bin: str | None = None
    #: More arguments for the engine, one item each.
    args: tuple[str, ...] = ()
    #: kind command: the argv list to run; {host}, {port} and {model} are filled in.
    command: tuple[str, ...] = ()
    #: kind infinilm_rust: the service file for xtask.
    config_file: str | None = None
    #: The folder it is started in.
    work_dir: str | None = None
    #: Where it listens (default: 127.0.0.1, or `advertise` where the registry is elsewhere).
    host: str | None = None
    #: Its port (default: 8100 for the first engine, 8200 for the second, …).
    port: Port | None = None
    #: GPUs it may see, as CUDA_VISIBLE_DEVICES (default: not set; []: none).
    gpus: tuple[int, ...] | None = None
    #: kind command: the path that answers 200 when it is ready (default: /health, else its models).
    ready_path: str | None = None
    #: Not available yet: start on the first request, unload when idle.
    on_demand: bool = False
    #: Not available yet: see on_demand.
    idle_unload_s: float | None = None
    #: Not available yet: kind container.
    image: str | None = None


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[host]`: this machine."""

    #: Stands after the @ in service names (default: the short host name).
    name: str | None = None
    #: Not available yet: groups of engines of which one may run at a time.
    never_together: tuple[tuple[str, ...], ...] = ()


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """babysitter.toml."""

    #: The babysitter's own record in the registry (default: babysitter@host).
    name: str | None = None
    #: Its own HTTP port (default: next to its first engine's, on the host that it advertises).
    listen: str | None = None
    #: The registry; several are addresses of one registry, the first that answers is used.
    #: []: none, engines are only kept running.
    registries: tuple[str, ...] = (REGISTRY_DEFAULT,)
    #: The address that routers reach this host at (default: the one that reaches the registry).
    advertise: str | None = None
    #: The cluster token, for the registry and for this babysitter's own port. Wanted off loopback,
    #: or auth = "none".
    token_file: str | None = None
    #: "none": anyone who reaches the port may stop engines.
    auth: Literal["none"] | None = None
    #: State and logs (default: $STATE_DIRECTORY, else ~/.local/state/creche/babysitter).
    state_dir: str | None = None
    #: On SIGTERM: "stop" the engines (what Ctrl-C wants), or "keep" them to be adopted by the next
    #: babysitter (what an upgrade wants).
    on_term: Literal["stop", "keep"] = "stop"
    host: Host = Host()
    defaults: Defaults = Defaults()
    engine: tuple[EngineConfig, ...] = ()
