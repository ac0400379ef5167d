"""`creche config check`: the daemons' own check, whoever's file it is."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from ctl import kinds
from tests.ctl.fleets import service
from tests.ctl.standin import StandIn, creche

CONFIGS = Path(__file__).parents[2] / "configs"
CHAIN = """\
registries = []
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"
api_key_env = "OPENAI_API_KEY"
[models.code]
targets = { "qwen3-coder" = 1 }
fallbacks = ["gpt-4o-mini"]
"""

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", ["router", "registry", "babysitter"])
def test_whose_file_it_is_its_keys_tell(name: str) -> None:
    text = (CONFIGS / f"{name}.toml").read_text()
    assert kinds.of(text, "x.toml") is kinds.KINDS[name]


@pytest.mark.parametrize(
    ("text", "file", "kind"),
    [
        ('[[engine]]\nkind = "mock"', "router.toml", "babysitter"),
        ("", "my-registry.toml", "registry"),
        ('listen = "127.0.0.1:1"', "router.toml", "router"),
        ('strategy = "prefix"\nnonsense = [', "x.toml", "router"),
        ("", "x.toml", None),
        ('listen = "127.0.0.1:1"', "registry-and-router.toml", None),
    ],
)
def test_where_the_keys_do_not_tell_the_name_does(text: str, file: str, kind: str | None) -> None:
    found = kinds.of(text, file)
    assert (found.name if found else None) == kind


async def test_files_of_all_three_are_checked_in_one_go(capsys: Capture) -> None:
    files = [str(CONFIGS / f"{name}.toml") for name in ("router", "registry", "babysitter")]
    ran = await creche(capsys, "config", "check", *files)
    assert ran.code == 0
    assert ran.out.count("ok   ") == 3


@pytest.mark.real
@pytest.mark.parametrize("module", ["router", "registry", "babysitter"])
async def test_its_words_are_the_daemons_own(module: str, tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / f"{module}.toml"
    bad.write_text('listen = "nowhere"\nstrategey = "x"\n')
    good = CONFIGS / f"{module}.toml"
    for file, code in ((bad, 1), (good, 0)):
        ran = await creche(capsys, "config", "check", str(file), "--kind", module)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, "check", str(file), stdout=PIPE, cwd=CONFIGS.parent
        )
        said, _ = await process.communicate()
        assert (ran.code, ran.out) == (code, said.decode())
        assert process.returncode == code


async def test_the_dangling_chain_is_found(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "router.toml"
    file.write_text(CHAIN)
    ran = await creche(capsys, "config", "check", str(file))
    assert ran.code == 1
    assert 'the fallbacks of "code"' in ran.out or '"code"' in ran.out
    assert '"gpt-4o-mini"' in ran.out


async def test_as_json_each_problem_has_its_place_and_fix(tmp_path: Path, capsys: Capture) -> None:
    bad, good = tmp_path / "router.toml", tmp_path / "registry.toml"
    bad.write_text('strategey = "prefix"\n')
    good.write_text("")
    ran = await creche(capsys, "config", "check", str(bad), str(good), "--json")
    assert ran.code == 1
    first, second = ran.json["files"]
    assert (first["kind"], first["ok"], first["summary"]) == ("router", False, "")
    (problem,) = first["problems"]
    assert problem == {
        "severity": "error",
        "text": 'unknown key "strategey"',
        "file": str(bad),
        "line": 1,
        "column": 1,
        "effect": "",
        "fix": 'did you mean "strategy"?',
        "path": ["strategey"],
    }
    assert second["ok"] and second["summary"] and second["problems"] == []


async def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path, capsys: Capture) -> None:
    ran = await creche(capsys, "config", "check", str(tmp_path / "router.toml"))
    assert ran.code == 1
    assert "the file cannot be read: No such file or directory" in ran.out


async def test_a_file_of_nobody_wants_its_kind(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "new.toml").write_text("")
    ran = await creche(capsys, "config", "check", str(tmp_path / "new.toml"))
    assert ran.code == 64
    assert ran.end is not None and "--kind router" in ran.end.fix


async def test_live_warns_of_what_nobody_lists_now_and_changes_no_status(
    router: StandIn, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "router.toml"
    file.write_text('expect = ["qwen3-coder", "llama-70b"]\n')
    coder = service("coder@gpu-01", [], metadata={"type": "openai-api", "models": ["qwen3-coder"]})
    router.answers["/services"] = (200, {"services": [coder], "total": 1, "registry_url": ""})
    ran = await creche(capsys, "config", "check", str(file), "--live", url=router.url)
    assert ran.code == 0
    assert 'warning: no fit engine has "llama-70b" now' in ran.out
    assert f"{file}:1:26" in ran.out
    assert '"qwen3-coder" now' not in ran.out
    assert "\nok   " in ran.out
    assert "compared with what the router knows now: 1 registered service\n" in ran.out
    assert "not checked: whether engines are up" not in ran.out


async def test_live_without_a_router_checks_the_file_all_the_same(
    tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "router.toml"
    file.write_text("")
    ran = await creche(capsys, "config", "check", str(file), "--live")
    assert ran.code == 0
    assert "not compared with the fleet: nothing answers at http://127.0.0.1:1" in ran.err
