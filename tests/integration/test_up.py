"""`make up`'s program, for real: until Ready, through the OpenAI client, until nothing is left."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.ports import free_port_with
from tests.support.processes import ROOT, Process, Processes
from tests.support.until import until_sync

pytestmark = pytest.mark.real

OFFSETS = (0, 1, 100, 101, 200, 300)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.close()


def free_port() -> int:
    """A PORT whose others are free too."""
    return free_port_with(OFFSETS)


class Run:
    def __init__(
        self, processes: Processes, data: Path, *more: str, port: int | None = None
    ) -> None:
        self.port = port if port is not None else free_port()
        self.data = data
        self.process: Process = processes.python(
            ROOT / "scripts" / "up.py",
            "--port",
            str(self.port),
            "--registry-port",
            str(self.port + 1),
            "--data",
            data,
            *more,
            name="up",
        )

    def ready(self) -> str:
        return self.said("Ready in ")

    def said(self, text: str, times: int = 1) -> str:
        """Wait until it has printed `text`, so many times; all it printed."""
        until_sync(
            lambda: not self.process.alive or self.process.log.count(text) >= times,
            60,
            f"up says {text!r}",
        )
        assert self.process.log.count(text) >= times, self.process.tail()
        return self.process.log

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="unused")

    def marked(self) -> list[int]:
        """Living processes that carry this run's mark."""
        wanted = f"CRECHE_UP={self.data}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (
                    entry.name.isdigit()
                    and wanted in (entry / "environ").read_bytes().split(b"\0")
                    and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def daemon(self, name: str) -> int:
        for pid in self.marked():
            try:
                words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended meanwhile
                continue
            if [b"-m", name.encode()] == words[1:3]:
                return pid
        raise AssertionError(f"{name} does not run:\n{self.process.tail()}")

    def creche(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        url = f"http://127.0.0.1:{self.port}"
        return subprocess.run(
            [sys.executable, "-m", "ctl", "--url", url, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )


def test_it_comes_up_chats_and_leaves_nothing(processes: Processes, tmp_path: Path) -> None:
    run = Run(processes, tmp_path / "data")
    text = run.ready()
    for name in ("registry", "router", "tiny-llama", "mock-a, mock-b"):
        assert f"✓ {name}" in text
    assert float(text.partition("Ready in ")[2].split()[0]) > 0

    with run.client() as client:
        assert sorted(one.id for one in client.models.list()) == ["mock-shared", "tiny-llama"]
        for model in ("tiny-llama", "mock-shared"):
            answer = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=8
            )
            assert answer.choices[0].message.content
        stream = client.chat.completions.create(
            model="tiny-llama",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=8,
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces)

    for name in ("registry.toml", "router.toml", "babysitter.toml", "log/router.log"):
        assert (run.data / name).is_file()

    run.process.signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    last = run.process.log.rpartition("Stopping")[2]
    assert (
        last.strip()
        == "router ✓  engines ✓ 3 of 3  babysitter ✓  registry ✓   nothing left running"
    )
    assert run.marked() == []
    assert processes.survivors() == []


def test_a_second_ctrl_c_does_not_wait_for_running_answers(
    processes: Processes, tmp_path: Path
) -> None:
    run = Run(processes, tmp_path / "data")
    run.ready()
    with run.client() as client:
        stream = client.chat.completions.create(
            model="mock-shared",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            extra_headers={"x-mock-tokens": "100000", "x-mock-pace-ms": "25"},
        )
        next(iter(stream))
        run.process.signal(signal.SIGINT)
        run.said("Stopping")
        until_sync(lambda: _pressed_again(run), 30, "it ends")
    assert run.process.wait() == 0
    assert "hurrying" in (run.data / "log" / "router.log").read_text(), "an answer was running"
    assert "3 of 3" in run.process.log
    assert processes.survivors() == []


def _pressed_again(run: Run) -> bool:
    run.process.signal(signal.SIGINT)
    return not run.process.alive


def test_the_pages_commands_work(processes: Processes, tmp_path: Path) -> None:
    """What it prints under "Break it" is done, and told by `creche status`."""
    run = Run(processes, tmp_path / "data")
    run.ready()
    status = run.creche("status")
    assert status.returncode == 0, status.stdout + status.stderr
    assert status.stdout.startswith("All well   1 host   3 engines ready   2 models")
    assert run.creche("engine", "kill", "mock-a").returncode == 0
    assert run.creche("wait", "mock-a", "--timeout", "30").returncode == 0
    until_sync(
        lambda: "mock-a@" in run.creche("status").stdout, 20, "status tells of the killed engine"
    )
    chat = run.creche("chat", "--model", "mock-shared", "hello")
    assert chat.returncode == 0
    assert chat.stdout.strip()
    run.process.terminate()
    assert run.process.wait(60) == 0


def test_a_second_run_says_that_the_first_is_there(processes: Processes, tmp_path: Path) -> None:
    first = Run(processes, tmp_path / "data")
    first.ready()
    second = Run(processes, tmp_path / "data")
    assert second.process.wait(30) == 1
    assert f"✗ make up is already running here (pid {first.process.pid}" in second.process.log
    assert first.process.alive


def test_a_taken_port_is_told_with_its_owner_and_a_fix(
    processes: Processes, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        run = Run(processes, tmp_path / "data", port=port)
        assert run.process.wait(30) == 1
    assert f"✗ router  port {port} is taken by " in run.process.log
    assert f"(pid {os.getpid()}, user " in run.process.log
    assert "make up PORT=" in run.process.log
    assert run.marked() == []


def test_a_daemon_that_ends_is_told_with_its_last_lines_and_started_again(
    processes: Processes, tmp_path: Path
) -> None:
    run = Run(processes, tmp_path / "data")
    run.ready()
    os.kill(run.daemon("registry"), signal.SIGKILL)
    log = run.said("started again")
    assert "✗ registry  ended: killed by SIGKILL; last lines of " in log
    os.kill(run.daemon("babysitter"), signal.SIGKILL)
    run.said("started again", times=2)
    assert run.creche("wait", "tiny-llama", "--timeout", "30").returncode == 0
    run.process.signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    assert processes.survivors() == []


def test_what_a_killed_run_leaves_is_no_hindrance(processes: Processes, tmp_path: Path) -> None:
    """kill -9 of everything but the engines: the next run, on the same ports, comes up."""
    run = Run(processes, tmp_path / "data")
    run.ready()
    daemons = [run.daemon(name) for name in ("babysitter", "router", "registry")]
    # Its end tells the daemons to end in order: theirs must come first, and unseen.
    run.process.signal(signal.SIGSTOP)
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)
    run.process.kill()
    run.process.wait()
    assert run.marked(), "engines live on under their shims"
    again = Run(processes, tmp_path / "data", port=run.port)
    log = again.ready()
    assert "an earlier run left " in log
    again.process.signal(signal.SIGINT)
    assert again.process.wait(60) == 0
    assert processes.survivors() == []


def test_killing_it_ends_its_daemons(processes: Processes, tmp_path: Path) -> None:
    """kill -9 of the program alone: the kernel tells its daemons, the babysitter its engines."""
    run = Run(processes, tmp_path / "data")
    run.ready()
    run.process.kill()
    run.process.wait()
    until_sync(lambda: not processes.survivors(), 30, "everything has ended")


@pytest.mark.parametrize("name", ["PORT", "REGISTRY_PORT"])
def test_a_port_that_is_no_number_is_told_in_makes_words(
    name: str, processes: Processes, tmp_path: Path
) -> None:
    option = "--" + name.lower().replace("_", "-")
    run = Run(processes, tmp_path / "data", option, "80a")
    assert run.process.wait(30) == 1
    assert f"✗ {name}=80a is no port" in run.process.log
    assert "make up PORT=" in run.process.log


def test_a_reader_that_ends_does_not_end_the_run_half_way(tmp_path: Path) -> None:
    """`make up | head`, or a terminal that is closed: it still stops everything in order."""
    port, data = free_port(), tmp_path / "data"
    program = [sys.executable, str(ROOT / "scripts" / "up.py"), "--port", str(port)]
    with subprocess.Popen(
        [*program, "--registry-port", str(port + 1), "--data", str(data)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as up:
        assert up.stdout is not None and up.stderr is not None
        try:
            assert up.stdout.readline().startswith(b"Creche ")
            up.stdout.close()
            until_sync(lambda: _answers(port), 60, "the router answers")
            up.send_signal(signal.SIGINT)
            assert up.wait(60) == 0
            assert up.stderr.read() == b""
        finally:
            up.kill()
    assert not (data / "up.pid").exists()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_file_that_is_no_model_is_refused(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 not a model")
    run = Run(processes, tmp_path / "data", "--gguf", str(tmp_path / "model.gguf"))
    assert run.process.wait(30) == 1
    assert "is no GGUF file" in run.process.log
    assert "make up GGUF=" in run.process.log


def test_a_model_of_ones_own_is_served_under_its_files_name(
    processes: Processes, tmp_path: Path
) -> None:
    model = tmp_path / "my model.gguf"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "tiny_gguf.py"), str(model)], check=True)
    run = Run(processes, tmp_path / "data", "--gguf", str(model))
    run.ready()
    with run.client() as client:
        assert "my-model" in [one.id for one in client.models.list()]
    run.process.signal(signal.SIGINT)
    assert run.process.wait(60) == 0
