"""A real Redis on a free port, as a process of the test: killed, frozen, restarted with its data or
without. Debian's redis-server; `scripts/setup.sh apt redis-server=redis-server` installs it.
"""

import shutil
import signal
import socket
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, Processes
from tests.support.until import until_sync


class RedisServer:
    """`url` is what `state` may say. `aof`: every write is on disk before it is acknowledged."""

    def __init__(
        self, processes: Processes, folder: Path, *, aof: bool = False, password: str | None = None
    ) -> None:
        self.processes = processes
        self.folder = folder / f"redis-{len(processes.all)}"
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.password = password
        self._aof = aof
        self.process: Process

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        """Start it (again), and wait until it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "redis-server is missing: scripts/setup.sh apt redis-server=redis-server"
        argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--dir", str(self.folder), "--appendonly", "yes" if self._aof else "no"]
        argv += ["--appendfsync", "always"] if self._aof else []
        argv += ["--requirepass", self.password] if self.password else []
        self.process = self.processes.start(argv, name="redis")
        until_sync(self._answers, 15, "redis answers")
        return self

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It accepts connections, and answers nobody."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2) as asked:
            asked.sendall(b"PING\r\n")
            return asked.recv(100).startswith((b"+PONG", b"-NOAUTH"))
