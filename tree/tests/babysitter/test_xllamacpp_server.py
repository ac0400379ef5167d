"""llama.cpp's server from the wheel, as a real process with a real (tiny) model."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from babysitter import xllamacpp_server as server
from tests.support.ports import free_port
from tests.support.processes import Process, Processes
from tests.support.until import until_sync

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "tiny_gguf.py"), str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    started = Processes(tmp_path_factory.mktemp("xllamacpp"))
    yield started
    started.close()


def start(processes: Processes, model: Path, port: int, *more: str | Path) -> Process:
    return processes.python(
        *("-m", "babysitter.xllamacpp_server", "--model", model, "--port", str(port)),
        *("--threads", "1", "--ctx-per-slot", "2048", *more),
        name=f"llama-{port}",
    )


@pytest.fixture(scope="module")
def url(processes: Processes, model: Path) -> str:
    port = free_port()
    process = start(processes, model, port, "--alias", "tiny", "--alias", "zwerg")
    process.ready_sync(f"http://127.0.0.1:{port}/health", 60)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as made:
        yield made


HELLO = [{"role": "user", "content": "hello there"}]


def test_it_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_it_streams_what_it_would_have_said(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "temperature": 0}
    plain = client.chat.completions.create(**asked).choices[0].message.content
    with client.chat.completions.create(**asked, stream=True) as chunks:
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == plain


def test_it_embeds_one_and_many_inputs_beside_chatting(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="tiny", input="a")
    many = client.embeddings.create(model="tiny", input=["a", "bo " * 100])
    assert [len(one.data), len(many.data)] == [1, 2]
    assert len(many.data[1].embedding) == 64


def test_it_lists_its_aliases(url: str, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        assert json.load(answer)["data"][0]["aliases"] == ["tiny", "zwerg"]


def test_metrics_and_slots_are_on(url: str) -> None:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        assert b"llamacpp:requests_processing" in answer.read()
    with urllib.request.urlopen(f"{url}/slots") as answer:
        assert len(json.load(answer)) == 4


def test_a_taken_port_is_told_with_its_owner(url: str, processes: Processes, model: Path) -> None:
    port = int(url.rpartition(":")[2])
    late = start(processes, model, port)
    assert late.wait(30) == server.EX_TEMPFAIL
    assert f"port {port} is taken by" in late.log


def test_a_key_is_wanted_when_one_is_given(
    processes: Processes, model: Path, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("secret-key\n")
    port = free_port()
    process = start(processes, model, port, "--api-key-file", key_file, "--no-embeddings")
    process.ready_sync(f"http://127.0.0.1:{port}/health", 60)
    slots = f"http://127.0.0.1:{port}/slots"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(slots)
    refused.value.close()
    assert refused.value.code == 401
    keyed = urllib.request.Request(slots, headers={"Authorization": "Bearer secret-key"})
    with urllib.request.urlopen(keyed) as answer:
        assert answer.status == 200
    assert "secret-key" not in process.log
    assert process.stop() == 0


@pytest.mark.parametrize("which", ["SIGTERM", "SIGINT"])
def test_it_ends_with_0_when_asked(processes: Processes, model: Path, which: str) -> None:
    port = free_port()
    process = start(processes, model, port)
    process.ready_sync(f"http://127.0.0.1:{port}/health", 60)
    ready = f"llama.cpp ready on http://127.0.0.1:{port} models=tiny"
    until_sync(lambda: ready in process.log, what=ready)
    process.signal(signal.Signals[which])
    assert process.wait() == 0
    assert "llama.cpp stops" in process.log


def test_a_missing_file_is_told(processes: Processes, tmp_path: Path) -> None:
    process = start(processes, tmp_path / "none.gguf", free_port())
    assert process.wait(30) == server.EX_NOINPUT
    assert "cannot be read: No such file" in process.log


def test_a_file_of_another_kind_is_told_before_anything_is_loaded(
    processes: Processes, tmp_path: Path
) -> None:
    path = tmp_path / "weights.gguf"
    path.write_text("<html>404</html>")
    process = start(processes, path, free_port())
    assert process.wait(30) == server.EX_DATAERR
    assert "not a GGUF file: it begins with b'<htm'" in process.log


def test_half_a_model_is_told(processes: Processes, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(model.read_bytes()[:300_000])
    process = start(processes, path, free_port())
    assert process.wait(30) == server.EX_DATAERR
    assert "cannot load" in process.log


def test_a_missing_wheel_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    settings = server.settings_from_args(["--model", str(model)])
    with pytest.raises(server.FaultError, match="pip install xllamacpp") as fault:
        server.start(settings)
    assert fault.value.status == server.EX_UNAVAILABLE


def test_wrong_usage_exits_64(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    for wrong in (["--port", "0"], ["--parallel", "0"], ["--api-key-file", "/nowhere"]):
        with pytest.raises(SystemExit) as exit_:
            server.settings_from_args(["--model", str(model), *wrong])
        assert exit_.value.code == 64
    assert "--port is 1 to 65535" in capsys.readouterr().err
