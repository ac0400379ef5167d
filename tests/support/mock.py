"""Mock engines for tests: as a process (`start_mock`), or in the test's own loop (`mock_here`).

Both give the same handle: its url, what it saw, its faults.
"""

import asyncio
import json
import os
import re
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from babysitter.mock.engine import Engine
from babysitter.mock.faults import Standing, rule_from_table
from babysitter.mock.serving import serve
from babysitter.mock.settings import Settings
from tests.support.processes import Process, Processes
from tests.support.until import until

READY = re.compile(r" ready on http://(?P<host>\S+):(?P<port>\d+) ")


class MockHandle:
    """A running mock engine. `url` has no slash at its end; `base_url` is for OpenAI clients."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.url = f"http://{host}:{port}"
        self.base_url = f"{self.url}/v1"

    async def stats(self) -> dict[str, Any]:
        """`GET /mock/stats`: see docs/mock-engine.md."""
        raise NotImplementedError

    async def reset(self) -> None:
        """Counts to zero, faults as they were at the start."""
        raise NotImplementedError

    async def faults(self, *rules: dict[str, Any]) -> None:
        """Standing faults in place of those before: `await mock.faults({"status": 500})`.

        None clears them.
        """
        raise NotImplementedError

    async def saw(self, *, timeout_s: float = 30.0, **wanted: Any) -> dict[str, Any]:
        """Wait until the stats hold these values (`in_flight=0`, `requests=3`); the stats.

        Dots are written as double underscores: `aborts__streaming=1`.
        """

        async def ask() -> dict[str, Any] | None:
            stats = await self.stats()
            return (
                stats if all(_dig(stats, key) == value for key, value in wanted.items()) else None
            )

        return await until(ask, timeout_s, f"{self.name} saw {wanted}")


class ProcessMock(MockHandle):
    """A mock engine as a real process. `close` is needed unless `processes` was given."""

    def __init__(self, name: str, host: str, port: int, process: Process, own: Processes | None):
        super().__init__(name, host, port)
        self.process = process
        self.pid = process.pid
        self._own = own
        #: How often its stats were asked for: each time over a connection of its own.
        self.looks = 0

    @property
    def log(self) -> str:
        return self.process.log

    async def stats(self) -> dict[str, Any]:
        self.looks += 1
        return await self._ask("/mock/stats")

    async def reset(self) -> None:
        await self._ask("/mock/reset", b"")

    async def faults(self, *rules: dict[str, Any]) -> None:
        await self._ask("/mock/faults", json.dumps(rules).encode())

    def kill(self) -> None:
        """SIGKILL, and wait until it has ended."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        return self.process.stop()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    async def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(self.url + path, body, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        return await asyncio.to_thread(ask)


async def start_mock(
    processes: Processes | None = None,
    *,
    name: str = "mock",
    models: Sequence[str] = ("mock-model",),
    host: str = "127.0.0.1",
    port: int = 0,
    env: dict[str, str] | None = None,
    **flags: Any,
) -> ProcessMock:
    """Start one, wait until it is ready. `flags` are its flags: `pace_ms=5, fault=["status=500"]`.

    With `processes`, the test's own end it; without, call `close()`.
    """
    own = None
    if processes is None:
        own = processes = Processes(Path(tempfile.mkdtemp(prefix="creche-mock-")))
    argv = ["-m", "babysitter.mock", "--name", name, "--host", host, "--port", str(port)]
    for model in models:
        argv += ["--model", model]
    for flag, value in flags.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not False:
                argv += [f"--{flag.replace('_', '-')}", *([] if one is True else [str(one)])]
    process = processes.python(*argv, name=name, env=env)
    found = READY.search(await process.said(" ready on http://"))
    assert found, process.log
    return ProcessMock(name, host, int(found["port"]), process, own)


class MockHere(MockHandle):
    """A mock engine in this loop. `engine` may be looked into; `lines` is its log."""

    def __init__(self, engine: Engine, port: int, lines: list[str]) -> None:
        super().__init__(engine.settings.name, engine.settings.host, port)
        self.engine = engine
        self.lines = lines
        self.pid = os.getpid()

    async def stats(self) -> dict[str, Any]:
        return self.engine.table()

    async def reset(self) -> None:
        self.engine.reset()

    async def faults(self, *rules: dict[str, Any]) -> None:
        self.engine.standing = Standing(tuple(rule_from_table(rule) for rule in rules))


@asynccontextmanager
async def mock_here(
    *,
    name: str = "mock",
    models: Sequence[str] = ("mock-model",),
    faults: Sequence[dict[str, Any]] = (),
    **settings: Any,
) -> AsyncIterator[MockHere]:
    """`async with mock_here(models=["m"], max_concurrency=1) as mock:`"""
    rules = tuple(rule_from_table(rule) for rule in faults)
    lines: list[str] = []
    engine = Engine(
        Settings(name=name, models=tuple(models), faults=rules, **settings), lines.append
    )
    async with serve(engine) as port:
        yield MockHere(engine, port, lines)


def _dig(table: dict[str, Any], key: str) -> Any:
    found: Any = table
    for part in key.split("__"):
        found = found[part]
    return found
