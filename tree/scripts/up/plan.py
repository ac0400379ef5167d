"""What `make up` runs and on which ports, and the configs that say so. Pure.

PORT=8000 ─▶ router 8000   engines 8100 8200 8300   babysitter 8101   registry 18000
PORT=8010 ─▶ router 8010   engines 8110 8210 8310   babysitter 8111   registry 18010
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PORT = 8000
#: From the router's port to the others': all of them move with PORT.
REGISTRY_OFFSET = 10_000
BABYSITTER_OFFSET = 101
ENGINE_OFFSETS = (100, 200, 300)
TINY = "tiny-llama"


@dataclass(frozen=True)
class Engine:
    """`what` is told on its line while it starts."""

    name: str
    kind: str
    models: tuple[str, ...]
    port: int
    what: str
    model: Path | None = None


@dataclass(frozen=True)
class Plan:
    """`data` is the folder for everything that this run writes."""

    data: Path
    router_port: int
    registry_port: int
    babysitter_port: int
    engines: tuple[Engine, ...]

    @property
    def router_url(self) -> str:
        return f"http://{HOST}:{self.router_port}"

    @property
    def registry_url(self) -> str:
        return f"http://{HOST}:{self.registry_port}"

    @property
    def babysitter_url(self) -> str:
        return f"http://{HOST}:{self.babysitter_port}"

    def ports(self) -> dict[int, str]:
        """Every port that must be free, and whose it is."""
        engines = {one.port: one.name for one in self.engines}
        return {
            self.router_port: "router",
            self.registry_port: "registry",
            self.babysitter_port: "babysitter",
            **engines,
        }


def plan(data: Path, port: int, registry_port: int | None, gguf: Path | None) -> Plan:
    """Raises ValueError (what, fix) when a port would be none, or two would be the same."""
    first = _llama(data, port + ENGINE_OFFSETS[0], gguf)
    mocks = tuple(
        Engine(name, "mock", ("mock-shared",), port + offset, 'both serve "mock-shared"')
        for name, offset in zip(("mock-a", "mock-b"), ENGINE_OFFSETS[1:], strict=True)
    )
    made = Plan(
        data=data,
        router_port=port,
        registry_port=registry_port if registry_port is not None else port + REGISTRY_OFFSET,
        babysitter_port=port + BABYSITTER_OFFSET,
        engines=(first, *mocks),
    )
    for one, whose in made.ports().items():
        if not 1 <= one <= 65535:
            raise ValueError(
                f"{whose} would get port {one}; ports are 1 to 65535",
                f"Choose another:  make up PORT={PORT + 10}",
            )
    if len(made.ports()) != 3 + len(made.engines):
        raise ValueError(
            f"REGISTRY_PORT={made.registry_port} is one of the others' ports",
            f"Leave it out: it follows from PORT, {port + REGISTRY_OFFSET}",
        )
    return made


def _llama(data: Path, port: int, gguf: Path | None) -> Engine:
    if gguf is None:
        what = "llama.cpp (random weights: gibberish)"
        return Engine(TINY, "xllamacpp", (TINY,), port, what, data / f"{TINY}.gguf")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", gguf.stem)[:64].strip("-") or "model"
    if name in ("mock-a", "mock-b", "mock-shared"):
        name = f"my-{name}"
    return Engine(name, "xllamacpp", (name,), port, f"llama.cpp ({gguf.name})", gguf)


# ---- configs -----------------------------------------------------------------------------------

HEADER = "# Written anew by every `make up`. All keys, commented: configs/{name}\n\n"


def configs(made: Plan) -> dict[str, str]:
    """File name to TOML."""
    return {
        "registry.toml": HEADER.format(name="registry.toml") + _registry(made),
        "router.toml": HEADER.format(name="router.toml") + _router(made),
        "babysitter.toml": HEADER.format(name="babysitter.toml") + _babysitter(made),
    }


def _registry(made: Plan) -> str:
    return (
        f"listen    = {_text(f'{HOST}:{made.registry_port}')}\n"
        f"state_dir = {_text(made.data / 'registry')}\n"
    )


def _router(made: Plan) -> str:
    return (
        f"listen     = {_text(f'{HOST}:{made.router_port}')}\n"
        f"registries = [{_text(made.registry_url)}]\n"
        f"state_dir  = {_text(made.data / 'router')}\n"
        "\n"
        "[timeouts]\n"
        "drain_s = 5                  # Ctrl-C does not wait long for running answers\n"
    )


def _babysitter(made: Plan) -> str:
    head = (
        f"listen     = {_text(f'{HOST}:{made.babysitter_port}')}\n"
        f"registries = [{_text(made.registry_url)}]\n"
        f"state_dir  = {_text(made.data / 'babysitter')}\n"
        "\n"
        "[defaults]\n"
        "drain_timeout_s = 5\n"
    )
    return head + "".join(_engine(one) for one in made.engines)


def _engine(one: Engine) -> str:
    lines = [f"name   = {_text(one.name)}", f"kind   = {_text(one.kind)}"]
    if one.model is not None:
        lines.append(f"model  = {_text(one.model)}")
    lines.append(f"models = [{', '.join(_text(name) for name in one.models)}]")
    lines.append(f"port   = {one.port}")
    return "\n[[engine]]\n" + "\n".join(lines) + "\n"


def _text(value: object) -> str:
    """A TOML string. JSON's escapes are a subset of TOML's."""
    return json.dumps(str(value), ensure_ascii=False)
