"""`creche config show|versions|reload|rollback`: what the router says, in words."""

import msgspec
import pytest

from common.clock import parse_wire_time
from common.wire.router import ConfigVersion, RouterConfig
from ctl.config import show, versions
from tests.ctl.standin import StandIn, creche
from tests.ctl.test_change import RELOADED, in_force

Capture = pytest.CaptureFixture[str]
NOW = parse_wire_time("2026-01-31T12:14:00.000000+00:00")


def test_show_tells_the_file_and_what_is_odd_about_it() -> None:
    now = msgspec.convert(
        in_force(
            "/etc/creche/router.toml",
            file_differs=True,
            needs_restart=["listen"],
            undo_until="2026-01-31T12:14:20+00:00",
            message="the last reload was refused\n1 error",
        ),
        RouterConfig,
    )
    assert show.lines(now, NOW) == [
        "/etc/creche/router.toml   version 3   0123456789abcdef   by start, 14 min ago",
        "! the file says something else by now   creche config reload",
        "! only a restart brings into force   listen",
        "· the last reload may still undo itself, for 20 s",
        "! the last reload was refused",
        "  1 error",
    ]


def test_a_router_without_a_file_says_so() -> None:
    now = msgspec.convert(in_force(None, version=None), RouterConfig)
    assert show.lines(now, NOW) == [
        "no file: every default   not kept as a version   0123456789abcdef   by start, 14 min ago"
    ]


def test_versions_mark_the_one_in_force_and_those_rolled_back_from() -> None:
    kept = [
        ConfigVersion(version=4, kept_at="2026-01-31T12:12:00+00:00", digest="bb", rejected=True),
        ConfigVersion(version=3, kept_at="2026-01-31T12:00:00+00:00", digest="aa", in_force=True),
    ]
    assert versions.lines(kept, NOW) == [
        "   VERSION        KEPT  DIGEST",
        "         4   2 min ago  bb      rolled back from",
        "▶        3  14 min ago  aa      in force",
    ]
    assert versions.lines([], NOW) == ["No version is kept yet."]


async def test_a_refused_reload_is_told_as_check_tells_it(router: StandIn, capsys: Capture) -> None:
    problem = {"severity": "error", "text": 'unknown key "strategey"'}
    router.answers["/admin/reload"] = (
        400,
        {
            "error": "the file has errors; nothing has changed",
            "problems": [problem],
            "report": 'error: unknown key "strategey"\n\n1 error, 0 warnings.',
        },
    )
    ran = await creche(capsys, "config", "reload", url=router.url)
    assert (ran.code, ran.end) == (1, None)
    assert ran.out == (
        'error: unknown key "strategey"\n\n1 error, 0 warnings.\n\n'
        "✗ the file has errors; nothing has changed\n"
    )
    told = await creche(capsys, "config", "reload", "--json", url=router.url)
    assert told.code == 1
    assert told.json["problems"] == [problem]


async def test_a_reload_tells_what_is_other_now_and_what_waits(
    router: StandIn, capsys: Capture
) -> None:
    more = {"needs_restart": ["listen"], "notes": ["not kept: disk full"], "undo_after_s": 0}
    router.answers["/admin/reload"] = (200, {**RELOADED, **more})
    ran = await creche(capsys, "config", "reload", url=router.url)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "✓ reloaded   version 4",
        "    changed   strategy",
        "  ! only a restart changes   listen",
        "  ! not kept: disk full",
    ]


async def test_a_reload_that_changed_nothing_says_that_alone(
    router: StandIn, capsys: Capture
) -> None:
    router.answers["/admin/reload"] = (200, {**RELOADED, "changed": [], "undo_after_s": 0})
    ran = await creche(capsys, "config", "reload", url=router.url)
    assert ran.out.splitlines() == ["✓ reloaded   version 4", "    nothing changed"]


@pytest.mark.parametrize(("words", "body"), [((), b"{}"), (("12",), b'{"version": 12}')])
async def test_a_rollback_goes_to_the_one_before_or_to_a_number(
    words: tuple[str, ...], body: bytes, router: StandIn, capsys: Capture
) -> None:
    answer = {
        **RELOADED,
        "status": "rolled back",
        "version": 12,
        "undo_after_s": 0,
        "file_written": True,
        "rejected_file": "/etc/creche/router.toml.rejected-1",
    }
    router.answers["/admin/rollback"] = (200, answer)
    ran = await creche(capsys, "config", "rollback", *words, url=router.url)
    assert ran.code == 0
    assert router.asked[0][3] == body
    assert "✓ rolled back to version 12\n" in ran.out
    assert "the file before is kept as   /etc/creche/router.toml.rejected-1" in ran.out


async def test_a_port_without_the_operators_paths_is_told(router: StandIn, capsys: Capture) -> None:
    for words in (("show",), ("reload",), ("rollback",), ("versions",)):
        ran = await creche(capsys, "config", *words, url=router.url)
        assert ran.code == 1
        assert ran.end is not None and ran.end.what == f"{router.url} has no operator's paths"


async def test_the_token_is_asked_for(router: StandIn, capsys: Capture) -> None:
    router.answers["/admin/config"] = (401, {"error": "a valid token is wanted"})
    ran = await creche(capsys, "config", "show", url=router.url)
    assert ran.end is not None and ran.end.what.endswith("wants the cluster token")


async def test_nobody_there_is_2(capsys: Capture) -> None:
    assert (await creche(capsys, "config", "reload")).code == 2
