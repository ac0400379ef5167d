"""Integration, 8: one fleet of real processes, asked what a client and an operator would ask."""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, ask, chat, mock

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder: Path = tmp_path_factory.mktemp("integration")
    with Fleet(folder) as fleet:
        fleet.registry()
        fleet.babysitter(
            "babysitter-1",
            [mock("engine-a", "model-a", "model-shared"), mock("engine-b", "model-b")],
        )
        fleet.babysitter("babysitter-2", [mock("engine-c", "model-c", "model-shared")])
        fleet.router()
        fleet.wait_models("model-a", "model-b", "model-c", "model-shared")
        yield fleet


def served_by(fleet: Fleet, model: str) -> str:
    status, answer = ask(f"{fleet.url}/v1/chat/completions", chat(model))
    assert status == 200, answer
    fingerprint: str = answer["system_fingerprint"]
    return fingerprint


def test_babysitter_health_tells_each_engines_state(fleet: Fleet) -> None:
    health = fleet.parts["babysitter-1"].get("/health")
    assert health["status"] == "healthy"
    assert health["service"] == "babysitter-1"
    assert {name: one["state"] for name, one in health["engines"].items()} == {
        "engine-a": "READY",
        "engine-b": "READY",
    }


def test_models_are_aggregated_without_duplicates(fleet: Fleet) -> None:
    for path in ("/models", "/v1/models"):
        listed = fleet.parts["router"].get(path)
        assert listed["object"] == "list"
        assert [one["id"] for one in listed["data"]] == [
            "model-a", "model-b", "model-c", "model-shared",
        ]  # fmt: skip


def test_a_request_for_model_a_goes_to_its_engine(fleet: Fleet) -> None:
    assert "engine-a" in served_by(fleet, "model-a")


def test_a_request_for_model_b_goes_to_its_engine(fleet: Fleet) -> None:
    assert "engine-b" in served_by(fleet, "model-b")


def test_a_shared_model_is_balanced_over_its_engines(fleet: Fleet) -> None:
    seen = Counter(served_by(fleet, "model-shared") for _ in range(6))
    assert sorted(seen.values()) == [3, 3], seen


def test_an_unknown_model_gets_503_that_names_it(fleet: Fleet) -> None:
    status, answer = ask(f"{fleet.url}/v1/chat/completions", chat("no-such-model"))
    assert status == 503
    assert answer["error"]["message"] == "No healthy services available for model 'no-such-model'"
    assert answer["error"]["code"] == "model_not_found"


def test_a_stream_has_sse_data_and_done(fleet: Fleet) -> None:
    body = json.dumps(chat("model-a", stream=True)).encode()
    request = urllib.request.Request(
        f"{fleet.url}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.read().decode().splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert all(one["object"] == "chat.completion.chunk" for one in chunks)


def test_services_lists_all_with_metadata(fleet: Fleet) -> None:
    listed = fleet.parts["router"].get("/services")
    assert listed["total"] == 3
    assert {one["name"]: sorted(one["models"]) for one in listed["services"]} == {
        "engine-a@test": ["model-a", "model-shared"],
        "engine-b@test": ["model-b"],
        "engine-c@test": ["model-c", "model-shared"],
    }
    for one in listed["services"]:
        assert one["healthy"] is True
        assert one["metadata"]["type"] == "openai-api"
        assert one["babysitter_url"].startswith("http://127.0.0.1:")
