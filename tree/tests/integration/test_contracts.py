"""Contracts: what Ollama, vLLM and llama.cpp list reaches clients of the router unharmed.

Their bodies are recorded ones, given by stand-ins under a real babysitter, so they travel as real
ones do: engine, babysitter, registry, router. A real llama.cpp server is asked beside them.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import recorded
from tests.support.fleet import Answer, Fleet, answer_of, ask
from tests.support.ports import free_ports
from tests.support.processes import ROOT

pytestmark = pytest.mark.real

VLLM = """\
{"object":"list","data":[{"id":"Qwen/Qwen3-8B","object":"model","created":1769860800,\
"owned_by":"vllm","root":"/models/Qwen3-8B","parent":null,"max_model_len":32768,\
"permission":[{"id":"modelperm-0c1d","object":"model_permission","created":1769860800,\
"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,\
"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*",\
"group":null,"is_blocking":false}]},{"id":"sql-lora","object":"model","created":1769860800,\
"owned_by":"vllm","root":"/adapters/sql","parent":"Qwen/Qwen3-8B","max_model_len":null,\
"permission":[]}]}"""

LLAMA_CPP = """\
{"models":[{"name":"gemma-3-4b-q4","model":"gemma-3-4b-q4","modified_at":"","size":"",\
"digest":"","type":"model","description":"","tags":[""],"capabilities":["completion"],\
"parameters":"","details":{"parent_model":"","format":"gguf","family":"","families":[""],\
"parameter_size":"","quantization_level":""}}],"object":"list","data":[{"id":"gemma-3-4b-q4",\
"object":"model","created":1769860800,"owned_by":"llamacpp","meta":{"vocab_type":1,\
"n_vocab":262144,"n_ctx_train":131072,"n_embd":2560,"n_params":3880099328,"size":2362249216}}]}"""

OLLAMA = """\
{"object":"list","data":[{"id":"llama3.2:latest","object":"model","created":1769860800,\
"owned_by":"library"}]}"""

TAGS = """\
{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest",\
"modified_at":"2026-01-31T12:00:00.123456789+01:00","size":2019393189,\
"digest":"a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",\
"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],\
"parameter_size":"3.2B","quantization_level":"Q4_K_M"}}]}"""

BODIES = {
    "vllm": {"/v1/models": VLLM},
    "llama-cpp": {"/v1/models": LLAMA_CPP},
    "ollama": {"/v1/models": OLLAMA, "/api/tags": TAGS},
}
#: Who has Ollama's own routes says so, and who wants them too: they name no model.
OLLAMAS = "custom:ollama"


def standin(folder: Path, name: str, port: int) -> dict[str, Any]:
    """An [[engine]] that answers with the bodies of `name`."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(BODIES[name]))
    return {
        "kind": "command",
        "name": name,
        "port": port,
        "command": [sys.executable, recorded.__file__, "{host}", "{port}", str(file)],
        "ready_path": "/v1/models",
        "capabilities": ["generate", OLLAMAS] if name == "ollama" else ["generate"],
    }


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    names = (*BODIES, "real")
    return dict(zip(names, free_ports(len(names)), strict=True))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("contracts")
    model = folder / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "scripts" / "tiny_gguf.py", model], check=True)
    with Fleet(folder) as fleet:
        fleet.registry()
        real = {
            "kind": "xllamacpp",
            "name": "real",
            "port": ports["real"],
            "model": str(model),
            "models": ["tiny"],
            "capabilities": ["generate"],
        }
        fleet.babysitter("host", [*(standin(folder, name, ports[name]) for name in BODIES), real])
        fleet.router()
        fleet.wait_models("Qwen/Qwen3-8B", "gemma-3-4b-q4", "llama3.2:latest", "tiny")
        yield fleet


def through(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The router's list, by id."""
    listed = fleet.parts["router"].get("/v1/models")
    assert listed.keys() == {"object", "data"}
    assert listed["object"] == "list"
    return {one["id"]: one for one in listed["data"]}


def own(body: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body)["data"]
    return found


@pytest.mark.parametrize("body", [VLLM, LLAMA_CPP, OLLAMA], ids=["vllm", "llama.cpp", "ollama"])
def test_a_model_list_passes_through_unharmed(fleet: Fleet, body: str) -> None:
    found = through(fleet)
    for model in own(body):
        assert found[model["id"]] == model
        assert model["object"] == "model"
        assert model["owned_by"]


def test_the_list_holds_every_engines_models_and_nothing_else(fleet: Fleet) -> None:
    ids = [model["id"] for body in (VLLM, LLAMA_CPP, OLLAMA) for model in own(body)]
    assert through(fleet).keys() == {*ids, "tiny"}


def test_one_model_is_what_its_engine_says_of_it(fleet: Fleet) -> None:
    for path in ("/v1/models/Qwen/Qwen3-8B", "/v1/models/Qwen%2FQwen3-8B"):
        assert ask(fleet.url + path) == (200, own(VLLM)[0])


def test_a_real_llama_cpp_servers_list_passes_through_unharmed(
    fleet: Fleet, ports: dict[str, int]
) -> None:
    direct = ask(f"http://127.0.0.1:{ports['real']}/v1/models")[1]["data"][0]
    routed = through(fleet)["tiny"]
    assert {"id", "object", "owned_by", "meta"} <= routed.keys()
    for model in (direct, routed):
        del model["created"]  # the time of asking
    assert routed == direct
    assert routed["meta"]["n_ctx_train"] > 0


def tags(fleet: Fleet) -> Answer:
    return answer_of(fleet.url + "/api/tags", headers={"x-creche-capability": OLLAMAS})


def test_ollamas_tags_pass_through_unharmed(fleet: Fleet) -> None:
    for _ in range(4):
        answer = tags(fleet)
        assert (answer.status, answer.body) == (200, json.loads(TAGS))
        assert answer.headers["x-creche-service"] == "ollama@test"
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.headers["content-length"] == str(len(TAGS)), "not a byte more or less"
        model = answer.body["models"][0]
        assert model["name"] == "llama3.2:latest"
        assert len(model["digest"]) == 64


def test_what_only_one_kind_of_engine_answers_is_asked_of_that_kind_alone(fleet: Fleet) -> None:
    found = ask(f"{fleet.url}/explain?path=/api/chat", headers={"x-creche-capability": OLLAMAS})[1]
    assert [one["name"] for one in found["targets"][0]["candidates"]] == ["ollama@test"]
