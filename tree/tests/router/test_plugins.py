"""Small packages on sys.path, as pip would lay them out, and what the router makes of them."""

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from structlog.testing import capture_logs

from router import plugins
from router.errors import Problem
from router.hooks import NONE, Hooks, Request, result
from router.outcome import Outcome
from router.seam import End
from tests.router.making import begin, brain, upstream
from tests.support.until import until

PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"

Install = Callable[..., None]
EntryPoints = Mapping[str, Mapping[str, str]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(module, text, {group: {name: value}})`: a distribution of one module."""
    monkeypatch.syspath_prepend(tmp_path)

    def lay_out(module: str, text: str, points: EntryPoints) -> None:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(dedent(text))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = []
        for group, named in points.items():
            lines.append(f"[{group}]")
            lines += [f"{name} = {value}" for name, value in named.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return lay_out


def load() -> tuple[Hooks, list[tuple[str, str]]]:
    """And what was logged: event and reason."""
    with capture_logs() as lines:
        found = plugins.load()
    return found, [(line["event"], line.get("why", "")) for line in lines]


def request(**headers: str) -> Request:
    return Request("id", "m", "/v1/chat/completions", headers, False, None)


def route(hooks: Hooks, asked: Request) -> Request | Problem:
    assert hooks.before_route is not None
    return hooks.before_route(asked)


def test_without_a_package_there_are_no_hooks() -> None:
    assert load() == (NONE, [])


def test_an_installed_package_is_found_called_and_named(install: Install) -> None:
    install(
        "creche_test_one",
        """
        def by_team(request):
            return {"model": request.headers.get("x-team")}
        """,
        {"creche.before_route": {"team": "creche_test_one:by_team"}},
    )
    with capture_logs() as lines:
        hooks = plugins.load()
    assert lines == [{"event": "hooks loaded", "log_level": "info", "before_route": ["team"]}]
    found = route(hooks, request(**{"x-team": "search"}))
    assert isinstance(found, Request)
    assert found.model == "search"


def test_hooks_run_in_the_order_of_their_names_whoever_brought_them(install: Install) -> None:
    text = "def hook(request): return {'model': request.model + %r}"
    group = "creche.before_route"
    install("creche_test_one", text % "1", {group: {"z": "creche_test_one:hook"}})
    install("creche_test_two", text % "2", {group: {"a": "creche_test_two:hook"}})
    hooks, _ = load()
    assert hooks.names() == {group: ["a", "z"]}
    found = route(hooks, request())
    assert isinstance(found, Request)
    assert found.model == "m21"


def test_what_cannot_be_used_is_said_and_left_out(install: Install) -> None:
    install(
        "creche_test_bad",
        """
        VALUE = 7
        async def later(request): ...
        def fine(request): ...
        """,
        {
            "creche.before_route": {
                "b": "creche_test_bad:VALUE",
                "c": "creche_test_bad:later",
                "d": "creche_test_bad:absent",
                "e": "creche_test_absent:hook",
                "f": "creche_test_bad:fine",
            },
            "creche.policies": {"latency": "creche_test_bad:fine"},
        },
    )
    install(
        "creche_test_exit", "raise SystemExit(3)", {"creche.on_error": {"a": "creche_test_exit:a"}}
    )
    install(
        "creche_test_twice", "def g(r): ...", {"creche.before_route": {"f": "creche_test_twice:g"}}
    )
    hooks, said = load()
    assert hooks.names() == {"creche.before_route": ["f"]}
    assert said == [
        ("hook not loaded", "the score has a part of this name"),
        ("hook not loaded", "is no function"),
        (
            "hook not loaded",
            "is async: a hook is called between two steps of a request, not awaited",
        ),
        (
            "hook not loaded",
            "AttributeError: module 'creche_test_bad' has no attribute 'absent'",
        ),
        ("hook not loaded", "ModuleNotFoundError: No module named 'creche_test_absent'"),
        ("hook not loaded", "another hook of this group has its name"),
        ("hook not loaded", "SystemExit: 3"),
        ("hooks loaded", ""),
    ]


def test_hooks_are_bounded(install: Install) -> None:
    points = {f"h{number:02}": "creche_test_many:hook" for number in range(20)}
    install("creche_test_many", "def hook(q, r): ...", {"creche.on_error": points})
    hooks, said = load()
    assert len(hooks.names()["creche.on_error"]) == plugins.HOOKS_MAX
    assert said[:4] == [("hook not loaded", "at most 16 hooks of a group are called")] * 4


def test_a_reload_finds_what_came_since(install: Install) -> None:
    assert load()[0] is NONE
    install("creche_test_new", "def h(r): ...", {"creche.before_route": {"h": "creche_test_new:h"}})
    assert load()[0].names() == {"creche.before_route": ["h"]}


def test_trouble_with_a_hook_is_logged_once(install: Install) -> None:
    install(
        "creche_test_one",
        "def hook(request): return 1 / 0",
        {"creche.before_route": {"zero": "creche_test_one:hook"}},
    )
    hooks, _ = load()
    with capture_logs() as lines:
        for _ in range(10):
            route(hooks, request())
    assert lines == [
        {
            "event": "hook raised",
            "log_level": "warning",
            "group": "creche.before_route",
            "hook": "zero",
            "why": "ZeroDivisionError: division by zero",
            "unsaid": 0,
        }
    ]


async def test_the_package_in_the_manual_does_what_the_manual_says(install: Install) -> None:
    blocks = dict(re.findall(r"```(toml|python)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    project = tomllib.loads(blocks["toml"])["project"]
    install("acme_creche", blocks["python"], project["entry-points"])
    hooks, said = load()
    assert said == [("hooks loaded", "")]

    refused = route(hooks, request(**{"x-team": "sales"}))
    assert isinstance(refused, Problem)
    assert refused.status == 403
    same = request(**{"x-team": "search"})
    assert route(hooks, same) is same
    changed = route(hooks, request(**{"x-team": "research"}))
    assert isinstance(changed, Request)
    assert changed.model == "llama-70b"
    assert changed.headers.get("x-creche-privacy") == "confidential"

    (spot,) = hooks.policies
    asked, one = begin(brain(), "m"), upstream("a@spot-1", "m")
    assert spot(upstream("a@gpu-1", "m"), asked) is None
    assert spot(one, asked) == 0.2
    one.node.in_flight = 11
    assert spot(one, asked) == "a spot host has enough to do"

    end = End(Outcome.OK, 200, 2.0)
    end.tokens_out = 240
    assert hooks.ended is not None
    hooks.ended(same, result(end, 1.0, service="a@h", attempts=1))
    used = sys.modules["acme_creche"].used
    await until(lambda: used == {"search": 240})
