"""One engine, all said: its own keys over `[defaults]` over ours. Pure."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from babysitter.config import Config, Defaults, EngineConfig, Shared
from babysitter.kinds import Given
from babysitter.kinds.base import file_stem
from babysitter.lifecycle import Limits
from babysitter.restart import Policy
from common import address
from common.address import Address
from common.names import is_name

PORT_FIRST = 8100
PORT_STEP = 100


class Settings(Struct, frozen=True, kw_only=True):
    """What an engine runs with; `config.Shared` says what each key means."""

    given: Given
    kind: str
    gpus: tuple[int, ...] | None = None
    ready_timeout_s: float = 600.0
    unresponsive_s: float = 30.0
    stall_s: float = 90.0
    metrics_s: float = 5.0
    drain_timeout_s: float = 30.0
    drain_idle_s: float = 2.0
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
    ports = list(ports_of(config.engine))
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


def ports_of(engines: tuple[EngineConfig, ...]) -> Iterator[int]:
    taken = {one.port for one in engines if one.port is not None}
    free = (port for port in range(PORT_FIRST, 65536, PORT_STEP) if port not in taken)
    for one in engines:
        yield one.port if one.port is not None else next(free, 0)


def own_address(config: Config, engine_host: str) -> Address:
    """Where the babysitter itself listens."""
    first = next(ports_of(config.engine), PORT_FIRST)
    default = first + 1 if first < address.PORT_MAX else first - 1
    if config.listen is None:
        return Address(engine_host, default)
    return address.parse(config.listen, default)


def limits_of(settings: Settings) -> Limits:
    return Limits(
        ready_timeout_s=settings.ready_timeout_s,
        unresponsive_s=settings.unresponsive_s,
        drain_timeout_s=settings.drain_timeout_s,
        stop_grace_s=settings.stop_grace_s,
    )


def policy_of(settings: Settings) -> Policy:
    return Policy(
        first_s=settings.backoff_first_s,
        max_s=settings.backoff_max_s,
        healthy_s=settings.healthy_s,
        max_restarts=settings.max_restarts,
        window_s=settings.restart_window_s,
    )
