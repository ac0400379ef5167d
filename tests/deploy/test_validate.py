"""Check 8 can fail: a log that lacks a request, or has one of another engine, is told. What was
started just now has a moment to register."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.support.processes import ROOT


def load() -> ModuleType:
    """deploy/validate.py, which is a program and no package of ours."""
    spec = importlib.util.spec_from_file_location("validate", ROOT / "deploy" / "validate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


validate = load()


def fleet(logs: dict[str, list[int]], answered: dict[int, str], run: str = "v-1") -> Any:
    """`logs` are the request numbers that each engine wrote, `answered` who the router named."""
    made = validate.Fleet("http://registry", "http://router", "token", run=run)
    made.answered = {f"{run}-{number}": service for number, service in answered.items()}
    records = [
        {"name": name, "metadata": {"babysitter_url": f"http://{name}"}}
        for name in validate.ENGINES
    ]
    made.get = lambda url, *, token=False: {"services": records}
    made.text = lambda url: "".join(
        f"2026-11-21 engine request id={run}-{number} model=m status=200\n"
        for number in logs.get(url.removeprefix("http://").split("/")[0], [])
    )
    return made


A, B, C, D = validate.ENGINES


def test_logs_that_agree_hold() -> None:
    told = validate._compare(fleet({A: [1, 3], B: [2]}, {1: A, 2: B, 3: A}))
    assert told.startswith("3 requests")


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({A: [1]}, f"the log of {B} lacks v-1-2"),
        ({A: [1, 2], B: [2]}, f"the log of {A} also has v-1-2"),
        ({A: [1, 1], B: [2]}, f"the log of {A} also has v-1-1"),
        ({A: [2], B: [1]}, f"the log of {A} lacks v-1-1 and also has v-1-2"),
        ({}, f"the log of {A} lacks v-1-1"),
    ],
)
def test_logs_that_do_not_agree_are_told(logs: dict[str, list[int]], said: str) -> None:
    with pytest.raises(validate.Wrong, match=said):
        validate._compare(fleet(logs, {1: A, 2: B}))


def test_ten_is_not_one() -> None:
    with pytest.raises(validate.Wrong, match="lacks v-1-1"):
        validate._compare(fleet({A: [10]}, {1: A}))


def test_without_an_answered_request_it_does_not_hold() -> None:
    with pytest.raises(validate.Wrong, match="nothing to compare"):
        validate.logs_match(fleet({}, {}))


def growing(*tables: list[str]) -> Any:
    """A fleet whose registry has these names at the first look, these at the second, and so on."""
    made = fleet({}, {})
    looks = iter(tables)

    def record(name: str) -> dict[str, Any]:
        kind = "babysitter" if name in validate.BABYSITTERS else "openai-api"
        models = [{"id": validate.ENGINES.get(name)}]
        return {
            "name": name,
            "is_healthy": True,
            "metadata": {"type": kind, "models_list": models},
        }

    made.get = lambda url, *, token=False: {"services": [record(name) for name in next(looks)]}
    return made


ALL = [*validate.BABYSITTERS, *validate.ENGINES]


def test_what_was_started_just_now_is_waited_for() -> None:
    told = validate.all_registered(growing(ALL[:-2], ALL[:-1], ALL))
    assert told.startswith("4 babysitters, 4 engines")


def test_what_is_missing_for_long_is_told() -> None:
    made = growing(ALL[:-1])
    made.settled_at = 0.0
    with pytest.raises(validate.Wrong, match=f"not registered: {ALL[-1]}; there are: "):
        validate.all_registered(made)


def test_a_registry_that_does_not_answer_is_told_at_once() -> None:
    made = growing()

    def refused(url: str, *, token: bool = False) -> Any:
        raise validate.Wrong(f"{url}: connection refused")

    made.get = refused
    with pytest.raises(validate.Wrong, match="connection refused"):
        validate.all_registered(made)
