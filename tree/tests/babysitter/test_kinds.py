"""Each kind's command line, as a table; what its answers mean; and what it cannot do without."""

from typing import Any

import pytest

from babysitter.kinds import KINDS, Given
from babysitter.kinds.base import file_stem, is_path

GGUF = "/models/qwen3-8b-q4.gguf"
FOLDER = "/models/Llama-3.3-70B-Instruct"


def given(**said: Any) -> Given:
    return Given(**{"name": "e", "host": "10.0.0.21", "port": 8100, "python": "/venv/py", **said})


ARGV: list[tuple[str, dict[str, Any], str]] = [
    (
        "command",
        {"command": ("/opt/x", "--at", "{host}:{port}", "{not-ours}"), "args": ("--m={model}",)},
        "/opt/x --at 10.0.0.21:8100 {not-ours} --m=",
    ),
    (
        "vllm",
        {"model": FOLDER, "models": ("llama", "l"), "bin": "/opt/vllm", "args": ("--x", "a b")},
        f"/opt/vllm serve {FOLDER} --host 10.0.0.21 --port 8100 "
        "--served-model-name llama l --x a b",
    ),
    (
        "vllm",
        {"model": FOLDER},
        f"vllm serve {FOLDER} --host 10.0.0.21 --port 8100 "
        "--served-model-name Llama-3.3-70B-Instruct",
    ),
    (
        "vllm",
        {"model": "Qwen/Qwen3-8B"},
        "vllm serve Qwen/Qwen3-8B --host 10.0.0.21 --port 8100",
    ),
    (
        "sglang",
        {"model": FOLDER, "models": ("llama", "second")},
        f"python3 -m sglang.launch_server --model-path {FOLDER} --host 10.0.0.21 --port 8100 "
        "--served-model-name llama --enable-metrics",
    ),
    (
        "sglang",
        {"model": "a/b", "args": ("--enable-metrics",)},
        "python3 -m sglang.launch_server --model-path a/b --host 10.0.0.21 --port 8100 "
        "--enable-metrics",
    ),
    (
        "llama_cpp",
        {"model": GGUF},
        f"llama-server --model {GGUF} --host 10.0.0.21 --port 8100 --alias qwen3-8b-q4 --metrics",
    ),
    (
        "llama_cpp",
        {"model": GGUF, "models": ("a", "b"), "args": ("--metrics", "-ngl", "99")},
        f"llama-server --model {GGUF} --host 10.0.0.21 --port 8100 --alias a,b --metrics -ngl 99",
    ),
    (
        "xllamacpp",
        {"model": GGUF, "models": ("tiny", "t")},
        f"/venv/py -m babysitter.xllamacpp_server --model {GGUF} --host 10.0.0.21 --port 8100 "
        "--alias tiny --alias t",
    ),
    (
        "infinilm",
        {"model": FOLDER, "work_dir": "/opt/InfiniLM/scripts", "args": ("--dev", "metax")},
        f"python3 launch_server.py --port 8100 --host 10.0.0.21 --model-path {FOLDER} --dev metax",
    ),
    (
        "infinilm_rust",
        {"config_file": "/etc/service.toml"},
        "xtask service /etc/service.toml -p 8100",
    ),
    ("ollama", {}, "ollama serve"),
    (
        "mock",
        {"models": ("a", "b"), "args": ("--pace-ms", "5")},
        "/venv/py -m babysitter.mock --host 10.0.0.21 --port 8100 --name e --model a --model b "
        "--pace-ms 5",
    ),
]


@pytest.mark.parametrize(("kind", "said", "argv"), ARGV)
def test_the_command_line(kind: str, said: dict[str, Any], argv: str) -> None:
    assert " ".join(KINDS[kind].plan(given(**said)).argv) == argv


def test_an_argument_with_a_blank_stays_one_argument() -> None:
    argv = KINDS["vllm"].plan(given(model="m", args=("--chat-template", "a b"))).argv
    assert argv[-1] == "a b"


def test_every_kind_has_a_row() -> None:
    assert {kind for kind, _, _ in ARGV} == set(KINDS)


def test_ollama_takes_its_address_from_the_environment() -> None:
    assert KINDS["ollama"].plan(given()).env == {"OLLAMA_HOST": "10.0.0.21:8100"}
    assert KINDS["ollama"].plan(given(host="::1")).env == {"OLLAMA_HOST": "[::1]:8100"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_502_503_and_504_mean_loading(kind: str) -> None:
    probe = KINDS[kind].plan(given(model="m", command=("x",))).probe
    assert {502, 503, 504} <= probe.loading
    assert probe.ready_paths[0].startswith("/")


@pytest.mark.parametrize(
    ("kind", "said", "key"),
    [
        ("command", {}, "command"),
        ("vllm", {}, "model"),
        ("sglang", {}, "model"),
        ("llama_cpp", {}, "model"),
        ("xllamacpp", {}, "model"),
        ("infinilm", {"model": "m"}, "work_dir"),
        ("infinilm", {"work_dir": "/w"}, "model"),
        ("infinilm_rust", {}, "config_file"),
    ],
)
def test_what_a_kind_cannot_do_without(kind: str, said: dict[str, Any], key: str) -> None:
    missing = KINDS[kind].missing(given(**said))
    assert missing is not None
    assert missing.key == key
    assert missing.fix.startswith(f"{key} = ")


def test_a_models_own_name() -> None:
    assert file_stem(GGUF) == "qwen3-8b-q4"
    assert file_stem(FOLDER + "/") == "Llama-3.3-70B-Instruct"
    assert is_path("tiny.gguf") and is_path("./x") and not is_path("Qwen/Qwen3-8B")
