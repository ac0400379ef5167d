"""The deploy scripts on the command line: usage, refusals, and that bash takes them."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.processes import ROOT

pytestmark = pytest.mark.real

DEPLOY = ROOT / "deploy"
SCRIPTS = sorted(one.name for one in DEPLOY.glob("*.sh") if one.name != "lib.sh")


def run(script: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
    return subprocess.run(
        [str(DEPLOY / script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**kept, **environ},
    )


def test_the_four_scripts_are_there() -> None:
    assert SCRIPTS == ["start-server1.sh", "start-server2.sh", "stop-all.sh", "validate.sh"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_scripts_own_head(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 64
    assert f"deploy/{script}" in done.stdout


@pytest.mark.parametrize("script", [*SCRIPTS, "lib.sh"])
def test_bash_parses_it(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(DEPLOY / script)], check=False, capture_output=True)
    assert (done.stderr, done.returncode) == (b"", 0)


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    done = run("start-server1.sh", "192.0.2.1", CRECHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "192.0.2.1 is not an address of this machine" in done.stderr


def test_both_servers_on_one_address_are_refused(tmp_path: Path) -> None:
    done = run("start-server2.sh", "127.0.0.1", "127.0.0.1", CRECHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "both servers have the address" in done.stderr


def test_server_2_without_the_token_says_how_to_bring_it(tmp_path: Path) -> None:
    done = run("start-server2.sh", "127.0.0.1", "127.0.0.2", CRECHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "the cluster token is missing" in done.stderr
    assert "CRECHE_TOKEN_FILE=" in done.stderr


def test_real_engines_need_their_models_named(tmp_path: Path) -> None:
    done = run("start-server1.sh", "127.0.0.1", CRECHE_HOME=str(tmp_path), ENGINE_KIND="vllm")
    assert done.returncode == 1
    assert "MODEL_1=" in done.stderr


def test_a_port_that_another_fleet_has_is_told_with_its_owner(tmp_path: Path) -> None:
    """The other fleet's registry answers at our URL: it must not pass for ours."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(
            "start-server1.sh", "127.0.0.1", CRECHE_HOME=str(tmp_path), REGISTRY_PORT=str(port)
        )
    assert done.returncode == 1
    assert f"✗ registry  127.0.0.1:{port} is taken by " in done.stderr
    assert f"(pid {os.getpid()}, user " in done.stderr
    assert "REGISTRY_PORT=" in done.stderr
    assert not (tmp_path / "server-1" / "run" / "registry.pid").exists()


def test_a_stale_pid_file_is_no_news(tmp_path: Path) -> None:
    pids = tmp_path / "server-1" / "run"
    pids.mkdir(parents=True)
    (pids / "router.pid").write_text("4194305\n")  # above the kernel's largest pid
    done = run("stop-all.sh", CRECHE_HOME=str(tmp_path))
    assert (done.stderr, done.returncode) == ("", 0)
    assert not (pids / "router.pid").exists()


def test_stopping_where_nothing_runs_is_fine(tmp_path: Path) -> None:
    done = run("stop-all.sh", CRECHE_HOME=str(tmp_path))
    assert (done.stderr, done.returncode) == ("", 0)
    assert "nothing was running" in done.stdout


def test_validating_a_fleet_that_is_not_there_fails_every_check(tmp_path: Path) -> None:
    """Nothing listens there: all eight are ✗, none is skipped, and the status says so."""
    registry, router = map(str, free_ports(2))
    nobody = {"CRECHE_HOME": str(tmp_path), "REGISTRY_PORT": registry, "ROUTER_PORT": router}
    done = run("validate.sh", "127.77.0.1", **nobody)
    assert done.returncode == 1
    assert done.stdout.count("✗") == 8
    assert "0 of 8 checks hold" in done.stdout
    assert "connection refused" in done.stdout
    assert "deploy/start-server1.sh" in done.stdout
