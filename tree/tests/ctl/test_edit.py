"""Editing TOML: what was asked for is there, everything else stands as it stood. Pure."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.positions import positions
from ctl import edit
from ctl.edit import EditError
from tests.support.toml_texts import toml_texts

CONFIGS = Path(__file__).parents[2] / "configs"
FILE = """\
# the whole fleet
listen = "127.0.0.1:8000"   # for clients
strategy = "prefix"

# before the first byte
[retry]  # of a request
attempts_max = 6   # in all

# clouds
[providers.openai]
type = "openai"
base_url = "https://api.openai.com/v1"

# patience
[timeouts]
connect_s = 1

[providers.lab]  # the second
type = "vllm"

[[rules]]
name = "a"
when = { stream = true }

# the other rule
[[rules]]
name = "b"
"""


def changed(key: str, value: Any, text: str = FILE) -> list[str]:
    """The lines that differ, as a diff marks them."""
    return marked(text, edit.put(text, edit.path_of(key), value))


def marked(before: str, after: str) -> list[str]:
    diff = difflib.ndiff(before.splitlines(), after.splitlines())
    return [f"{line[0]}{line[2:]}" for line in diff if line[0] in "+-"]


def test_a_value_is_replaced_and_its_comment_stays() -> None:
    assert changed("listen", "0.0.0.0:8000") == [
        '-listen = "127.0.0.1:8000"   # for clients',
        '+listen = "0.0.0.0:8000"   # for clients',
    ]
    assert changed("retry.attempts_max", 4) == [
        "-attempts_max = 6   # in all",
        "+attempts_max = 4   # in all",
    ]


@pytest.mark.parametrize(
    ("key", "value", "after", "lines"),
    [
        ("expect", ["a"], 'strategy = "prefix"', ['expect = ["a"]']),
        ("retry.rest_s", 9, "attempts_max = 6   # in all", ["rest_s = 9"]),
        (
            "providers.openai.status",
            "disabled",
            'base_url = "https://api.openai.com/v1"',
            ['status = "disabled"'],
        ),
        ("rules.0.model", "m", "when = { stream = true }", ['model = "m"']),
        ("rules.1.model", "m", 'name = "b"', ['model = "m"']),
        (
            "providers.new.type",
            "vllm",
            'type = "vllm"',
            ["", "[providers.new]", 'type = "vllm"'],
        ),
        (
            "providers.openai.limits.rpm",
            60,
            'base_url = "https://api.openai.com/v1"',
            ["", "[providers.openai.limits]", "rpm = 60"],
        ),
        (
            'models."gpt-4.1".targets',
            {"a b": 1},
            'name = "b"',
            ["", '[models."gpt-4.1"]', 'targets = { "a b" = 1 }'],
        ),
        ("rules.1.when.stream", True, 'name = "b"', ["", "[rules.when]", "stream = true"]),
    ],
)
def test_a_new_key_follows_the_last_of_its_table_not_the_next_ones_comment(
    key: str, value: Any, after: str, lines: list[str]
) -> None:
    got = edit.put(FILE, edit.path_of(key), value).splitlines()
    begin = next(at for at in range(len(got)) if got[at : at + len(lines)] == lines)
    assert got[begin - 1] == after
    assert got[:begin] + got[begin + len(lines) :] == FILE.splitlines()


def test_a_new_key_of_the_file_goes_above_the_first_table() -> None:
    assert edit.put("", ("a",), 1) == "a = 1\n"
    assert edit.put("# note\n\n# of x\n[x]\n", ("a",), 1) == "# note\n\na = 1\n\n# of x\n[x]\n"
    assert edit.put("[x]", ("a",), 1) == "a = 1\n\n[x]\n"


def test_tables_on_one_line_and_dotted_keys_are_kept_as_they_are() -> None:
    one_line = 'a = { b = { c = "x" } }  # why\n'
    assert edit.put(one_line, ("a", "b", "c"), "y") == 'a = { b = { c = "y" } }  # why\n'
    assert tomllib.loads(edit.put(one_line, ("a", "d"), 1))["a"]["d"] == 1
    dotted = 'a.b = "x"\n'
    assert edit.put(dotted, ("a", "c"), 1) == 'a.b = "x"\na.c = 1\n'


def test_an_item_of_a_list_over_several_lines_is_replaced_alone() -> None:
    text = 'expect = [\n  "a",  # the first\n  "b",\n]\nx = 1\n'
    assert edit.put(text, ("expect", 1), "c") == text.replace('"b"', '"c"')
    assert edit.put(text, ("y",), 2) == text + "y = 2\n"


def test_windows_line_ends_stay() -> None:
    assert edit.put("a = 1\r\n[x]\r\nb = 1\r\n", ("x", "c"), 2) == (
        "a = 1\r\n[x]\r\nb = 1\r\nc = 2\r\n"
    )


def test_a_key_is_removed_and_what_heads_the_next_table_stays() -> None:
    def dropped(key: str) -> list[str]:
        return marked(FILE, edit.drop(FILE, edit.path_of(key)))

    assert dropped("strategy") == ['-strategy = "prefix"']
    assert dropped("providers.openai") == [
        "-[providers.openai]",
        '-type = "openai"',
        '-base_url = "https://api.openai.com/v1"',
    ]
    assert dropped("rules.0") == ["-[[rules]]", '-name = "a"', "-when = { stream = true }", "-"]
    assert dropped("rules.0.when") == ["-when = { stream = true }"]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: edit.put(FILE, ("listen", "x"), 1), "listen is a value, no table: it has no x"),
        (lambda: edit.put(FILE, ("rules", "x"), 1), "rules is a list: name its item, as  rules.0"),
        (lambda: edit.put(FILE, ("rules", "7", "a"), 1), "rules has no item 7"),
        (lambda: edit.drop(FILE, ("nothing",)), "nothing is not set in this file"),
        (lambda: edit.path_of("two words"), "'two words' is no key"),
        (lambda: edit.path_of("a..b"), "'a..b' is no key"),
        (lambda: edit.path_of("a = 1\nb"), "is no key"),
        (lambda: edit.path_of("a = 1 #"), "is no key"),
    ],
)
def test_what_cannot_be_is_said(act: Any, said: str) -> None:
    with pytest.raises(EditError) as caught:
        act()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("0.5", 0.5),
        ("true", True),
        ('"4"', "4"),
        ("prefix", "prefix"),
        ("10.0.0.5:8000", "10.0.0.5:8000"),
        ('["a", "b"]', ["a", "b"]),
        ("{ a = 9, b = 1 }", {"a": 9, "b": 1}),
        ("2026-01-31", "2026-01-31"),
        ("1\nother = 2", "1\nother = 2"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("", ""),
    ],
)
def test_a_value_is_toml_and_a_bare_word_a_text(text: str, value: Any) -> None:
    assert edit.value_of(text) == value


@pytest.mark.parametrize("name", ["router", "registry", "babysitter"])
def test_in_our_own_files_setting_a_value_touches_its_line_alone(name: str) -> None:
    text = (CONFIGS / f"{name}.toml").read_text()
    for path in positions(text):
        value = edit.get(text, path)
        if isinstance(value, (dict, list)) or any(isinstance(part, int) for part in path):
            continue
        after = edit.put(text, path, "another")
        assert len(marked(text, after)) == 2, path


def test_a_value_in_the_place_of_a_table_of_an_array_is_refused() -> None:
    with pytest.raises(EditError):
        edit.put('[["0000"]]\n', ("0000", 0), 41)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60, deadline=None)
@given(toml_texts(), st.data())
def test_whatever_the_file_the_result_says_what_was_asked_for_or_nothing_is_done(
    text: str, data: st.DataObject
) -> None:
    known = [path for path in positions(text) if path]
    path = data.draw(st.sampled_from([*known, ("new",)]))
    extra = data.draw(st.sampled_from([(), ("fresh",)]))
    try:
        after = edit.put(text, (*path, *extra), 41)
    except EditError:
        return
    assert edit.get(after, (*path, *extra)) == 41
    for comment in ("# a note = [x]", "# ]]", "# = note"):
        if extra:
            assert after.count(comment) >= text.count(comment)
