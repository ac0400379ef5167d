"""The kinds of engine that a babysitter knows, by the word that the config uses."""

from babysitter.kinds import (
    command,
    infinilm,
    infinilm_rust,
    llama_cpp,
    mock,
    ollama,
    sglang,
    vllm,
    xllamacpp,
)
from babysitter.kinds.base import Given, Kind, Missing, Probe, Progress, Run

KINDS: dict[str, Kind] = {
    "command": command.KIND,
    "infinilm": infinilm.KIND,
    "infinilm_rust": infinilm_rust.KIND,
    "llama_cpp": llama_cpp.KIND,
    "mock": mock.KIND,
    "ollama": ollama.KIND,
    "sglang": sglang.KIND,
    "vllm": vllm.KIND,
    "xllamacpp": xllamacpp.KIND,
}

#: Kinds that are promised and not there yet, told apart from a misspelling.
LATER = ("container",)

__all__ = ["KINDS", "LATER", "Given", "Kind", "Missing", "Probe", "Progress", "Run"]
