"""What a kind of engine is: how it is started, and what its answers mean. Pure.

Each kind is one small module with `plan(given) -> Run` and, where it needs more than a model,
`missing(given)`. A command line is a list, never a shell string.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: A server behind these is there, but not yet (or no longer) able to serve.
LOADING = frozenset({502, 503, 504})

MODEL_PATHS = ("/v1/models", "/models")


@dataclass(frozen=True, slots=True)
class Given:
    """What the config says of one engine, as far as its command line is concerned.

    `host` and `port` are where it must listen. `python` is the interpreter that runs Creche.
    """

    name: str
    host: str
    port: int
    python: str
    bin: str | None = None
    model: str | None = None
    models: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    config_file: str | None = None
    work_dir: str | None = None
    ready_path: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What clients ask for: the configured names, else a file's or folder's own name; empty
        where the model is no path (an id of a hub names itself)."""
        if self.models or self.model is None:
            return self.models
        return (file_stem(self.model),) if is_path(self.model) else ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an engine tells what it does, in Prometheus' text form: samples that count requests it
    works on and requests that wait, samples that grow with work, and, under whichever of these
    names it has, the share of its cache that is in use (0 to 1)."""

    path: str
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    work: tuple[str, ...]
    cache_use: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*self.running, *self.waiting, *self.work, *self.cache_use))


@dataclass(frozen=True, slots=True)
class Probe:
    """How to ask an engine of a kind whether it is ready, and what for.

    The first of `ready_paths` that is not 404 decides: 2xx is ready, `loading` is "still loading".
    `any_answer`: the kind has no health path; whatever is not `loading` counts as an answer.
    `lists_models`: without a list from it there is nothing to serve; False: it has none to give.
    """

    ready_paths: tuple[str, ...] = ("/health",)
    model_paths: tuple[str, ...] = MODEL_PATHS
    loading: frozenset[int] = LOADING
    any_answer: bool = False
    lists_models: bool = True
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What to start. `env` is added to what the engine gets anyway."""

    argv: tuple[str, ...]
    probe: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A key that this kind cannot do without. `fix` is a line for the config."""

    key: str
    why: str
    fix: str


def needs_model(given: Given) -> Missing | None:
    if given.model:
        return None
    return Missing("model", "names no model to load", 'model = "/models/…"')


def model_at(given: Given) -> str | None:
    """The model's place on this machine's disk; None for an id of a hub."""
    return given.model if given.model and given.model.startswith("/") else None


def no_model(given: Given) -> str | None:
    """For kinds whose `model` is a name, or is read by nobody."""
    return None


@dataclass(frozen=True, slots=True)
class Kind:
    """`program_fix`: the line that settles a program that is not there. `model_at`: the file or
    folder that its engine reads the model from."""

    plan: Callable[[Given], Run]
    missing: Callable[[Given], Missing | None] = needs_model
    program_fix: str = 'bin = "/path/to/python"'
    model_at: Callable[[Given], str | None] = model_at


def is_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~")) or model.endswith((".gguf", ".ggml"))


def file_stem(model: str) -> str:
    """`/models/qwen3-8b-q4.gguf` → `qwen3-8b-q4`; `/models/Llama-3.3-70B` keeps its dot."""
    name = model.rstrip("/").rpartition("/")[2]
    for suffix in (".gguf", ".ggml"):
        name = name.removesuffix(suffix)
    return name


def has_flag(args: tuple[str, ...], *flags: str) -> bool:
    """Whether the operator's own arguments already say it (`--flag x` or `--flag=x`)."""
    return any(arg == flag or arg.startswith(f"{flag}=") for arg in args for flag in flags)
