"""Engines under real shims, in folders of the test's own, none of them left at its end."""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from babysitter import processes, procfs
from babysitter.shim_client import EngineSpec, ShimHandle, folder_mark, launch, sweep_orphans
from tests.support.until import until

#: A line in one write: whole for who reads it, and safe in a signal handler.
PRINT = "import os\ndef print(*words): os.write(1, (' '.join(map(str, words)) + '\\n').encode())\n"


def python(script: str) -> list[str]:
    """An engine that runs `script`."""
    return [sys.executable, "-I", "-S", "-c", PRINT + script]


class Bench:
    """`base` holds a folder per engine; `runtime` is short enough for sockets."""

    def __init__(self, base: Path, runtime: Path) -> None:
        self.base = base
        self.runtime = runtime

    def folder(self, engine: str = "engine") -> Path:
        return self.base / engine

    def spec(self, argv: list[str], engine: str = "engine", **more: object) -> EngineSpec:
        given = {"env": {"PATH": os.environ["PATH"]}, "instance_id": "life-1", **more}
        return EngineSpec(engine=engine, argv=argv, **given)  # type: ignore[arg-type]

    async def launch(
        self,
        script: str | list[str],
        engine: str = "engine",
        *,
        linger_s: float = 60,
        cgroup_parent: str | None = None,
        **more: object,
    ) -> ShimHandle:
        argv = python(script) if isinstance(script, str) else script
        spec = self.spec(argv, engine, **more)
        return await launch(
            spec,
            folder=self.folder(engine),
            runtime=self.runtime,
            linger_s=linger_s,
            cgroup_parent=cgroup_parent,
        )

    def marked(self, engine: str = "engine") -> list[procfs.Proc]:
        """Its running processes and its shim."""
        found = processes.find_marked(folder_mark(self.folder(engine)))
        return [proc for proc in found if proc.state not in "ZX"]


async def said(handle: ShimHandle, text: str) -> str:
    """Wait until a line of the engine's output holds `text`; that line."""

    async def line() -> str | None:
        return next((line for line in await handle.tail(1000) if text in line), None)

    return str(await until(line, 30.0, f"the engine says {text!r}"))


@asynccontextmanager
async def bench(base: Path) -> AsyncIterator[Bench]:
    """Afterwards nothing that carries a mark of it runs; what does fails the test, and ends."""
    runtime = Path(tempfile.mkdtemp(prefix="creche-shim-"))
    one = Bench(base, runtime)
    try:
        yield one
        assert [proc for engine in os.listdir(base) for proc in one.marked(engine)] == []
    finally:
        for engine in os.listdir(base):
            await sweep_orphans(base / engine)
        shutil.rmtree(runtime, ignore_errors=True)
