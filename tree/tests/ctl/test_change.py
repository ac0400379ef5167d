"""`creche config set|unset` and `creche provider …`: files change whole, checked, or not at all."""

import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest

from ctl import files
from ctl.errors import CtlError
from tests.ctl.standin import StandIn, creche

Capture = pytest.CaptureFixture[str]
FILE = """\
# ours
strategy = "prefix"
expect = ["qwen3-coder"]

# the cloud
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
api_key_env = "OPENAI_API_KEY"
models = ["gpt-4o-mini"]

[models.code]
targets = { "qwen3-coder" = 1 }
fallbacks = ["gpt-4o-mini"]
"""
RELOADED: dict[str, Any] = {
    "status": "reloaded",
    "version": 4,
    "digest": "ab12",
    "changed": ["strategy"],
    "needs_restart": [],
    "warnings": [],
    "notes": [],
    "undo_after_s": 30.0,
}


def content(file: Path) -> str:
    return file.read_text()


def write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "router.toml"
    made.write_text(FILE)
    return made


async def test_a_change_is_shown_and_written_and_nothing_else_moves(
    file: Path, capsys: Capture
) -> None:
    ran = await creche(capsys, "config", "set", "--file", str(file), "strategy", "score")
    assert ran.code == 0
    assert content(file) == FILE.replace('"prefix"', '"score"')
    assert ran.out.splitlines() == [
        "@@ -1,4 +1,4 @@",
        " # ours",
        '-strategy = "prefix"',
        '+strategy = "score"',
        ' expect = ["qwen3-coder"]',
        " ",
        "",
        "✓ written   then:  creche config reload",
    ]


async def test_several_pairs_are_one_change(file: Path, capsys: Capture) -> None:
    ran = await creche(
        capsys, "config", "set", "--file", str(file), "retry.rest_s", "9", "timeouts.total_s", "0.5"
    )
    assert ran.code == 0
    assert content(file) == f"{FILE}\n[retry]\nrest_s = 9\n\n[timeouts]\ntotal_s = 0.5\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("config", "set", "retry.attempts_max", "many"), '"attempts_max" wants an integer'),
        (("config", "set", "strategey", "x"), 'did you mean "strategy"?'),
        (("config", "unset", "providers.openai"), '"gpt-4o-mini"'),
        (("config", "set", "providers.openai.status", "disabled"), 'its status is "disabled"'),
    ],
)
async def test_a_result_with_errors_is_told_and_not_written(
    words: tuple[str, ...], said: str, file: Path, capsys: Capture
) -> None:
    ran = await creche(capsys, *words, "--file", str(file))
    assert ran.code == 1
    assert content(file) == FILE
    assert said in ran.out
    assert ran.out.endswith(f"✗ {file} is as it was: this change has errors\n")


async def test_a_dry_run_writes_nothing(file: Path, capsys: Capture) -> None:
    ran = await creche(
        capsys, "config", "set", "--file", str(file), "strategy", "score", "--dry-run"
    )
    assert ran.code == 0
    assert '+strategy = "score"' in ran.out
    assert content(file) == FILE


async def test_what_is_so_already_is_said(file: Path, capsys: Capture) -> None:
    ran = await creche(capsys, "config", "set", "--file", str(file), "strategy", "prefix")
    assert (ran.code, ran.out) == (0, f"✓ {file} says so already\n")


async def test_unset_takes_a_key_or_a_table(file: Path, capsys: Capture) -> None:
    ran = await creche(capsys, "config", "unset", "--file", str(file), "models.code", "strategy")
    assert ran.code == 0
    text = content(file)
    assert "models.code" not in text and "strategy" not in text
    assert "# the cloud\n[providers.openai]" in text
    missing = await creche(capsys, "config", "unset", "--file", str(file), "strategy")
    assert missing.code == 1
    assert missing.end is not None and missing.end.what == "strategy is not set in this file"


async def test_another_daemons_file_is_checked_as_its_own(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "babysitter.toml"
    file.write_text('[[engine]]\nname = "a"\nkind = "mock"\nmodels = ["m"]\n')
    ran = await creche(capsys, "config", "set", "--file", str(file), "defaults.stall_s", "120")
    assert (ran.code, ran.end) == (0, None)
    assert "[defaults]\nstall_s = 120\n" in content(file)
    wrong = await creche(capsys, "config", "set", "--file", str(file), "engine.0.port", "0")
    assert wrong.code == 1
    other = await creche(capsys, "provider", "list", "--file", str(file))
    assert other.code == 64
    assert other.end is not None and other.end.what == f"{file} is the babysitter's file"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("config", "set", "strategy"), "strategy has no value"),
        (("config", "set", "listen.x", "1"), "listen is a value"),
        (("config", "set", "a b", "1"), "'a b' is no key"),
    ],
)
async def test_wrong_words_are_told(
    words: tuple[str, ...], what: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "router.toml"
    file.write_text('listen = "127.0.0.1:1"\nstrategy = "prefix"\n')
    ran = await creche(capsys, *words, "--file", str(file))
    assert ran.end is not None and ran.end.what.startswith(what)


async def test_reload_is_asked_for_afterwards(file: Path, router: StandIn, capsys: Capture) -> None:
    router.answers["/admin/reload"] = (200, RELOADED)
    words = ("config", "set", "--file", str(file), "strategy", "score", "--reload")
    ran = await creche(capsys, *words, url=router.url)
    assert ran.code == 0
    assert [one[:2] for one in router.asked] == [("POST", "/admin/reload")]
    assert "✓ reloaded   version 4\n    changed   strategy\n" in ran.out
    assert "undone after 30 s" in ran.out


async def test_as_json_a_change_and_its_reload_are_one_value(
    file: Path, router: StandIn, capsys: Capture
) -> None:
    words = ("config", "set", "--file", str(file), "strategy", "score", "--reload", "--json")
    router.answers["/admin/reload"] = (200, RELOADED)
    ran = await creche(capsys, *words, url=router.url)
    assert (ran.code, ran.json["changed"], ran.json["reload"]["version"]) == (0, True, 4)
    assert '+strategy = "score"' in ran.json["diff"]
    refusal = {"error": "refused", "problems": [], "report": "why"}
    router.answers["/admin/reload"] = (400, refusal)
    again = await creche(capsys, *words, url=router.url)
    assert (again.code, again.json["changed"], again.json["reload"]) == (1, False, refusal)


async def test_what_looks_like_a_secret_is_not_shown(file: Path, capsys: Capture) -> None:
    key = "sk-proj-0123456789abcdef"
    words = ("config", "set", "--file", str(file), "providers.openai.api_key_env", key)
    ran = await creche(capsys, *words)
    assert ran.code == 1
    assert "api_key_env" in ran.out
    assert key not in ran.out
    assert content(file) == FILE


async def test_the_file_is_the_one_that_the_router_here_runs_with(
    file: Path, router: StandIn, capsys: Capture
) -> None:
    router.answers["/admin/config"] = (200, in_force(str(file)))
    ran = await creche(capsys, "config", "set", "strategy", "score", url=router.url)
    assert (ran.code, ran.end) == (0, None)
    assert 'strategy = "score"' in content(file)


async def test_without_any_file_it_is_asked_for(
    router: StandIn, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "ROUTER_FILE", tmp_path / "nowhere.toml")
    router.answers["/admin/config"] = (200, in_force("/not/here.toml"))
    ran = await creche(capsys, "config", "set", "strategy", "score", url=router.url)
    assert ran.code == 64
    assert ran.end is not None
    assert ran.end.why == "the router says /not/here.toml, which is not here"
    assert ran.end.fix == "Name it:  --file FILE"


def in_force(file: str | None, **more: Any) -> dict[str, Any]:
    return {
        "file": file,
        "version": 3,
        "digest": "0123456789abcdef",
        "loaded_at": "2026-01-31T12:00:00.000000+00:00",
        "by": "start",
        "file_differs": False,
        "needs_restart": [],
        "message": "",
        "undo_until": None,
        "versions": [],
        **more,
    }


@pytest.mark.parametrize(
    "words",
    [
        ("config", "set", "strategy", "prefix"),
        ("config", "unset", "strategy"),
        ("provider", "add", "x", "--type", "vllm", "--base-url", "http://10.0.0.1:1"),
        ("provider", "enable", "openai"),
        ("provider", "disable", "openai"),
    ],
)
async def test_a_file_that_is_not_toml_is_told_as_check_tells_it(
    words: tuple[str, ...], file: Path, capsys: Capture
) -> None:
    write(file, f"{FILE}listen = \n")
    ran = await creche(capsys, *words, "--file", str(file))
    assert ran.code == 1
    assert ran.end is not None
    assert ran.end.what == f"{file} is not TOML as it is: it was not touched"
    checked = await creche(capsys, "config", "check", str(file))
    assert ran.end.why.strip() == checked.out.strip()
    assert f"creche config check {file}" in ran.end.fix
    assert "creche config rollback" in ran.end.fix
    assert content(file) == f"{FILE}listen = \n"


async def test_a_warning_is_told_once_with_the_change_not_again_with_the_reload(
    file: Path, router: StandIn, capsys: Capture
) -> None:
    words = ("config", "set", "models.code.fallbacks", '["qwen3-coder"]', "--file", str(file))
    alone = await creche(capsys, *words, "--dry-run")
    warning = next(line for line in alone.out.splitlines() if line.startswith("warning: "))
    other = "warning: what only the router knows\n  there"
    answer = {**RELOADED, "warnings": [f"{warning}\n  elsewhere", other]}
    router.answers["/admin/reload"] = (200, answer)
    ran = await creche(capsys, *words, "--reload", url=router.url)
    assert ran.out.count(warning) == 1
    assert other in ran.out


# --- provider -------------------------------------------------------------------------------------


async def test_providers_are_listed_with_where_their_key_is(file: Path, capsys: Capture) -> None:
    ran = await creche(capsys, "provider", "list", "--file", str(file))
    assert ran.out.splitlines() == [
        "   PROVIDER  TYPE    STATUS  MODELS       KEY              BASE URL",
        "✓  openai    openai  active  gpt-4o-mini  $OPENAI_API_KEY  https://api.openai.com/v1",
    ]
    told = await creche(capsys, "provider", "list", "--file", str(file), "--json")
    assert told.json["providers"][0]["status"] == "active"


async def test_a_provider_is_added_disabled_and_enabled_again(file: Path, capsys: Capture) -> None:
    words = ("--type", "vllm", "--base-url", "http://10.0.0.40:8100", "--models", "llama, phi")
    ran = await creche(capsys, "provider", "add", "lab", *words, "--file", str(file))
    assert (ran.code, ran.end) == (0, None)
    added = (
        '[providers.lab]\ntype = "vllm"\nbase_url = "http://10.0.0.40:8100"\n'
        'models = ["llama", "phi"]\n'
    )
    assert added in content(file)
    before = content(file)
    await creche(capsys, "provider", "disable", "lab", "--file", str(file))
    assert content(file) == before.replace(added, f'{added}status = "disabled"\n')
    await creche(capsys, "provider", "enable", "lab", "--file", str(file))
    assert content(file) == before
    again = await creche(capsys, "provider", "add", "lab", *words, "--file", str(file))
    assert again.end is not None and "has a provider 'lab' already" in again.end.what


async def test_a_provider_that_is_not_there_is_told_with_the_nearest(
    file: Path, capsys: Capture
) -> None:
    ran = await creche(capsys, "provider", "enable", "opnai", "--file", str(file))
    assert ran.code == 1
    assert ran.end is not None
    assert (ran.end.why, ran.end.fix) == ("it has  openai", "did you mean  openai?")


CHAINS = """\
default_fallbacks = ["gpt-4o-mini"]
expect = ["qwen3-coder"]

[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
models = ["gpt-4o-mini"]

[models.code]
targets = { "qwen3-coder" = 1 }
fallbacks = ["gpt-4o-mini", "qwen3-coder"]
"""
ENTRIES = f"""\
{CHAINS}
[models.cheap]
provider = "openai"
backend_model = "gpt-4o-mini"

[models.short]
backend_model = "cheap"

[models.big]
backend_model = "qwen3-coder"
fallbacks = ["cheap"]
"""


def commands(why: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in why.splitlines() if line.startswith("    creche")]


@pytest.mark.parametrize("text", [CHAINS, ENTRIES])
async def test_a_provider_that_is_needed_is_told_with_the_way_there_and_the_way_works(
    text: str, file: Path, capsys: Capture
) -> None:
    write(file, text)
    ran = await creche(capsys, "provider", "disable", "openai", "--file", str(file))
    assert ran.code == 1
    assert ran.end is not None and "openai is still needed at " in ran.end.what
    assert "line 1 " in ran.end.why
    assert 'default_fallbacks names "gpt-4o-mini"' in ran.end.why
    assert content(file) == text
    for words in commands(ran.end.why):
        step = await creche(capsys, *words, "--file", str(file))
        assert (step.code, step.end) == (0, None), (words, step.out)
    again = await creche(capsys, "provider", "disable", "openai", "--file", str(file))
    assert again.code == 0
    assert 'status = "disabled"' in content(file)


async def test_force_takes_a_providers_models_out_of_chains_and_shows_it(
    file: Path, capsys: Capture
) -> None:
    write(file, CHAINS)
    words = ("provider", "disable", "openai", "--force", "--file", str(file))
    ran = await creche(capsys, *words)
    assert (ran.code, ran.end) == (0, None)
    assert '-default_fallbacks = ["gpt-4o-mini"]' in ran.out
    assert '+fallbacks = ["qwen3-coder"]' in ran.out
    assert "default_fallbacks = []" in content(file)


async def test_force_leaves_entries_of_their_own_to_the_operator(
    file: Path, capsys: Capture
) -> None:
    write(file, ENTRIES)
    words = ("provider", "disable", "openai", "--force", "--file", str(file))
    ran = await creche(capsys, *words)
    assert ran.code == 1
    assert ran.end is not None and "--force takes models out of chains alone" in ran.end.fix
    assert content(file) == ENTRIES


# --- files ----------------------------------------------------------------------------------------


def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("a = 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    files.replace(link, "a = 1\n", "a = 2\n")
    assert link.is_symlink()
    assert real.read_text() == "a = 2\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.toml", "real.toml"]


def test_a_file_that_somebody_else_wrote_meanwhile_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("theirs")
    with pytest.raises(CtlError, match="changed by somebody else"):
        files.replace(file, "as it was read", "ours")
    assert file.read_text() == "theirs"


def test_a_failed_write_leaves_the_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CtlError, match="cannot be written: No space left"):
        files.replace(file, "before", "after")
    assert file.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.toml"]


def test_a_new_file_replaces_none_unless_it_must(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    files.create(file, "one", force=False)
    with pytest.raises(CtlError, match="is there already") as caught:
        files.create(file, "two", force=False)
    assert caught.value.code == 64
    files.create(file, "two", force=True)
    assert file.read_text() == "two"


def test_only_this_machines_addresses_are_here() -> None:
    assert files.is_here("http://127.0.0.1:8000")
    assert files.is_here("http://localhost:8000")
    assert not files.is_here("http://192.0.2.1:8000")
    assert not files.is_here("http://")
