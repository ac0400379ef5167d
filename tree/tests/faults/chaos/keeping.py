"""Where the registries of an arena keep their table, and how it is broken.

Alone    one registry with SQLite on a small disk
Shared   two registries on one Redis, each with a link of its own to it
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.faults.chaos.link import Link
from tests.support.processes import Processes
from tests.support.redis import RedisServer

DISK_BYTES = 6 << 20
#: Shorter than what is asked of a view: who waits for a silent Redis tells nobody anything.
STATE_TIMEOUT_S = 0.5


class Keeping(Protocol):
    registries: tuple[str, ...]
    #: A small disk that can be full; None where this user may not mount one.
    disk: Path | None
    redis: RedisServer | None
    #: From each registry to what it shares with others.
    links: Mapping[str, Link]

    @property
    def port_names(self) -> list[str]: ...

    async def open(self, ports: Mapping[str, int], processes: Processes) -> None: ...

    def config(self, registry: str) -> dict[str, Any]: ...

    def targets(self) -> dict[str, tuple[str, ...]]: ...

    def forget(self) -> None: ...

    async def close(self) -> None: ...


class Alone:
    registries = ("registry",)
    redis = None
    links: Mapping[str, Link] = {}

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state" / "registry"
        self.disk: Path | None = None

    @property
    def port_names(self) -> list[str]:
        return []

    async def open(self, ports: Mapping[str, int], processes: Processes) -> None:
        self.disk = mounted(self._state)

    def config(self, registry: str) -> dict[str, Any]:
        return {}

    def targets(self) -> dict[str, tuple[str, ...]]:
        return {"sqlite": self.registries}

    def forget(self) -> None:
        """The one registry is dead: what it kept is gone."""
        for one in self._state.iterdir():
            remove(one)

    async def close(self) -> None:
        return None


class Shared:
    registries = ("registry", "registry-2")

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "redis"
        self.disk: Path | None = None
        self.redis: RedisServer | None = None
        self.links: dict[str, Link] = {}

    @property
    def port_names(self) -> list[str]:
        return ["redis", *(f"to-redis-from-{name}" for name in self.registries)]

    async def open(self, ports: Mapping[str, int], processes: Processes) -> None:
        self.disk = mounted(self._folder)
        # Every second: on a full disk it refuses to write, where with "always" it would end.
        self.redis = RedisServer(processes, self._folder, keeps="everysec", port=ports["redis"])
        self.redis.start()
        for name in self.registries:
            link = Link(ports[f"to-redis-from-{name}"], ports["redis"])
            self.links[f"to-redis-from-{name}"] = link
            await link.listen()

    def config(self, registry: str) -> dict[str, Any]:
        link = self.links[f"to-redis-from-{registry}"]
        return {
            "state": f"redis://127.0.0.1:{link.port}/0",
            "state_timeout_s": STATE_TIMEOUT_S,
        }

    def targets(self) -> dict[str, tuple[str, ...]]:
        return {"redis": ("redis",), "to-redis": tuple(self.links)}

    def forget(self) -> None:
        """Redis is dead: what it kept is gone."""
        assert self.redis is not None
        for one in self.redis.folder.iterdir():
            remove(one)

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()


def mounted(where: Path) -> Path | None:
    """A small disk of its own at `where`; None where this user may not mount one."""
    where.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(where)],
        capture_output=True,
        check=False,
    )
    return where if made.returncode == 0 else None


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
