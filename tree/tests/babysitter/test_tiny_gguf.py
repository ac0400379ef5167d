"""scripts/tiny_gguf.py writes a small model that llama.cpp loads (see test_xllamacpp_server)."""

import subprocess
import sys
from pathlib import Path

import gguf
import pytest

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "tiny_gguf.py"


def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


def test_it_writes_less_than_a_megabyte(tmp_path: Path) -> None:
    out = tmp_path / "tiny.gguf"
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size < 1_000_000
    assert "gibberish" in done.stdout


def test_it_writes_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        assert run(tmp_path / name).returncode == 0
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_its_size_and_context_can_be_chosen(tmp_path: Path) -> None:
    out = tmp_path / "small.gguf"
    assert run(out, "--dim", "32", "--layers", "1", "--context", "128").returncode == 0
    reader = gguf.GGUFReader(out)
    assert reader.fields["llama.context_length"].contents() == 128
    assert reader.fields["llama.embedding_length"].contents() == 32
    assert reader.fields["tokenizer.chat_template"].contents().startswith("{% for m in messages")


def test_a_dim_that_no_head_count_divides_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "odd.gguf", "--dim", "30")
    assert done.returncode == 2
    assert "multiple of 8" in done.stderr


def test_a_folder_that_is_not_there_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere" / "tiny.gguf")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_it_is_for() -> None:
    assert "random weights" in run("--help").stdout
