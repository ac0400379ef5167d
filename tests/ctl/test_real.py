"""`creche` against real daemons: what it finds, what it says when parts are away, how it ends."""

import codecs
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.ports import free_port
from tests.support.processes import NO_AUTHORITIES, ROOT
from tests.support.until import until_sync

pytestmark = pytest.mark.real

TOKEN = "0123456789abcdef-cluster-token"


def creche(
    url: str, *arguments: str, stdin: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ctl", "--url", url, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        input=stdin,
        env=environment(**environ),
    )


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CRECHE_")}
    return {**kept, **NO_AUTHORITIES, "XDG_CONFIG_HOME": "/nonexistent", **more}


def mock(name: str, *models: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "mock", "models": list(models), **more}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two good engines, and one that never comes up and has been given up."""
    with Fleet(tmp_path_factory.mktemp("ctl")) as made:
        made.registry()
        made.router()
        made.babysitter("good", [mock("one", "model-a"), mock("two", "model-b", "shared")])
        broken = {
            "name": "broken",
            "kind": "command",
            "command": [sys.executable, "-c", "import sys; sys.exit('no such model file')"],
            "models": ["model-c"],
            "max_restarts": 0,
        }
        bad = made.babysitter("bad", [broken], start=False, host={"name": "gpu-07"}).start()
        until_sync(lambda: bad.get("/engines")["engines"][0]["state"] == "FATAL", what="FATAL")
        made.wait_models("model-a", "model-b", "shared")
        until_sync(lambda: {"good", "bad"} <= _known(made), what="both babysitters are known")
        yield made


def _known(fleet: Fleet) -> set[str]:
    """Everybody's record, as the router has it from the registry."""
    table = fleet.parts["router"].get("/services?type=any")
    return {one["name"] for one in table["services"]}


def test_status_finds_an_engine_that_never_registered(fleet: Fleet) -> None:
    done = creche(fleet.url, "status")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("1 problem    2 hosts   2 of 3 engines ready")
    assert "✗ broken@gpu-07   FATAL" in done.stdout
    assert "next    creche logs broken@gpu-07" in done.stdout
    assert "\x1b[" not in done.stdout


def test_the_next_step_that_status_names_works(fleet: Fleet) -> None:
    done = creche(fleet.url, "logs", "broken@gpu-07")
    assert done.returncode == 0
    assert "no such model file" in done.stdout


def test_status_as_json_says_the_same(fleet: Fleet) -> None:
    done = creche(fleet.url, "status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0]["subject"] == "broken@gpu-07"
    same = creche(fleet.url, "--json", "status")
    assert json.loads(same.stdout)["engines_total"] == 3


def test_engines_services_and_models_are_tables(fleet: Fleet) -> None:
    engines = creche(fleet.url, "engines").stdout
    assert [line.split()[1] for line in engines.splitlines()[1:4]] == [
        "broken@gpu-07",
        "one@test",
        "two@test",
    ]
    services = creche(fleet.url, "services", "--model", "shared").stdout
    assert "two@test" in services
    assert "one@test" not in services
    assert "good" not in creche(fleet.url, "services").stdout
    assert "good" in creche(fleet.url, "services", "--all").stdout
    models = creche(fleet.url, "models", "--json")
    assert [one["id"] for one in json.loads(models.stdout)["data"]] == [
        "model-a",
        "model-b",
        "shared",
    ]


def test_chat_takes_an_argument_or_standard_input(fleet: Fleet) -> None:
    said = creche(fleet.url, "chat", "--model", "shared", "hello")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
    assert "two@test" in said.stderr
    piped = creche(fleet.url, "chat", "--model", "shared", stdin="hello from a pipe\n")
    assert piped.returncode == 0
    assert piped.stdout.strip()
    first = creche(fleet.url, "chat", "hello", "--json")
    answer = json.loads(first.stdout)
    assert (answer["model"], answer["service"], answer["complete"]) == ("model-a", "one@test", True)
    assert "the first of 3 models" in first.stderr


def test_chat_with_a_model_that_nobody_has_says_the_routers_words(fleet: Fleet) -> None:
    done = creche(fleet.url, "chat", "--model", "nobody", "hello")
    assert done.returncode == 1
    assert "✗ No healthy services available for model 'nobody'" in done.stderr


def test_chat_with_nothing_to_say_is_wrong_usage(fleet: Fleet) -> None:
    assert creche(fleet.url, "chat", "--model", "shared").returncode == 64


def test_a_conversation_on_a_terminal(fleet: Fleet) -> None:
    """Coloured asides, a prompt, an answer, and Ctrl-D ends it."""
    with Terminal(fleet.url, "chat", "--model", "shared") as terminal:
        terminal.until("> ")
        terminal.write(b"hello\n")
        text = terminal.until("first token")
        assert "two" in text
        assert "\x1b[2m" in text
        terminal.until("> ")
        terminal.write(b"\x04")
        assert terminal.wait() == 0


def test_ctrl_c_ends_a_conversation_in_peace(fleet: Fleet) -> None:
    with Terminal(fleet.url, "chat", "--model", "shared") as terminal:
        terminal.until("> ")
        # Python's input() misses a signal between its prompt and its wait, so people press again.
        assert terminal.wait(b"\x03") == 0


def test_no_color_is_respected_on_a_terminal(fleet: Fleet) -> None:
    with Terminal(fleet.url, "status", NO_COLOR="1") as terminal:
        assert terminal.wait() == 1
        assert "\x1b[" not in terminal.text
    with Terminal(fleet.url, "status") as terminal:
        assert terminal.wait() == 1
        assert "\x1b[31m✗" in terminal.text


def test_logs_follow_until_ctrl_c(fleet: Fleet) -> None:
    follower = fleet.processes.python(
        "-m", "ctl", "--url", fleet.url, "logs", "one", "-f", name="follow"
    )
    until_sync(lambda: "ready on" in follower.log, what="what was written before is shown")
    creche(fleet.url, "chat", "--model", "model-a", "hello")
    until_sync(lambda: "request id=" in follower.log, what="what is written now follows")
    follower.signal(signal.SIGINT)
    assert follower.wait() == 130


def test_logs_end_where_head_has_seen_enough(fleet: Fleet) -> None:
    creche_logs = f"{sys.executable} -m ctl --url {fleet.url} logs one"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {creche_logs} | true"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        input="",
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_wait_comes_back_when_served_and_gives_up_in_time_or_without_hope(fleet: Fleet) -> None:
    assert creche(fleet.url, "wait", "shared").returncode == 0
    assert creche(fleet.url, "wait", "one@test", "--timeout", "30").returncode == 0
    late = creche(fleet.url, "wait", "nobody", "--timeout", "0.3")
    assert late.returncode == 1
    assert "nobody is not served after 0.3 s" in late.stderr
    hopeless = creche(fleet.url, "wait", "broken@gpu-07", "--timeout", "3600")
    assert hopeless.returncode == 1
    assert "broken@gpu-07 is FATAL" in hopeless.stderr


def test_engine_orders_are_carried_out(fleet: Fleet) -> None:
    def pid() -> int:
        table = json.loads(creche(fleet.url, "engines", "--json").stdout)
        return next(one["pid"] for one in table["engines"] if one["name"] == "one")

    before = pid()
    restarted = creche(fleet.url, "engine", "restart", "one", "--timeout", "30")
    assert restarted.returncode == 0, restarted.stderr
    assert pid() != before
    assert creche(fleet.url, "engine", "stop", "one").returncode == 0
    until_sync(lambda: "model-a" not in fleet.models(), what="the router hears of it")
    status = creche(fleet.url, "status").stdout
    assert "· one@test is stopped" in status
    killed = creche(fleet.url, "engine", "kill", "one")
    assert killed.returncode == 1
    assert "there is no process to kill" in killed.stderr
    assert creche(fleet.url, "engine", "start", "one").returncode == 0
    assert creche(fleet.url, "wait", "model-a", "--timeout", "20").returncode == 0


def test_a_killed_engine_is_told_and_comes_back(fleet: Fleet) -> None:
    assert creche(fleet.url, "engine", "kill", "two").returncode == 0
    assert creche(fleet.url, "wait", "shared", "--timeout", "30").returncode == 0
    until_sync(
        lambda: "· two@test is back: " in creche(fleet.url, "status").stdout, what="status tells it"
    )


def test_nothing_there_is_2_and_wrong_usage_64() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for verb in (["status"], ["engines"], ["wait", "x", "--timeout", "0"], ["chat", "hi"]):
        done = creche(nowhere, *verb)
        assert done.returncode == 2, verb
        assert f"✗ nothing answers at {nowhere}\n    connection refused\n" in done.stderr
    assert json.loads(creche(nowhere, "status", "--json").stdout)["why"] == "connection refused"
    for wrong in (["statsu"], [], ["engine", "burn", "x"], ["wait"], ["logs", "x", "-n", "-1"]):
        assert creche(nowhere, *wrong).returncode == 64, wrong


@pytest.mark.parametrize(
    "verb", ["status", "services", "models", "engines", "logs", "wait", "engine", "chat"]
)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    done = creche("", verb, "--help")
    assert done.returncode == 0
    assert "Examples:\n  " in done.stdout
    assert f"creche {verb}" in done.stdout


def test_without_its_registry_the_fleet_is_still_told(tmp_path: Path) -> None:
    with Fleet(tmp_path) as made:
        registry = made.registry()
        made.router()
        made.babysitter("sitter", [mock("one", "model-a")])
        made.wait_models("model-a")
        assert creche(made.url, "status").returncode == 0
        registry.kill9()
        until_sync(
            lambda: not made.parts["router"].get("/health")["registry_connected"], what="it is seen"
        )
        done = creche(made.url, "status")
        assert done.returncode == 1
        assert "! registry   away" in done.stdout
        assert "1 engine ready" in done.stdout
        assert "one@test" in creche(made.url, "engines").stdout
        assert creche(made.url, "chat", "--model", "model-a", "hello").returncode == 0
        assert creche(made.url, "logs", "one").returncode == 0


def test_without_its_babysitter_an_engine_is_told_by_its_record(tmp_path: Path) -> None:
    with Fleet(tmp_path) as made:
        made.registry(lease={"beat_s": 0.2, "lease_s": 1, "removed_after_leases": 1000})
        made.router()
        made.babysitter("sitter", [mock("one", "model-a")])
        made.wait_models("model-a")
        made.parts["sitter"].kill9()
        engines = creche(made.url, "engines")
        assert "one@test" in engines.stdout
        assert "did not tell: connection refused" in engines.stdout

        def silent() -> bool:
            status = creche(made.url, "status")
            return status.returncode == 1 and "! test   silent" in status.stdout

        until_sync(silent, what="the lease lapses")


def test_the_token_opens_what_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "cluster.token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    wrong = tmp_path / "wrong.token"
    wrong.write_text(TOKEN[::-1])
    with Fleet(tmp_path) as made:
        made.registry(token_file=str(file))
        made.router(token_file=str(file), client_keys="none")
        made.babysitter("sitter", [mock("one", "model-a")], token_file=str(file))
        made.wait_models("model-a")
        shut = creche(made.url, "status")
        assert shut.returncode == 1
        assert "wants the cluster token\n    none was given\n" in shut.stderr
        other = creche(made.url, "status", "--token-file", str(wrong))
        assert "another one was given" in other.stderr
        assert creche(made.url, "status", "--token-file", str(file)).returncode == 0
        opened = creche(made.url, "logs", "one", CRECHE_TOKEN_FILE=str(file))
        assert opened.returncode == 0
        assert creche(made.url, "chat", "--model", "model-a", "hello").returncode == 0
        for done in (shut, other, opened):
            assert TOKEN not in done.stdout + done.stderr


class Terminal:
    """A pseudo-terminal with `creche` in it."""

    def __init__(self, url: str, *arguments: str, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.text = ""
        self.seen = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ctl", "--url", url, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={**environment(TERM="xterm", **environ)},
            start_new_session=True,
            preexec_fn=_controlling_terminal,  # noqa: PLW1509  (no threads here)
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def write(self, data: bytes) -> None:
        os.write(self.master, data)

    def until(self, text: str) -> str:
        """Read until `text` came since the last `until`; what came."""
        deadline = time.monotonic() + 30
        while text not in self.text[self.seen :]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.text!r}"
            self._read(0.1)
        begin, self.seen = self.seen, self.text.index(text, self.seen) + len(text)
        return self.text[begin : self.seen]

    def wait(self, pressing: bytes = b"") -> int:
        """Its exit status, and all that it said; `pressing` is typed again and again until it ends.
        Not at once again: what is typed while it ends would change how."""
        deadline = time.monotonic() + 60
        next_press = 0.0
        while self._read(0.1):
            assert time.monotonic() < deadline, self.text
            if pressing and time.monotonic() > next_press:
                self.write(pressing)
                next_press = time.monotonic() + 8
        return self.process.wait(30)

    def _read(self, timeout_s: float) -> bool:
        """What came, if anything. False where the other end is closed and has no more to say."""
        if select.select([self.master], [], [], timeout_s)[0]:
            try:
                self.text += self._decode(os.read(self.master, 65536))
            except OSError:
                return False
        return True


def _controlling_terminal() -> None:
    """So that Ctrl-C written to the terminal becomes a SIGINT."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
