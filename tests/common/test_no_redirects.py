"""A rule as a check: no client of ours follows a redirect, so nobody leads one to another URL."""

import ast
from pathlib import Path

from tests.support.processes import ROOT

#: What an aiohttp session is called here.
SESSIONS = {"session", "_session", "http", "_http"}
VERBS = {"get", "post", "put", "delete", "head", "patch", "options", "request"}


def calls(path: Path) -> list[ast.Call]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if node.func.attr in VERBS and name in SESSIONS:
            found.append(node)
    return found


def test_every_request_of_ours_says_that_it_follows_no_redirect() -> None:
    seen, followers = 0, []
    for package in ("common", "registry", "router", "babysitter", "ctl"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for call in calls(path):
                seen += 1
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                if said.get("allow_redirects") != "False":
                    followers.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert followers == []
    assert seen >= 7
