"""What the house promises: names nobody else owns, locks that pin and hash, no index host."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"registry", "router", "babysitter", "common", "ctl"}
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PIN = re.compile(r"^[a-z0-9._-]+(\[[a-z,]+\])?==[^\s;\\]+", re.I)


def test_no_dependency_owns_one_of_our_top_level_names() -> None:
    owners = importlib.metadata.packages_distributions()
    theirs = {
        name: sorted(set(owners.get(name, ())) - {"creche"})
        for name in OURS
        if set(owners.get(name, ())) - {"creche"}
    }
    assert theirs == {}


def test_the_distribution_can_never_be_uploaded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: p.name)
def test_every_line_of_a_lock_is_pinned_and_hashed(lock: Path) -> None:
    entries = lock.read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in entries if line.strip() and not line.startswith("#")]
    assert entries
    for entry in entries:
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    "lock", [*LOCKS, ROOT / "tests/clients/node/package-lock.json"], ids=lambda p: p.name
)
def test_a_lock_names_no_index_host(lock: Path) -> None:
    text = lock.read_text()
    assert "index-url" not in text
    assert '"resolved"' not in text
    assert not re.search(r"https?://[a-z.]*(pypi|npmjs|registry|pythonhosted)", text)


def test_the_smaller_locks_take_the_versions_of_the_large_one() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.lock").read_text()
        return set(re.findall(r"^[a-z0-9._-]+==[^\s;\\]+", text, re.I | re.M))

    assert pins("runtime") <= pins("demo") <= pins("dev")


def test_every_console_script_exists() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        source = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text()
        assert f"def {function}(" in source
