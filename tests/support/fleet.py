"""A whole fleet as real processes: registry, router, babysitters with engines, on free ports.

    with Fleet(tmp_path) as fleet:
        fleet.registry()
        fleet.babysitter("a", [mock("mock-a", "model-a")])
        fleet.router()
        fleet.wait_models("model-a")

Each part waits until it can be asked. `Part.kill9()` and `Part.start()` are an accident and what
comes after it: same config, same port. Nothing outlives the `with`.
"""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomlkit
from msgspec import Struct

from tests.support.ports import free_port
from tests.support.processes import Process, Processes
from tests.support.until import until_sync


class Part:
    """A daemon of the fleet: its config file, its url, its process as of now."""

    def __init__(self, fleet: "Fleet", name: str, module: str, config: Path, port: int) -> None:
        self.fleet = fleet
        self.name = name
        self.module = module
        self.config = config
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        #: On its command line, besides its configuration.
        self.flags: tuple[str, ...] = ()
        self.process: Process

    def start(self, *, ready: str | None = "/ready") -> Self:
        """Start it (again), and wait until `ready` answers 200; None does not wait."""
        self.process = self.fleet.processes.python(
            "-m", self.module, *self.flags, "--config", self.config, name=self.name
        )
        if ready is not None:
            try:
                self.process.ready_sync(self.url + ready)
            except AssertionError as why:
                raise AssertionError(f"{why}\n{self.process.tail()}") from None
        return self

    def kill9(self) -> None:
        """SIGKILL, and wait until it has ended."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        return self.process.stop(30)

    def get(self, path: str) -> Any:
        """The JSON at `path`, whatever the status."""
        return ask(self.url + path)[1]

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        return ask(self.url + path, {} if body is None else body)


class Fleet:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes(folder)
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.processes.close()

    def registry(self, *, name: str = "registry", start: bool = True, **config: Any) -> Part:
        """Another `name` is another registry beside the first."""
        return self._part(name, "registry", config, start=start)

    def router(
        self, *, name: str = "router", start: bool = True, replaceable: bool = False, **config: Any
    ) -> Part:
        """Another `name` is another router beside the first."""
        if "registry" in self.parts:
            config.setdefault("registries", [self.parts["registry"].url])
        part = self._part(name, "router", config, start=False)
        part.flags = ("--replaceable",) if replaceable else ()
        return part.start() if start else part

    def babysitter(
        self, name: str, engines: Sequence[dict[str, Any]], *, start: bool = True, **config: Any
    ) -> Part:
        """`engines` are `[[engine]]` tables; those without a port get a free one."""
        if "registry" in self.parts:
            config.setdefault("registries", [self.parts["registry"].url])
        config.setdefault("name", name)
        config.setdefault("host", {"name": "test"})
        config["engine"] = [{"port": free_port(), **one} for one in engines]
        part = self._part(name, "babysitter", config, start=False)
        return part.start(ready="/health") if start else part

    def _part(self, name: str, module: str, config: dict[str, Any], *, start: bool) -> Part:
        port = int(config["listen"].rpartition(":")[2]) if "listen" in config else free_port()
        config = {
            "listen": f"127.0.0.1:{port}",
            "state_dir": str(self.folder / "state" / name),
            **config,
        }
        path = self.folder / f"{name}.toml"
        path.write_text(toml(config))
        part = self.parts[name] = Part(self, name, module, path, port)
        return part.start() if start else part

    @property
    def url(self) -> str:
        return self.parts["router"].url

    def models(self) -> list[str]:
        return [one["id"] for one in self.parts["router"].get("/v1/models")["data"]]

    def wait_models(self, *names: str, timeout_s: float = 30.0) -> None:
        """Wait until the router lists at least these."""
        until_sync(lambda: set(names) <= set(self.models()), timeout_s, f"models {names}")

    def service(self, name: str) -> dict[str, Any] | None:
        """The router's view of a service."""
        for one in self.parts["router"].get("/services")["services"]:
            if one["name"] == name:
                found: dict[str, Any] = one
                return found
        return None

    def wait_service(self, name: str, *, timeout_s: float = 30.0, **wanted: Any) -> dict[str, Any]:
        """Wait until the router sees `name` with these values; no values: until it sees it."""

        def look() -> dict[str, Any] | None:
            found = self.service(name)
            fits = found is not None and all(found[key] == value for key, value in wanted.items())
            return found if fits else None

        found = until_sync(look, timeout_s, f"{name} with {wanted}")
        assert found is not None
        return found


def mock(name: str, *models: str, **more: Any) -> dict[str, Any]:
    """An `[[engine]]` of kind mock."""
    return {"kind": "mock", "name": name, "models": list(models), **more}


def chat(model: str, text: str = "hi", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def ask(
    url: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> tuple[int, Any]:
    """Status and JSON (or text) of a GET, or of a POST when there is a body. Raises OSError where
    no whole answer comes."""
    found = answer_of(url, body, headers, method)
    return found.status, found.body


class Answer(Struct, frozen=True):
    """`headers` have names in lower case. `body` is JSON, or text where it is none."""

    status: int
    headers: dict[str, str]
    body: Any


def answer_of(
    url: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> Answer:
    """`ask`, with the headers of the answer."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"content-type": "application/json", **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return _whole(answer.status, answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return _whole(refusal.code, refusal)
    except http.client.HTTPException as why:  # who answered was killed amid it
        raise ConnectionError(f"{url} broke off: {why!r}") from why


def _whole(status: int, answer: http.client.HTTPResponse | urllib.error.HTTPError) -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(status, headers, _decoded(answer.read()))


def _decoded(body: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(body)
    return body.decode(errors="replace")


def toml(table: dict[str, Any]) -> str:
    """A config as TOML; names with dots get their quotes."""
    return tomlkit.dumps(table)
