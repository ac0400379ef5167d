"""What is missing is said with the line that settles it, before anything is started."""

from pathlib import Path

import pytest

from babysitter import absent
from babysitter.cause import Ending
from babysitter.kinds import KINDS, Given


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH of one folder, with a `llama-server`."""
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.touch(mode=0o755)
    return program.parent


def look(kind: str, path: Path, **more: object) -> Ending | None:
    given = Given(name="x", host="h", port=1, python="/bin/sh", **more)  # type: ignore[arg-type]
    return absent.look(kind, given, KINDS[kind].plan(given), {"PATH": str(path)})


def test_a_name_that_path_does_not_lead_to_is_hopeless(tmp_path: Path) -> None:
    found = look("llama_cpp", tmp_path, model="/m.gguf")
    assert found is not None and found.hopeless
    assert found.text == (
        '"llama-server" is not on PATH; fix: bin = "/path/to/llama-server"'
        ', or  kind = "xllamacpp"  for the server of the PyPI wheel (pip install xllamacpp)'
    )


def test_a_path_may_lead_through_a_late_mount(tmp_path: Path) -> None:
    found = look("vllm", tmp_path, model="org/m", bin="/nowhere/vllm")
    assert found is not None and not found.hopeless
    assert found.text == (
        'there is no program "/nowhere/vllm"; fix: bin = "/path/to/venv/bin/vllm"'
    )


def test_a_model_that_is_not_there_is_told(path: Path) -> None:
    found = look("llama_cpp", path, model="/nowhere/q4.gguf")
    assert found is not None and not found.hopeless
    assert found.text == (
        'there is no model file "/nowhere/q4.gguf"; fix: model = "/path/to/the/model"'
    )
    home = look("xllamacpp", path, model="~/q4.gguf")
    assert home is not None and "a ~ is not expanded" in home.text


def test_with_all_there_nothing_is_said(path: Path) -> None:
    model = path / "q4.gguf"
    model.touch()
    assert look("llama_cpp", path, model=str(model)) is None
    assert look("llama_cpp", path, model="q4.gguf", work_dir=str(path)) is None


def test_what_is_fetched_or_a_name_is_not_looked_for(path: Path) -> None:
    fetches = ("--hf-repo", "org/m")
    assert look("llama_cpp", path, model="/cache/new.gguf", args=fetches) is None
    assert look("mock", path, model="/nowhere/m") is None
    assert look("vllm", path, model="org/m", bin="/bin/sh") is None
