"""The units are ones that systemd takes without a word, and say what engines need to outlive us."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common import config
from router.config import Config
from tests.support.processes import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
DOCUMENTED = "/opt/creche/venv/bin/"


def options(name: str, section: str = "Service") -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "deploy" / "systemd" / name)
    return parser[section]


@pytest.mark.real
@pytest.mark.parametrize("unit", UNITS, ids=lambda one: one.name)
def test_systemd_analyze_verify_prints_nothing(unit: Path, tmp_path: Path) -> None:
    """It exits 0 on unknown keys: only empty output counts. Programs must exist for it, so a copy
    names this environment's instead of those in /opt."""
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "install systemd: make test does"
    text = unit.read_text()
    here = str(Path(sys.executable).parent) + "/"
    assert text.count(f"ExecStart={DOCUMENTED}creche-") == 1
    name = unit.name.replace("@.", "@gpu.")
    (tmp_path / unit.name).write_text(text.replace(DOCUMENTED, here))
    (tmp_path / name).write_text(text.replace(DOCUMENTED, here))
    for each in {unit.name, name}:
        done = subprocess.run(
            [analyze, "verify", str(tmp_path / each)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.real
def test_the_socket_unit_verifies_too_and_says_what_the_router_listens_on(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "install systemd: make test does"
    folder = ROOT / "deploy" / "systemd"
    here = str(Path(sys.executable).parent) + "/"
    service = (folder / "creche-router.service").read_text().replace(DOCUMENTED, here)
    (tmp_path / "creche-router.service").write_text(service)
    copy = shutil.copy(folder / "creche-router.socket", tmp_path)
    done = subprocess.run(
        [analyze, "verify", str(copy)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
    assert options("creche-router.socket", "Socket")["ListenStream"] == Config().listen


def test_there_is_a_unit_for_each_daemon() -> None:
    assert [one.name for one in UNITS] == [
        "creche-babysitter@.service",
        "creche-registry.service",
        "creche-router.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda one: one.name)
def test_each_tells_when_it_is_ready_and_is_watched(unit: Path) -> None:
    service = options(unit.name)
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0
    assert service["Restart"] == "always"
    assert service["StateDirectory"].startswith("creche/")
    assert service["RuntimeDirectory"].startswith("creche-")


def test_engines_outlive_a_restart_of_their_babysitter() -> None:
    """on_term = "keep" needs: only the babysitter is signalled, its sockets and /tmp stay."""
    service = options("creche-babysitter@.service")
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert "PrivateTmp" not in service
    assert "PrivateDevices" not in service


def test_the_router_can_be_replaced_and_a_stop_is_told_to_the_holder_alone() -> None:
    service = options("creche-router.service")
    assert " --replaceable " in service["ExecStart"]
    assert service["KillMode"] == "mixed"


def test_the_router_takes_another_configuration_without_a_restart() -> None:
    assert options("creche-router.service")["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_router_may_end_running_answers_before_it_is_killed() -> None:
    drain_s = config.decode("", Config).timeouts.drain_s
    assert int(options("creche-router.service")["TimeoutStopSec"]) > drain_s
