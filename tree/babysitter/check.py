"""What is wrong with a babysitter's file: each fault with its place and one fix. Pure."""

import difflib
from collections.abc import Iterator

from babysitter.config import REGISTRY_DEFAULT, Config, EngineConfig
from babysitter.kinds import KINDS, LATER
from babysitter.settings import PORT_FIRST, PORT_STEP, engine_name, given, own_address, ports_of
from common import address
from common.config import Document, Problem
from common.names import UNUSABLE_HOSTS, is_name, why_not_a_name


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
        else:
            yield from _check_listen(config, document)
    for path, text in ((("name",), config.name), (("host", "name"), config.host.name)):
        if text is not None and not is_name(text):
            yield document.problem(path, why_not_a_name(text), fix=f'{path[-1]} = "gpu-03"')


def _check_listen(config: Config, document: Document) -> Iterator[Problem]:
    """Its address goes into every record: `creche logs` and `creche engine` go by it."""
    where = own_address(config, "127.0.0.1")
    remote = _elsewhere(config)
    if remote is None or not address.is_loopback(where.host):
        return
    yield document.problem(
        ("listen",),
        f"the babysitter listens on {where.host} but the registry is on {remote}",
        severity="warning",
        effect=(
            "Engines serve all the same, but their babysitter_url leads nowhere from other hosts:\n"
            "creche logs and creche engine work on this host only."
        ),
        fix="take the line out: it then listens where the registry and routers reach this host",
    )


def _elsewhere(config: Config) -> str | None:
    """The host of a registry that is not on this machine, as far as its address tells."""
    for url in config.registries:
        try:
            host = address.parse_http_url(url).host
        except ValueError:
            continue
        if not address.is_loopback(host):
            return host
    return None


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
    for index, (own, port) in enumerate(zip(config.engine, ports_of(config.engine), strict=True)):
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
    taken = set(ports_of(config.engine))
    return next(port for port in range(PORT_FIRST, 65000, PORT_STEP) if port not in taken)


def describe(config: Config) -> str:
    """What `check` prints for a file with nothing wrong."""
    names = [engine_name(own) for own in config.engine]
    count = "1 engine" if len(names) == 1 else f"{len(names)} engines"
    return f"{count}: {', '.join(names)}\n     not checked: whether programs and models are there"
