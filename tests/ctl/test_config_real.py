"""`creche config`, `provider` and `explain` against a real router: change, reload, go back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.test_real import creche
from tests.support.fleet import Fleet, mock
from tests.support.ports import free_port

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("config")) as made:
        made.registry()
        made.router(
            models={"code": {"targets": {"model-a": 1}, "fallbacks": ["model-b"]}},
            expect=["model-a", "model-b"],
            reload={"rollback_after_s": 0},
        )
        made.babysitter("sitter", [mock("one", "model-a"), mock("two", "model-b")])
        made.wait_models("model-a", "model-b", "code")
        yield made


def file_of(fleet: Fleet) -> Path:
    return fleet.parts["router"].config


def said(fleet: Fleet, *words: str) -> dict[str, Any]:
    done = creche(fleet.url, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_change_goes_into_the_routers_own_file_and_into_force(fleet: Fleet) -> None:
    before = said(fleet, "config", "show")
    assert before["file"] == str(file_of(fleet))
    done = creche(fleet.url, "config", "set", "strategy", "round_robin", "--reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '+strategy = "round_robin"' in done.stdout
    assert "✓ reloaded" in done.stdout
    assert "changed   strategy" in done.stdout
    now = said(fleet, "config", "show")
    assert now["version"] == before["version"] + 1
    assert not now["file_differs"]
    shown = creche(fleet.url, "config", "show").stdout
    assert shown.startswith(f"{file_of(fleet)}   version {now['version']}   {now['digest']}   by")


def test_a_rollback_brings_the_file_back_as_well(fleet: Fleet) -> None:
    text = file_of(fleet).read_text()
    creche(fleet.url, "config", "set", "prefer_warm_ms", "250", "--reload")
    assert "prefer_warm_ms = 250" in file_of(fleet).read_text()
    done = creche(fleet.url, "config", "rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ rolled back to version" in done.stdout
    assert file_of(fleet).read_text() == text
    table = creche(fleet.url, "config", "versions").stdout
    assert "rolled back from" in table
    assert table.count("in force") == 1


def test_a_bad_file_is_refused_by_the_router_with_what_check_says(fleet: Fleet) -> None:
    text = file_of(fleet).read_text()
    try:
        file_of(fleet).write_text('strategey = "x"\n' + text)
        done = creche(fleet.url, "config", "reload")
        check = creche(fleet.url, "config", "check", str(file_of(fleet)))
        assert done.returncode == check.returncode == 1
        assert check.stdout.strip() in done.stdout
        refused = creche(fleet.url, "config", "reload", "--json")
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["problems"][0]["fix"] == 'did you mean "strategy"?'
        assert "the file says something else" in creche(fleet.url, "config", "show").stdout
    finally:
        file_of(fleet).write_text(text)


def test_an_unknown_version_is_refused(fleet: Fleet) -> None:
    done = creche(fleet.url, "config", "rollback", "999")
    assert done.returncode == 1
    assert "✗ " in done.stdout + done.stderr
    assert "999" in done.stdout + done.stderr


def test_live_finds_what_is_expected_and_absent(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text('expect = ["model-a", "model-z"]\n')
    done = creche(fleet.url, "config", "check", str(file), "--live")
    assert done.returncode == 0
    assert 'no fit engine has "model-z" now' in done.stdout
    assert '"model-a" now' not in done.stdout


def test_a_provider_comes_and_goes(fleet: Fleet) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    words = ("lab", "--type", "vllm", "--base-url", nowhere, "--models", "model-lab")
    done = creche(fleet.url, "provider", "add", *words, "--reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed   providers" in done.stdout
    assert "lab" in creche(fleet.url, "provider", "list").stdout
    done = creche(fleet.url, "provider", "disable", "lab", "--reload")
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(fleet, "provider", "list")["providers"][0]["status"] == "disabled"


def test_explain_tells_where_a_request_would_go(fleet: Fleet) -> None:
    done = creche(fleet.url, "explain", "--model", "code")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "code → one@test   nothing was sent"
    assert "code is virtual → model-a" in done.stdout
    assert f"{file_of(fleet).name}:" in done.stdout
    assert any("one@test" in line and line.endswith("◀ chosen") for line in lines)
    assert any(line.startswith("  fallback  model-b") for line in lines)


def test_explain_takes_needs_and_bodies_and_says_when_nobody_would_serve(
    fleet: Fleet, tmp_path: Path
) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "model-b", "input": ["a", "b"]}))
    done = creche(fleet.url, "explain", "--body", str(body), "--path", "/v1/embeddings")
    assert done.stdout.startswith("model-b → two@test")
    need = ("--header", "x-creche-privacy: restricted")
    refused = creche(fleet.url, "explain", "--model", "model-a", *need)
    assert refused.returncode == 1
    assert "model-a → nobody" in refused.stdout
    assert "refused: " in refused.stdout
    unknown = creche(fleet.url, "explain", "--model", "nobody-has-this")
    assert unknown.returncode == 1
    assert "nobody-has-this" in unknown.stdout
    for one in fleet.parts["router"].get("/services")["services"]:
        assert one["request_count"] == 0
