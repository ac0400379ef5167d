"""docs/api-babysitter.md: each request is sent, its answer's shape compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, ask, mock
from tests.support.processes import ROOT

pytestmark = pytest.mark.real


def shape(value: Any) -> Any:
    """Names of fields, not what they hold; a model object's own fields are the engine's matter."""
    if isinstance(value, dict):
        inner = {"data", "meta", "load"}
        return {key: None if key in inner else shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def test_the_documented_examples_are_what_it_answers(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "api-babysitter.md").read_text()
    checked = 0
    with Fleet(tmp_path) as fleet:
        part = fleet.babysitter("sitter", [mock("mock-a", "my-model")], registries=[])
        for block in text.split("```http\n")[1:]:
            request, _, answer = block.partition("```")[0].partition("\n\n---\n")
            method, path = request.split()[:2]
            wanted_status, _, wanted = answer.partition("\n\n")
            status, said = ask(part.url + path, {} if method == "POST" else None)
            assert status == int(wanted_status), (request, said)
            assert shape(said) == shape(json.loads(wanted)), (request, said)
            checked += 1
    assert checked >= 7
