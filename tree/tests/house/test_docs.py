"""The manual says what the code does: every key shown, every example file accepted."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from babysitter.config import Config as Babysitter
from common import config, reference
from registry.config import Config as Registry
from router.config import Config as Router

ROOT = Path(__file__).parents[2]
DAEMONS: dict[str, type[msgspec.Struct]] = {
    "registry": Registry,
    "babysitter": Babysitter,
    "router": Router,
}


AGAIN = ("capabilities.*.levels.", "capabilities.*.weights.")


@pytest.mark.parametrize("name", DAEMONS)
def test_the_commented_file_of_a_daemon_is_a_valid_one(name: str) -> None:
    config.load(ROOT / "configs" / f"{name}.toml", DAEMONS[name])


@pytest.mark.parametrize("name", DAEMONS)
def test_the_commented_file_of_a_daemon_shows_every_key(name: str) -> None:
    text = (ROOT / "configs" / f"{name}.toml").read_text()
    missing = reference.missing(DAEMONS[name], text)
    # What an engine shares with [defaults] is shown there, once.
    shared = {f"engine.#.{key}" for key in msgspec.structs.asdict(Babysitter().defaults)}
    later = {
        ".".join((*table.path, key.name))
        for table in reference.tables(DAEMONS[name])
        for key in table.keys
        if key.comment.startswith("Not available yet")
    }
    # What a capability shares with a model is shown there, once.
    again = {key for key in missing if key.startswith(AGAIN)}
    assert [key for key in missing if key not in shared | later | again] == []


def test_the_reference_page_is_what_the_structs_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name
)
def test_no_page_links_to_a_file_that_is_not_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
