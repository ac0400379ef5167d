"""Whoever reads the access log may stop reading: no request waits for it, nor does the end."""

import fcntl
import http.client
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.until import until_sync

pytestmark = pytest.mark.real

#: A pipe of one page holds some twenty lines.
PIPE_BYTES = 4096
REQUESTS = 200
#: Refused at once.
NOBODY = {"x-creche-capability": "none such"}


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=NOBODY)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_router_answers_and_ends_although_nobody_reads_its_log(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "router.toml"
    config.write_text(
        f'listen = "127.0.0.1:{port}"\nregistries = []\nstate_dir = "{tmp_path}"\n'
        f'[[static_services]]\nname = "a"\nhost = "127.0.0.1"\nport = {free_port()}\n'
    )
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with (tmp_path / "stderr").open("wb") as errors:
        router = subprocess.Popen(
            [sys.executable, "-m", "router", "--config", str(config)],
            stdout=writing,
            stderr=errors,
            cwd=ROOT,
        )
    try:
        until_sync(lambda: get(port, "/ready") == 200, timeout_s=30)
        assert {get(port, "/") for _ in range(REQUESTS)} == {400}
        router.terminate()
        assert router.wait(60) == 0
    finally:
        router.kill()
        router.wait()
        os.close(reading)
        os.close(writing)
