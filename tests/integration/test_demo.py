"""The two-server demo, as its scripts run it: two loopback addresses stand for two machines.

The addresses are this test's own, so that whatever else listens on 127.0.0.1 is not in the way, and
the documented ports are used as they are.
"""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fleet import ask
from tests.support.processes import ROOT
from tests.support.until import until_sync

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

CHECKS = (
    "1 registry healthy",
    "2 router healthy",
    "3 the four babysitters and their four engines registered, fit",
    "4 /models lists model-1 and model-2, once each",
    "5 chat on model-1 is answered and names its engine",
    "6 chat on model-2 is answered and names its engine",
    "7 four requests for each model reach both of its engines",
    "8 each engine's log shows exactly the requests it handled",
)


@dataclass
class Demo:
    """`homes` differ as on two machines; what they share is carried over as a person would."""

    ip1: str
    ip2: str
    home1: Path
    home2: Path

    def script(self, name: str, *arguments: str, home: Path, **environ: str) -> str:
        """A script's output. AssertionError, with all of it, when it fails."""
        done = self.try_script(name, *arguments, home=home, **environ)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_script(
        self, name: str, *arguments: str, home: Path, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
        return subprocess.run(
            [str(ROOT / "deploy" / name), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**kept, "READY_TIMEOUT_S": "60", **environ, "CRECHE_HOME": str(home)},
        )

    def start_1(self) -> str:
        return self.script("start-server1.sh", self.ip1, home=self.home1)

    def start_2(self) -> str:
        token = str(self.home1 / "cluster.token")
        return self.script(
            "start-server2.sh", self.ip1, self.ip2, home=self.home2, CRECHE_TOKEN_FILE=token
        )

    def validate(self) -> "subprocess.CompletedProcess[str]":
        return self.try_script("validate.sh", self.ip1, home=self.home1)

    def fit(self) -> int:
        """Records that the registry calls fit, of babysitters and engines."""
        found: int = ask(f"http://{self.ip1}:18000/health")[1]["healthy_services"]
        return found

    def pid(self, home: Path, server: str, name: str) -> int:
        return int((home / server / "run" / f"{name}.pid").read_text())

    def left(self) -> list[str]:
        """Command lines of living processes that belong to this demo."""
        marks = {f"CRECHE_DEPLOY={home}".encode() for home in (self.home1, self.home2)}
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and marks & set(
                    (entry / "environ").read_bytes().split(b"\0")
                ):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return [one for one in found if one]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
    one = Demo(f"{net}.1", f"{net}.2", folder / "one", folder / "two")
    try:
        one.start_1()
        one.start_2()
        yield one
    finally:
        for home in (one.home1, one.home2):
            one.script("stop-all.sh", home=home)
        assert one.left() == []


@pytest.fixture(scope="module")
def told(demo: Demo) -> dict[str, str]:
    """validate.sh's line for each check, by its first character after the mark."""
    done = demo.validate()
    lines = [line for line in done.stdout.splitlines() if re.match(r"[✓✗] \d ", line)]
    assert len(lines) == len(CHECKS), done.stdout + done.stderr
    return {line[2:3]: line for line in lines}


@pytest.mark.parametrize("name", CHECKS)
def test_demo_check(told: dict[str, str], name: str) -> None:
    line = told[name[0]]
    assert line.startswith(f"✓ {name} "), line


def test_validate_exits_0_and_says_that_eight_hold(demo: Demo) -> None:
    done = demo.validate()
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("8 of 8 checks hold\n")


def test_starting_again_leaves_what_runs_alone(demo: Demo) -> None:
    before = demo.pid(demo.home1, "server-1", "babysitter-a")
    text = demo.start_1()
    assert text.count("already running") == 4
    assert demo.pid(demo.home1, "server-1", "babysitter-a") == before
    assert demo.start_2().count("already running") == 2


def test_the_token_is_for_its_owner_alone_and_off_every_command_line(demo: Demo) -> None:
    for home in (demo.home1, demo.home2):
        assert (home / "cluster.token").stat().st_mode & 0o077 == 0
    token = (demo.home1 / "cluster.token").read_text().strip()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                assert token.encode() not in (entry / "cmdline").read_bytes()
            except OSError:
                continue


def test_a_wrong_token_is_refused_and_takes_no_ones_place(demo: Demo) -> None:
    kept = (demo.home2 / "cluster.token").read_text()
    done = demo.try_script(
        "start-server2.sh", demo.ip1, demo.ip2, home=demo.home2, CRECHE_TOKEN="not-the-token"
    )
    assert done.returncode == 1
    assert "server 1 refuses this token" in done.stderr
    assert (demo.home2 / "cluster.token").read_text() == kept


def test_the_token_may_come_as_text(demo: Demo) -> None:
    token = (demo.home1 / "cluster.token").read_text().strip()
    text = demo.script("start-server2.sh", demo.ip1, demo.ip2, home=demo.home2, CRECHE_TOKEN=token)
    assert text.count("already running") == 2


def test_validate_is_honest_when_an_engine_is_missing(demo: Demo) -> None:
    """Babysitter C and its engine are stopped: the checks that need them say so, others hold."""
    babysitter = demo.pid(demo.home2, "server-2", "babysitter-c")
    os.kill(babysitter, signal.SIGTERM)
    try:
        until_sync(
            lambda: not any("babysitter-c.toml" in line for line in demo.left()),
            what="babysitter-c has ended",
        )
        # One that the registry does not hear of has its lease to go by.
        until_sync(lambda: demo.fit() == 6, 60, "neither it nor its engine is fit")
        done = demo.validate()
        assert done.returncode == 1
        marks = [line[:3] for line in done.stdout.splitlines()]
        assert "✗ 3" in marks
        assert "✗ 7" in marks
        assert "✓ 6" in marks
    finally:
        demo.start_2()
    assert demo.validate().returncode == 0


def test_a_killed_daemon_is_started_again_by_the_same_script(demo: Demo) -> None:
    """Killed with -9, the babysitter comes back and adopts its engine: no model is loaded anew."""
    babysitter = demo.pid(demo.home1, "server-1", "babysitter-a")
    before = [line for line in demo.left() if "engine-a" in line]
    os.kill(babysitter, signal.SIGKILL)
    until_sync(lambda: not any("babysitter-a.toml" in line for line in demo.left()), what="gone")
    demo.start_1()
    assert demo.pid(demo.home1, "server-1", "babysitter-a") != babysitter
    assert [line for line in demo.left() if "engine-a" in line] == before
    assert demo.validate().returncode == 0
