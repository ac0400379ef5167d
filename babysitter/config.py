"""The babysitter's TOML: what each key means, what is wrong with a file. Pure.

    [[engine]]
    kind  = "llama_cpp"
    model = "/models/qwen3-8b-q4.gguf"

is a whole file on one machine. `[defaults]` holds for every engine; an engine's own keys win.
"""

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

from babysitter.kinds import KINDS, LATER, Given
from babysitter.kinds.base import file_stem
from common import address
from common.address import Address
from common.config import Document, Problem
from common.names import UNUSABLE_HOSTS, is_name, why_not_a_name

PORT_FIRST = 8100
PORT_STEP = 100
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
    #: On a stop or restart, how long requests in flight may go on (default 30; 0: not at all).
    drain_timeout_s: Seconds | None = None
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


class Settings(Struct, frozen=True, kw_only=True):
    """One engine, all said: its own keys over `[defaults]` over ours."""

    given: Given
    kind: str
    gpus: tuple[int, ...] | None = None
    ready_timeout_s: float = 600.0
    unresponsive_s: float = 30.0
    stall_s: float = 90.0
    drain_timeout_s: float = 30.0
    stop_grace_s: float = 10.0
    max_restarts: int = 10
    restart_window_s: float = 600.0
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    healthy_s: float = 60.0
    identity: str = "socket"
    env: dict[str, str] = {}
    env_file: str | None = None
    log_bytes_max: int = 10 * 1024 * 1024
    log_files: int = 5
    weight: float = 1.0
    metadata: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return self.given.name


#: Keys of an engine that its record carries as they are.
METADATA_KEYS = (
    "capabilities", "region", "privacy", "cost", "gpu", "cache_type", "max_concurrency",
)  # fmt: skip


def settings(config: Config, engine_host: str, python: str) -> tuple[Settings, ...]:
    """Every engine of a config that `check` found nothing wrong with. `engine_host` is where an
    engine listens that says nothing; `python` runs the engines that are ours."""
    ports = list(_ports(config.engine))
    return tuple(
        _merged(config.defaults, one, port, engine_host, python)
        for one, port in zip(config.engine, ports, strict=True)
    )


def _merged(
    defaults: Defaults, own: EngineConfig, port: int, engine_host: str, python: str
) -> Settings:
    def value(key: str) -> Any:
        mine = getattr(own, key)
        return getattr(defaults, key) if mine is None else mine

    shared = {one.name for one in structs.fields(Shared)} - {"env", "metadata"}
    plain = shared & {one.name for one in structs.fields(Settings)}
    said = {key: value(key) for key in plain if value(key) is not None}
    metadata = {key: value(key) for key in METADATA_KEYS if value(key) is not None}
    if own.gpus:
        metadata.setdefault("gpu", True)
    return Settings(
        given=given(own, port, engine_host, python),
        kind=own.kind,
        gpus=own.gpus,
        env={**(defaults.env or {}), **(own.env or {})},
        metadata={**(defaults.metadata or {}), **(own.metadata or {}), **metadata},
        **said,
    )


def given(own: EngineConfig, port: int, engine_host: str, python: str) -> Given:
    return Given(
        name=engine_name(own),
        host=own.host or engine_host,
        port=port,
        python=python,
        bin=own.bin,
        model=own.model,
        models=own.models,
        args=own.args,
        command=own.command,
        config_file=own.config_file,
        work_dir=own.work_dir,
        ready_path=own.ready_path,
    )


def engine_name(own: EngineConfig) -> str:
    """Its name, else its model's file name with what no name may hold replaced, else its kind."""
    if own.name is not None:
        return own.name
    stem = file_stem(own.model) if own.model else ""
    if not stem and own.models:
        stem = own.models[0].rpartition("/")[2]
    return "".join(c if is_name(c) else "-" for c in stem)[:64].strip("-") or own.kind


def _ports(engines: tuple[EngineConfig, ...]) -> Iterator[int]:
    taken = {one.port for one in engines if one.port is not None}
    free = (port for port in range(PORT_FIRST, 65536, PORT_STEP) if port not in taken)
    for one in engines:
        yield one.port if one.port is not None else next(free, 0)


def own_address(config: Config, engine_host: str) -> Address:
    """Where the babysitter itself listens."""
    first = next(_ports(config.engine), PORT_FIRST)
    default = first + 1 if first < address.PORT_MAX else first - 1
    if config.listen is None:
        return Address(engine_host, default)
    return address.parse(config.listen, default)


# ── what is wrong with a file ────────────────────────────────────────────────────────────────────


def check(config: Config, document: Document) -> list[Problem]:
    """Faults across fields, in the file's order."""
    found = [
        *_check_top(config, document),
        *_check_later(config, document),
        *_check_secrets(("defaults", "env"), "defaults", config.defaults.env, document),
        *(
            one
            for index, own in enumerate(config.engine)
            for one in _check_engine(index, own, document)
        ),
        *_check_names(config, document),
        *_check_ports(config, document),
    ]
    return sorted(found, key=lambda one: (one.line, one.column))


def _check_top(config: Config, document: Document) -> Iterator[Problem]:
    if not config.engine:
        yield document.problem(
            ("engine",),
            "the file names no engine",
            effect="A babysitter without an engine has nothing to do.",
            fix='[[engine]]\nkind  = "llama_cpp"\nmodel = "/models/….gguf"',
        )
    for index, url in enumerate(config.registries):
        try:
            address.parse_http_url(url)
        except ValueError as why:
            yield document.problem(
                ("registries", index),
                str(why),
                effect="No engine could be registered, so no router would find one.",
                fix=f'registries = ["{REGISTRY_DEFAULT}"]',
            )
    if config.advertise is not None and (
        config.advertise in UNUSABLE_HOSTS or not address.is_host(config.advertise)
    ):
        yield document.problem(
            ("advertise",),
            f'"{config.advertise}" is no address that a router could reach',
            effect="Every router would read it as itself, or not at all.",
            fix="leave advertise out: the address that reaches the registry is taken",
        )
    if config.listen is not None:
        try:
            address.parse(config.listen, PORT_FIRST)
        except ValueError as why:
            yield document.problem(("listen",), str(why), fix='listen = "127.0.0.1:8101"')
    for path, text in ((("name",), config.name), (("host", "name"), config.host.name)):
        if text is not None and not is_name(text):
            yield document.problem(path, why_not_a_name(text), fix=f'{path[-1]} = "gpu-03"')


def _check_later(config: Config, document: Document) -> Iterator[Problem]:
    def later(path: tuple[str | int, ...], what: str) -> Problem:
        return document.problem(
            path,
            f"{what} is not available yet",
            effect="Ignoring it would start engines in a way that this file does not ask for.",
            fix="take the line out",
            on_key=True,
        )

    if config.host.never_together:
        yield later(("host", "never_together"), "never_together")
    for index, own in enumerate(config.engine):
        if own.on_demand:
            yield later(("engine", index, "on_demand"), "on_demand")
        if own.idle_unload_s is not None:
            yield later(("engine", index, "idle_unload_s"), "idle_unload_s")
        if own.image is not None and own.kind not in LATER:
            yield later(("engine", index, "image"), "image (kind container)")


def _check_engine(index: int, own: EngineConfig, document: Document) -> Iterator[Problem]:
    name = engine_name(own)
    if own.kind not in KINDS:
        yield _unknown_kind(index, own.kind, document)
        return
    missing = KINDS[own.kind].missing(given(own, own.port or PORT_FIRST, "127.0.0.1", "python3"))
    if missing is not None:
        yield document.problem(
            ("engine", index, missing.key),
            f"{name}: kind {own.kind} {missing.why}",
            effect="The engine could not be started.",
            fix=f"add  {missing.fix}",
        )
    if own.host is not None and not address.is_host(own.host) and not address.is_any(own.host):
        yield document.problem(
            ("engine", index, "host"), f'"{own.host}" is no address', fix='host = "127.0.0.1"'
        )
    if own.command and own.kind != "command":
        yield document.problem(
            ("engine", index, "command"),
            f"{name}: kind {own.kind} makes its own command line",
            effect="The command would be ignored.",
            fix='kind = "command", or give arguments with  args = ["…"]',
            on_key=True,
        )
    yield from _check_secrets(("engine", index, "env"), name, own.env, document)


def _check_secrets(
    place: tuple[str | int, ...], name: str, env: dict[str, str] | None, document: Document
) -> Iterator[Problem]:
    for key, value in (env or {}).items():
        if value and key.upper().endswith(("_KEY", "TOKEN", "SECRET", "PASSWORD")):
            yield document.problem(
                (*place, key),
                f"{name}: {key} looks like a secret written in the file",
                severity="warning",
                effect="Whoever may read this file has it.",
                fix=f'env_file = "/etc/creche/{name}.env"   with the line {key}=…, mode 600',
                on_key=True,
            )


def _unknown_kind(index: int, kind: str, document: Document) -> Problem:
    path = ("engine", index, "kind")
    if kind in LATER:
        return document.problem(
            path,
            f'kind "{kind}" is not available yet',
            effect="The engine could not be started.",
            fix='run the engine itself with another kind, e.g.  kind = "vllm"',
        )
    near = difflib.get_close_matches(kind.lower().replace("-", "_").replace(".", "_"), KINDS, 1)
    known = ", ".join(sorted(KINDS))
    return document.problem(
        path,
        f'unknown kind "{kind}"',
        effect="The engine could not be started.",
        fix=f'did you mean "{near[0]}"?' if near else f"one of {known}",
    )


def _check_names(config: Config, document: Document) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, own in enumerate(config.engine):
        name = engine_name(own)
        if own.name is not None and not is_name(name):
            yield document.problem(
                ("engine", index, "name"), why_not_a_name(name), fix='name = "llama-70b"'
            )
        if "@" in name:
            yield document.problem(
                ("engine", index, "name"),
                f'"{name}" holds an @',
                effect="Services are named engine@host: the host is added by itself.",
                fix=f'name = "{name.partition("@")[0]}"',
            )
        elif name in seen:
            line = document.line_of("engine", seen[name], "name")
            yield document.problem(
                ("engine", index, "name"),
                f'two engines are called "{name}" (the other at line {line})',
                effect="One record in the registry cannot stand for two engines.",
                fix=f'name = "{name}-2"',
            )
        seen.setdefault(name, index)


def _check_ports(config: Config, document: Document) -> Iterator[Problem]:
    seen: dict[int, list[tuple[str, str | None]]] = {}
    for index, (own, port) in enumerate(zip(config.engine, _ports(config.engine), strict=True)):
        name = engine_name(own)
        for other, host in seen.get(port, []):
            if _overlap(host, own.host):
                yield document.problem(
                    ("engine", index, "port"),
                    f'"{name}" and "{other}" both want port {port}',
                    effect="The second to start would fail.",
                    fix=f"port = {_free_port(config)}",
                )
                break
        seen.setdefault(port, []).append((name, own.host))
    if config.listen is None:
        mine, host = own_address(config, "127.0.0.1").port, None
    else:
        try:
            listen = own_address(config, "127.0.0.1")
        except ValueError:
            return
        mine, host = listen.port, listen.host
    for other, other_host in seen.get(mine, []):
        if _overlap(host, other_host):
            yield document.problem(
                ("listen",),
                f'the babysitter itself and "{other}" both want port {mine}',
                effect="One of them could not listen.",
                fix=f'listen = "127.0.0.1:{_free_port(config) + 1}"',
            )
            break


def _overlap(one: str | None, other: str | None) -> bool:
    """Whether two hosts (None: the default one) may mean the same socket."""
    return (
        one is None or other is None or one == other or address.is_any(one) or address.is_any(other)
    )


def _free_port(config: Config) -> int:
    taken = set(_ports(config.engine))
    return next(port for port in range(PORT_FIRST, 65000, PORT_STEP) if port not in taken)


def describe(config: Config) -> str:
    """What `check` prints for a file with nothing wrong."""
    names = [engine_name(own) for own in config.engine]
    count = "1 engine" if len(names) == 1 else f"{len(names)} engines"
    return f"{count}: {', '.join(names)}\n     not checked: whether programs and models are there"
