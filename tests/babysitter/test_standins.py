"""Every kind under a real babysitter: with its own engine where that can be had here (mock,
command, xllamacpp), else with a stand-in that takes exactly its command line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, ask, chat, mock
from tests.support.processes import ROOT
from tests.support.until import until_sync

pytestmark = pytest.mark.real

SERVE = Path(__file__).parent / "standins" / "serve.py"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


def standin(folder: Path, kind: str) -> str:
    """An executable that behaves like `kind`'s program."""
    path = folder / f"{kind}-program"
    path.write_text(
        f"#!{sys.executable}\n"
        "import runpy, sys\n"
        f"sys.argv[1:] = [{kind!r}, *sys.argv[1:]]\n"
        f"runpy.run_path({str(SERVE)!r}, run_name='__main__')\n"
    )
    path.chmod(0o755)
    return str(path)


def engine(fleet: Fleet, kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": kind, "bin": standin(fleet.folder, kind), **more}


def test_every_kind_that_cannot_be_had_here_by_a_standin_of_its_command_line(fleet: Fleet) -> None:
    scripts = fleet.folder / "InfiniLM"
    scripts.mkdir()
    (scripts / "launch_server.py").touch()
    service = fleet.folder / "service.toml"
    service.touch()
    models = fleet.folder / "models"
    models.mkdir()
    for model in ("Big", "Lang", "q4.gguf", "9g"):
        (models / model).touch()
    part = fleet.babysitter(
        "sitter",
        [
            engine(fleet, "vllm", model=f"{models}/Big", args=["--max-model-len", "4096"]),
            engine(fleet, "sglang", model=f"{models}/Lang", models=["lang"]),
            engine(fleet, "llama_cpp", model=f"{models}/q4.gguf", env={"STANDIN_LOADING": "3"}),
            engine(fleet, "infinilm", model=f"{models}/9g", work_dir=str(scripts)),
            engine(fleet, "infinilm_rust", config_file=str(service)),
            engine(fleet, "ollama", models=["pulled-later"]),
        ],
        registries=[],
        defaults={"drain_timeout_s": 5},
    )
    views = {one["name"]: one for one in part.get("/engines")["engines"]}
    assert {name: one["models"] for name, one in views.items()} == {
        "vllm": ["Big"],
        "sglang": ["lang"],
        "llama_cpp": ["q4"],
        "infinilm": ["9g"],
        "infinilm_rust": ["from-the-service-file"],
        "ollama": ["pulled-later"],
    }
    assert {one["restarts"] for one in views.values()} == {0}
    until_sync(
        lambda: "start service at 0.0.0.0" in ask(part.url + "/engines/infinilm_rust/log")[1],
        what="its log is told",
    )
    assert part.stop() == 0
    assert fleet.processes.survivors() == []


def test_a_command_line_that_a_standin_refuses_is_told_with_its_words(fleet: Fleet) -> None:
    part = fleet.babysitter(
        "sitter",
        [engine(fleet, "vllm", model="m", args=["--no-such-flag"], max_restarts=0)],
        registries=[],
        start=False,
    ).start(ready="/ready")
    view = until_sync(
        lambda: [v for v in [part.get("/engines/vllm")] if v["state"] == "FATAL"], what="FATAL"
    )[0]
    assert view["last_exit"]["code"] == 2
    assert "unrecognized arguments: --no-such-flag" in view["last_exit"]["log"][-1]


def test_kinds_that_can_be_had_here(fleet: Fleet) -> None:
    model = fleet.folder / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "scripts" / "tiny_gguf.py", model], check=True)
    part = fleet.babysitter(
        "sitter",
        [
            mock("mock", "m"),
            {"kind": "xllamacpp", "name": "real", "model": str(model), "models": ["tiny"]},
            {
                "kind": "command",
                "name": "own",
                "command": [sys.executable, "-m", "babysitter.mock", "--host", "{host}"],
                "args": ["--port", "{port}", "--model", "c"],
            },
        ],
        registries=[],
    )
    assert {one["name"]: one["models"] for one in part.get("/engines")["engines"]} == {
        "mock": ["m"],
        "real": ["tiny"],
        "own": ["c"],
    }
    url = part.get("/engines/real")["url"]
    status, answer = ask(url + "/v1/chat/completions", chat("tiny", max_tokens=4))
    assert (status, answer["object"]) == (200, "chat.completion")
