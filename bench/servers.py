"""The servers side by side: each pinned to one core, started from a config written for the run."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tests.support.fleet import ask, toml
from tests.support.ports import free_ports
from tests.support.processes import Process, Processes

MODEL = "bench-model"
PROGRAMS = {"taskset": "util-linux", "nginx": "nginx-light"}
_READY = re.compile(r" ready on http://127\.0\.0\.1:(\d+) ")

# Defaults as an operator would set them for this job: kept connections to the engines, an access
# log in batches, no buffering of event streams. JSON answers keep nginx's buffering.
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log {folder}/nginx-access.log combined buffer=64k flush=1s;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    client_max_body_size 512m;
    client_body_buffer_size 1m;
    keepalive_requests 1000000;
    upstream engines {{
        least_conn;
{upstreams}
        keepalive 256;
        keepalive_requests 1000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Request-Id $request_id;
    server {{
        listen 127.0.0.1:{json_port} backlog=1024;
        location / {{ proxy_pass http://engines; }}
    }}
    server {{
        listen 127.0.0.1:{stream_port} backlog=1024;
        location / {{ proxy_pass http://engines; proxy_buffering off; }}
    }}
}}
"""


#: Ours with a key and a limit.
GATED = "creche, gate"


class Server(Struct, frozen=True, kw_only=True):
    """One way to the engines. `pid` None: there is nothing in between."""

    name: str
    json_port: int
    stream_port: int
    pid: int | None = None
    #: What its clients send as their key.
    key: str = "unused"


def missing_programs() -> list[str]:
    """Debian packages to install before this can run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)]


def _pinned(core: int, *argv: str | Path) -> Sequence[str | Path]:
    return ["taskset", "-c", str(core), *argv]


async def start_engine(processes: Processes, core: int, name: str) -> int:
    """A mock engine on `core`; its port."""
    argv = [sys.executable, "-m", "babysitter.mock", "--name", name, "--model", MODEL, "--quiet"]
    process = processes.start(_pinned(core, *argv), name=name)
    found = _READY.search(await process.said(" ready on "))
    assert found
    return int(found[1])


def direct(ports: Sequence[int]) -> Server:
    return Server(name="direct", json_port=ports[0], stream_port=ports[0])


async def start_nginx(processes: Processes, core: int, engines: Sequence[int]) -> Server:
    json_port, stream_port = free_ports(2)
    path = processes.folder / "nginx.conf"
    path.write_text(
        _NGINX.format(
            folder=processes.folder,
            user="user root;" if os.geteuid() == 0 else "",
            json_port=json_port,
            stream_port=stream_port,
            upstreams="\n".join(f"        server 127.0.0.1:{port};" for port in engines),
        )
    )
    environ = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    nginx = shutil.which("nginx", path=environ["PATH"]) or "nginx"
    errors = processes.folder / "nginx-error.log"
    process = processes.start(
        _pinned(core, nginx, "-p", processes.folder, "-c", path, "-e", errors), name="nginx"
    )
    await process.ready(f"http://127.0.0.1:{json_port}/health")
    return Server(name="nginx", json_port=json_port, stream_port=stream_port, pid=process.pid)


async def start_router(
    processes: Processes, core: int, engines: Sequence[int], *, gate: bool = False
) -> Server:
    """Ours with every default feature on: access log (into a file), metrics, affinity, retries.

    `gate`: keys are wanted besides, and the clients' has a limit on requests."""
    (port,) = free_ports(1)
    name = GATED if gate else "creche"
    services = [
        {"name": f"engine-{i}", "host": "127.0.0.1", "port": one, "metadata": {"models": [MODEL]}}
        for i, one in enumerate(engines)
    ]
    static = processes.folder / "services.json"
    static.write_text(json.dumps(services))
    config = processes.folder / f"{name}.toml"
    config.write_text(
        toml(
            {
                "listen": f"127.0.0.1:{port}",
                "registries": [],
                "static_file": str(static),
                "state_dir": str(processes.folder / f"{name}-state"),
                "client_keys": "required" if gate else "none",
            }
        )
    )
    process: Process = processes.start(
        _pinned(core, sys.executable, "-m", "router", "--config", config), name=name
    )
    url = f"http://127.0.0.1:{port}"
    await process.ready(f"{url}/ready")
    server = Server(name=name, json_port=port, stream_port=port, pid=process.pid)
    if not gate:
        return server
    limits = {"rpm": 100_000_000}
    _, made = await asyncio.to_thread(ask, f"{url}/admin/keys", {"name": "bench", "limits": limits})
    return replace(server, key=made["text"])
