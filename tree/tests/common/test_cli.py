"""A daemon's command line, as a process."""

import sys
from pathlib import Path

import pytest

from common.version import VERSION
from tests.support.processes import Process, Processes

pytestmark = pytest.mark.real

PROGRAM = """
import sys
from msgspec import Struct
from common.cli import Program

class Config(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "nobody"
    port: int = 1

def check(config, document):
    if config.port == 13:
        return [document.problem(("port",), "13 is unlucky", fix="take 12")]
    if config.port == 7:
        return [document.problem(("port",), "7 is odd", severity="warning")]
    return []

async def main(daemon, config, path):
    print("running as", config.name, "from", path, flush=True)
    daemon.ready()
    await daemon.until_stopped()

sys.exit(Program("creche-test", "A test.", Config, main, check=check,
                 describe=lambda config: f"port {config.port}").run())
"""


def run(processes: Processes, *arguments: str | Path) -> Process:
    return processes.start([sys.executable, "-c", PROGRAM, *arguments], name="program")


async def ran(processes: Processes, *arguments: str | Path) -> tuple[int, str]:
    process = run(processes, *arguments)
    return await process.ended(), process.log


async def test_it_runs_with_its_file_until_it_is_stopped(
    processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "ana"')
    process = run(processes, "--config", file)
    await process.said(f"running as ana from {file}")
    assert process.stop() == 0


async def test_it_runs_without_a_file(processes: Processes) -> None:
    process = run(processes)
    await process.said("running as nobody from None")
    assert process.stop() == 0


async def test_a_bad_file_is_refused_in_full(processes: Processes, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('nam = "ana"\nport = "x"')
    status, said = await ran(processes, "--config", file)
    assert status == 1
    assert said.startswith("creche-test: refusing to start: the configuration has errors.\n")
    assert 'unknown key "nam"' in said and '"port" wants an integer' in said
    assert "running as" not in said


async def test_a_fault_across_fields_is_refused_and_a_warning_is_not(
    processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("port = 13")
    status, said = await ran(processes, "--config", file)
    assert status == 1
    assert "13 is unlucky" in said
    file.write_text("port = 7")
    process = run(processes, "--config", file)
    assert "warning: 7 is odd" in await process.said("running")


async def test_check_tells_of_every_file(processes: Processes, tmp_path: Path) -> None:
    good, bad, odd = (tmp_path / name for name in ("good.toml", "bad.toml", "odd.toml"))
    good.write_text("port = 2")
    bad.write_text("\nport = 13")
    odd.write_text("port = 7")
    assert await ran(processes, "check", good) == (0, "ok   port 2\n")
    status, said = await ran(processes, "check", odd)
    assert (status, said.splitlines()[-1]) == (0, "ok   port 7")
    status, said = await ran(processes, "check", good, bad)
    assert status == 1
    assert "ok   port 2" in said
    assert "error: 13 is unlucky" in said
    assert f"{bad}:2:8" in said
    assert "1 error, 0 warnings." in said


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["check"], ["--log-level", "loud"], ["--log-lev", "info"]]
)
async def test_wrong_usage_exits_64(processes: Processes, arguments: list[str]) -> None:
    status, said = await ran(processes, *arguments)
    assert status == 64
    assert "usage: creche-test" in said


async def test_it_tells_its_version(processes: Processes) -> None:
    assert await ran(processes, "--version") == (0, f"creche-test {VERSION}\n")


async def test_help_says_what_each_flag_does_and_its_default(processes: Processes) -> None:
    status, said = await ran(processes, "--help")
    words = " ".join(said.split())
    assert status == 0
    assert "the configuration (default: /etc/creche/test.toml where it is there" in words
    assert "the least that is logged (default: info)" in words
    assert "auto: text on a terminal (default)" in words
