"""What is logged, in which order, and never a secret."""

import io
import json
import logging
from typing import Any

import pytest

from common import logs
from common.redact import SECRETS

pytestmark = pytest.mark.usefixtures("restored_logging")
TOKEN = "Zq7-cluster-token-value"


@pytest.fixture(autouse=True)
def known() -> None:
    SECRETS.add(TOKEN)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def set_up(form: str = "json", level: str = "info") -> io.StringIO:
    out = io.StringIO()
    logs.set_up("registry", form=form, level=level, stream=out)
    return out


def test_a_line_is_flat_json_in_a_stable_order_without_nulls() -> None:
    out = set_up()
    logs.get("table").info("service gone", service="a@b", after_s=1.5, cause=None)
    assert list(lines(out)[0]) == ["ts", "level", "daemon", "logger", "event", "service", "after_s"]
    assert lines(out)[0]["ts"].endswith("Z")


def test_libraries_come_in_the_same_form() -> None:
    out = set_up()
    logging.getLogger("some.library").warning("odd: %s", "x")
    logging.getLogger("aiohttp.client").info("chatter")
    [line] = lines(out)
    assert (line["logger"], line["event"], line["level"]) == ("some.library", "odd: x", "warning")


def test_levels_are_obeyed() -> None:
    out = set_up(level="warning")
    logs.get("x").info("no")
    logs.get("x").warning("yes")
    assert [one["event"] for one in lines(out)] == ["yes"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_known_secret_is_hidden_wherever_it_stands(form: str) -> None:
    out = set_up(form)
    log = logs.get("x")
    log.info(f"in the event {TOKEN}")
    log.info("in fields", url=f"http://h/?t={TOKEN}", nested={"a": [TOKEN, {TOKEN: 1}]})
    log.info("in bytes", body=TOKEN.encode(), error=ValueError(TOKEN))
    logging.getLogger("library").error("%r", {"k": TOKEN})
    try:
        raise ValueError(f"bad header {TOKEN}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    assert TOKEN not in out.getvalue()
    assert out.getvalue().count("[hidden]") >= 8
    assert "Traceback" in out.getvalue()


def test_a_field_with_a_secrets_name_is_hidden_whatever_it_holds() -> None:
    out = set_up()
    logs.get("x").info("y", api_key="short pass", token="abcdefghij", tokens_in=812, key="ana")
    [line] = lines(out)
    assert line["token"] == "[hidden]"
    assert "short" not in out.getvalue()
    assert (line["tokens_in"], line["key"]) == (812, "ana")


def test_a_secret_with_quotes_does_not_break_the_json() -> None:
    out = set_up()
    SECRETS.add('a"b\\c"defgh')
    logs.get("x").info('see a"b\\c"defgh', y='a"b\\c"defgh')
    assert lines(out)[0]["y"] == "[hidden]"


def test_on_a_terminal_the_short_form_is_used() -> None:
    out = set_up("text")
    logs.get("table").warning("lapsed", service="a@b")
    assert out.getvalue()[8:] == " ! table: lapsed  service=a@b\n"


def test_what_cannot_be_encoded_is_still_logged() -> None:
    out = set_up()
    logs.get("x").info("odd", value=object(), path=io.StringIO, set={1}, nan=float("nan"))
    assert lines(out)[0]["event"] == "odd"


@pytest.mark.parametrize("form", ["json", "text"])
def test_bytes_that_were_no_text_are_shown_and_leak_nothing(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = set_up(form)
    logs.get("http").error("failed", path="/\udcff/é", note=f"{TOKEN} \udcff")
    said = out.getvalue()
    assert "/\\udcff/é" in said.replace("\\\\", "\\")
    assert TOKEN not in said + capsys.readouterr().err


def test_a_line_that_cannot_be_formed_is_named_and_leaks_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = set_up()
    form = "%s %s"
    logging.getLogger("library").warning(form, TOKEN)
    assert out.getvalue() == "a line of the logger library could not be written: TypeError\n"
    assert capsys.readouterr().err == ""
