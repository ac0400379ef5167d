"""The fleet that is broken: a registry behind a link, or two that share a Redis; two routers, three
babysitters, five engines of theirs, and one engine that only the routers' files name, behind a link
of its own.

    shared   a1 a2 b1 and the far one        spare   b2 c1
    chat     a1 b1 c1                        chain   chat, then spare

Every time is short, so that a minute holds many lives, and longer than the `PAUSE_S` for which a
shared machine may let anything of it stand still: that is no fault of the plan's.
"""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from babysitter import procfs
from babysitter.shim_life import State, read_state
from tests.faults.chaos import engine_start
from tests.faults.chaos.keeping import Alone, Keeping, Shared
from tests.faults.chaos.ledger import Rules
from tests.faults.chaos.link import Link
from tests.support.fleet import Fleet, Part, mock
from tests.support.mock import ProcessMock, start_mock
from tests.support.ports import free_ports

PAUSE_S = 3.0
LEASE = {"beat_s": 1, "lease_s": 8, "suspect_max_s": 15}
STALL_S = 6.0
TIMEOUTS = {
    "connect_s": 4,
    "first_event_s": 4,
    "between_chunks_s": 5,
    "total_s": 8,
    "drain_s": 10,
}
RETRY = {"attempts_per_target": 4, "attempts_max": 8, "budget_floor_per_s": 200, "rest_s": 1}
BREAKER = {"failures": 4, "open_s": 1, "trials": 2}
HEALTH = {"connect_probe_s": 0.3, "probe_s": 1, "probe_timeout_s": 4, "probe_slow_s": 0.5}
DEFAULTS: dict[str, Any] = {
    "backoff_first_s": 0.2,
    "backoff_max_s": 1,
    "healthy_s": 2,
    "max_restarts": 50,
    "ready_timeout_s": 60,
    "unresponsive_s": 4,
    "stall_s": STALL_S,
    "drain_timeout_s": 1,
    "stop_grace_s": 1,
}
SITTERS = {
    "a": {"a1": ("shared", "chat"), "a2": ("shared",)},
    "b": {"b1": ("shared", "chat"), "b2": ("spare",)},
    "c": {"c1": ("spare", "chat")},
}
ROUTERS = ("r1", "r2")
FAR = "far"
#: What a client asks for, and the models that may answer.
ASKED = {
    "shared": ("shared",),
    "chat": ("chat",),
    "spare": ("spare",),
    "chain": ("chat", "spare"),
}
ENGINE_ARGS = ("--pace-ms", "4", "--anonymous")


class Arena:
    """Set up by `open`; nothing outlives `close`. `shared`: two registries on one Redis."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self.folder = folder
        self.keeping: Keeping = Shared(folder) if shared else Alone(folder)
        self.fleet = Fleet(folder)
        self.engines = {name: sitter for sitter, own in SITTERS.items() for name in own}
        self.ports: dict[str, int] = {}
        self.far: ProcessMock
        #: To each registry, from everyone.
        self.links: dict[str, Link] = {}
        self.peer: Link

    # --- what there is ----------------------------------------------------------------------------

    @property
    def routers(self) -> dict[str, Part]:
        return {name: self.fleet.parts[name] for name in ROUTERS}

    @property
    def sitters(self) -> dict[str, Part]:
        return {name: self.fleet.parts[name] for name in SITTERS}

    @property
    def registries(self) -> dict[str, Part]:
        return {name: self.fleet.parts[name] for name in self.keeping.registries}

    def targets(self) -> dict[str, tuple[str, ...]]:
        """By role, what may be broken here."""
        return {
            "engine": tuple(self.engines),
            "babysitter": tuple(SITTERS),
            "router": ROUTERS,
            "registry": self.keeping.registries,
            "disk": () if self.keeping.disk is None else ("disk",),
            "link": tuple(self.links),
            "peer": (FAR,),
            **self.keeping.targets(),
        }

    def rules(self) -> Rules:
        models = {service(name): own[name] for own in SITTERS.values() for name in own}
        models[FAR] = ("shared",)
        return Rules(
            upstreams={
                asked: [one for one, serves in models.items() if set(serves) & set(names)]
                for asked, names in ASKED.items()
            },
            attempts_max=RETRY["attempts_per_target"],
        )

    def state(self, engine: str) -> State | None:
        """What its shim last wrote down."""
        return read_state(self.engine_folder(engine), strict=False)

    def engine_folder(self, engine: str) -> Path:
        return self.folder / "state" / self.engines[engine] / "engines" / engine

    def pid(self, engine: str, *, shim: bool = False) -> int | None:
        """Its process now, or its shim's; None where there is none."""
        found = self.state(engine)
        if found is None:
            return None
        pid, start = (
            (found.shim_pid, found.shim_start_time) if shim else (found.pid, found.start_time)
        )
        return pid if pid and procfs.is_alive(pid, start) else None

    def crash(self, engine: str, how: str | None) -> None:
        """`once`, `loop`, or None: as well as ever."""
        path = self.folder / f"{engine}.crash"
        if how is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(how)

    # --- begin and end ----------------------------------------------------------------------------

    async def open(self) -> None:
        registries = self.keeping.registries
        links = {one: f"to-{one}" for one in registries}
        names = ["far", "peer", *ROUTERS, *SITTERS, *self.engines, *registries, *links.values()]
        names += self.keeping.port_names
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.peer = Link(self.ports["peer"], self.ports["far"])
        await self.peer.listen()
        for registry, link in links.items():
            self.links[link] = Link(self.ports[link], self.ports[registry])
            await self.links[link].listen()
        fleet = self.fleet
        await self.keeping.open(self.ports, fleet.processes)
        start = self._engine_start()
        for registry in registries:
            own = self.keeping.config(registry)
            fleet.registry(
                name=registry, start=False, listen=self._listen(registry), lease=LEASE, **own
            )
        for sitter, engines in SITTERS.items():
            fleet.babysitter(
                sitter,
                [self._engine(name, models, start) for name, models in engines.items()],
                start=False,
                listen=self._listen(sitter),
                registries=self._registries(sitter),
                defaults=DEFAULTS,
            )
        for router in ROUTERS:
            self._router(router)
        self.far = await start_mock(
            fleet.processes,
            name=FAR,
            models=["shared"],
            port=self.ports["far"],
            pace_ms=4,
            anonymous=True,
        )
        for part in fleet.parts.values():
            part.start(ready=None)

    def _registries(self, part: str) -> list[str]:
        """Some begin with the one, some with the other."""
        urls = [link.url for link in self.links.values()]
        return urls[::-1] if part in ("r2", "b") else urls

    def _listen(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def _engine(self, name: str, models: tuple[str, ...], start: Path) -> dict[str, Any]:
        env = {
            engine_start.NAME: name,
            engine_start.FOLDER: str(self.folder),
            "CHAOS_PYTHON": sys.executable,
        }
        # Some leave a process behind that is in a session of its own and ignores SIGTERM.
        args = (*ENGINE_ARGS, "--workers", "1") if name in ("a2", "b2") else ENGINE_ARGS
        return mock(name, *models, port=self.ports[name], bin=str(start), args=list(args), env=env)

    def _router(self, name: str) -> None:
        far = {
            "name": FAR,
            "host": "127.0.0.1",
            "port": self.ports["peer"],
            "metadata": {"models": ["shared"]},
        }
        self.fleet.router(
            name=name,
            start=False,
            listen=self._listen(name),
            registries=self._registries(name),
            static_services=[far],
            timeouts=TIMEOUTS,
            retry=RETRY,
            breaker=BREAKER,
            health=HEALTH,
            limits={"body_memory_bytes": 65_536},
            expect=["chat", "spare"],
            models={"chain": {"targets": {"chat": 1}, "fallbacks": ["spare"]}},
        )

    def _engine_start(self) -> Path:
        source = Path(engine_start.__file__).read_text()
        path = self.folder / "engine-start"
        path.write_text(f"#!{sys.executable} -IS\n{source}")
        path.chmod(0o755)
        return path

    async def close(self) -> None:
        for link in (*self.links.values(), self.peer):
            await link.close()
        await self.keeping.close()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self.fleet.processes.close()
        finally:
            if self.keeping.disk is not None:
                subprocess.run(["umount", "-l", str(self.keeping.disk)], check=True)

    # --- what was written -------------------------------------------------------------------------

    def starts(self) -> list[str]:
        """A line per start of an engine: when, who, pid, and who else of it lived."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "starts").read_text().splitlines()
        return []

    def access_lines(self, router: str) -> list[bytes]:
        """Of all its lives."""
        found: list[bytes] = []
        for process in self.fleet.processes.all:
            if process.name == router:
                raw = process.log_path.read_bytes()
                found += [one for one in raw.split(b"\n") if b'"event":"request"' in one]
        return found

    def strays(self) -> list[str]:
        """Processes of engines and shims of this fleet."""
        found = []
        for pid in self.fleet.processes.survivors():
            environ = procfs.environ(pid)
            if procfs.MARK.encode() in environ or engine_start.NAME.encode() in environ:
                with contextlib.suppress(OSError):
                    argv = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(f"{pid} {argv.decode(errors='replace')[:120]}")
        return found


def service(engine: str) -> str:
    return f"{engine}@test"


def decoded(raw: bytes, kind: Any) -> Any:
    """None where a line was cut by a kill."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(raw, type=kind)
    return None
