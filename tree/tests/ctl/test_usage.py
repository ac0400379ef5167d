"""What `creche` says to words that it does not know. Pure."""

import pytest

from ctl.__main__ import VERBS, parser
from ctl.client import _mistaken


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(argv)
    assert caught.value.code == 64
    return capsys.readouterr().err


def test_a_mistyped_verb_is_told_the_nearest_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "statu").splitlines() == [
        '✗ "statu" is no verb',
        "    did you mean  status?",
        f"    one of:  {'  '.join(VERBS)}",
        "    All of it:  creche --help",
    ]


def test_without_a_verb_all_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys)
    assert text.startswith("✗ a verb is wanted\n    one of:  status  ")


@pytest.mark.parametrize(
    ("argv", "said", "help_"),
    [
        (("services", "--nope"), "unknown here: --nope", "creche services --help"),
        (("engine", "boil", "x"), '"boil" is no action', "creche engine --help"),
        (("engine", "kill"), "NAME[@HOST] is wanted", "creche engine --help"),
        (("wait", "x", "--timeout", "soon"), "--timeout cannot be 'soon'", "creche wait --help"),
        (("chat", "--max-tokens"), "expected one argument", "creche chat --help"),
        (("config",), "a verb is wanted", "creche config --help"),
        (("config", "chek"), '"chek" is no verb', "creche config --help"),
        (("config", "check"), "FILE is wanted", "creche config check --help"),
        (("config", "check", "f", "--nope"), "unknown here: --nope", "creche config check --help"),
        (("config", "import", "nginx", "f"), '"nginx" is no source', "creche config import --help"),
        (("config", "rollback", "x"), "VERSION cannot be 'x'", "creche config rollback --help"),
        (("provider", "add", "x"), "--type, --base-url is wanted", "creche provider add --help"),
    ],
)
def test_wrong_words_after_a_verb_name_that_verbs_help(
    argv: tuple[str, ...], said: str, help_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(capsys, *argv)
    assert said in text.splitlines()[0]
    assert text.endswith(f"All of it:  {help_}\n")
    assert "usage:" not in text


def test_without_a_verb_of_its_own_a_verb_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "provider").splitlines() == [
        "✗ a verb is wanted",
        "    one of:  list  enable  disable  add",
        "    All of it:  creche provider --help",
    ]


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in VERBS),
        *([name, own] for name in VERBS for own in getattr(VERBS[name], "VERBS", ())),
    ],
    ids=" ".join,
)
def test_every_verb_has_help_with_examples_of_itself(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args([*words, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"creche {' '.join(words)}" in text.partition("Examples:\n")[2]


def test_only_the_modules_of_the_verb_that_is_meant_are_read() -> None:
    assert parser(["status"]).parse_args(["status"]).run is VERBS["status"].run
    assert parser(["config", "show"]).parse_args(["config", "show"]).verb == "show"


@pytest.mark.parametrize(
    ("body", "who"),
    [
        (b'{"status":"running","registered_services":2,"healthy_services":2}', "a registry"),
        (b'{"status":"running","service":"b","engines":{}}', "a babysitter"),
        (b"<html>", "no JSON"),
        (b"[1]", "not of the shape"),
    ],
)
def test_another_daemon_at_the_routers_address_is_named(body: bytes, who: str) -> None:
    assert who in _mistaken(body)
