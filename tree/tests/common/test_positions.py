"""Positions agree with tomllib on every key path, and point at what they say."""

import tomllib
from datetime import date, datetime, time
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.positions import Path, Position, positions
from tests.support.toml_texts import toml_texts

ROOT = FilePath(__file__).resolve().parents[2]


def paths(value: Any, at: Path = ()) -> set[Path]:
    """Every key path and array index of what tomllib read."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = {(*at, key) for key, _ in items}
    return found.union(*(paths(item, (*at, key)) for key, item in items))


def get(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def check(text: str) -> dict[Path, Position]:
    """Agrees with tomllib on the paths; spans of keys and one-line values read back as such."""
    data = tomllib.loads(text)
    found = positions(text)
    assert set(found) == paths(data)
    lines = text.replace("\r\n", "\n").split("\n")
    for path, position in found.items():
        key, value = position.key, position.value
        assert key.length > 0 and value.length > 0
        key_text = lines[key.line - 1][key.column - 1 : key.column - 1 + key.length]
        value_text = lines[value.line - 1][value.column - 1 : value.column - 1 + value.length]
        if isinstance(path[-1], str):
            assert list(tomllib.loads(f"{key_text} = 1")) == [path[-1]]
        expected = get(data, path)
        if isinstance(expected, (bool, int, float, date, datetime, time)):
            assert repr(tomllib.loads(f"x = {value_text}")["x"]) == repr(expected)
        if isinstance(expected, str) and not value_text.startswith(('"""', "'''")):
            assert tomllib.loads(f"x = {value_text}")["x"] == expected
    return found


@given(toml_texts())
def test_every_generated_text_agrees_with_tomllib(text: str) -> None:
    check(text)


@given(st.data())
def test_a_parent_comes_before_its_children(data: st.DataObject) -> None:
    order = list(positions(data.draw(toml_texts())))
    for index, path in enumerate(order):
        assert path[:-1] == () or path[:-1] in order[:index]


def real_files() -> list[FilePath]:
    ours = [one for one in ROOT.rglob("*.toml") if not set(one.parts) & {".venv", "node_modules"}]
    theirs = list((ROOT / ".venv/lib").rglob("*.toml"))
    return sorted(ours) + sorted(theirs)


@pytest.mark.parametrize("path", real_files(), ids=lambda one: str(one.relative_to(ROOT)))
def test_real_files_agree_with_tomllib(path: FilePath) -> None:
    text = path.read_bytes().decode()
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert "busted" in path.name, f"{path} is not TOML"
        return
    check(text)


def at(found: dict[Path, Position], *path: str | int) -> tuple[int, int, int]:
    position = found[path]
    return position.line, position.column, position.length


def value_at(found: dict[Path, Position], *path: str | int) -> tuple[int, int, int]:
    value = found[path].value
    return value.line, value.column, value.length


def test_keys_and_values_of_a_table() -> None:
    found = check("# a comment\n[retry]\n  budget_percent = 20  # of requests\n")
    assert at(found, "retry") == (2, 2, 5)
    assert at(found, "retry", "budget_percent") == (3, 3, 14)
    assert value_at(found, "retry", "budget_percent") == (3, 20, 2)


def test_dotted_keys_and_inline_tables() -> None:
    found = check("a.b = { c = [1, 22], 'd e' = \"}\" }")
    assert at(found, "a") == (1, 1, 1)
    assert at(found, "a", "b") == (1, 3, 1)
    assert value_at(found, "a", "b") == (1, 7, 28)
    assert at(found, "a", "b", "c") == (1, 9, 1)
    assert at(found, "a", "b", "c", 1) == (1, 17, 2)
    assert at(found, "a", "b", "d e") == (1, 22, 5)


def test_arrays_of_tables_count_and_their_subtables_belong_to_the_latest() -> None:
    found = check("[[e]]\nn = 1\n[[e]]\nn = 2\n[e.env]\nX = ''\n[[e.gpu]]\n[[e.gpu]]\nid = 3\n")
    assert at(found, "e") == (1, 3, 1)
    assert at(found, "e", 1) == (3, 3, 1)
    assert at(found, "e", 1, "n") == (4, 1, 1)
    assert at(found, "e", 1, "env", "X") == (6, 1, 1)
    assert at(found, "e", 1, "gpu", 1, "id") == (9, 1, 2)


def test_a_header_may_stand_before_its_parent() -> None:
    found = check("[a.b.c]\n[a]\nx = 1\n[a.b]\ny = 2\n")
    assert at(found, "a") == (1, 2, 1)
    assert at(found, "a", "x") == (3, 1, 1)
    assert at(found, "a", "b", "y") == (5, 1, 1)


def test_strings_do_not_confuse_it() -> None:
    found = check(
        'a = """\n[x]\n"quoted"" \\""" = # no comment\n"""""\n'
        "b = '''\n]\\''''\n"
        'c = "\\"#"\n'
        "d = '\\'\n"
    )
    assert at(found, "b") == (5, 1, 1)
    assert at(found, "c") == (7, 1, 1)
    assert value_at(found, "d") == (8, 5, 3)
    assert value_at(found, "a") == (1, 5, 3)


def test_dates_with_a_space_are_one_value() -> None:
    found = check("a = 1979-05-27 07:32:00Z # x\nb = [1979-05-27 07:32:00, 1979-05-27]\n")
    assert value_at(found, "a") == (1, 5, 20)
    assert value_at(found, "b", 1) == (2, 27, 10)


def test_columns_count_characters_and_crlf_is_no_character() -> None:
    found = check('"ключ" = "é"\r\nx = 1\r\n')
    assert at(found, "ключ") == (1, 1, 6)
    assert value_at(found, "ключ") == (1, 10, 3)
    assert value_at(found, "x") == (2, 5, 1)


def test_arrays_over_several_lines() -> None:
    found = check('a = [ # one\n  "x", # two\n\n  [ "y",\n  ],\n]\nb = 1')
    assert value_at(found, "a") == (1, 5, 7)
    assert value_at(found, "a", 0) == (2, 3, 3)
    assert value_at(found, "a", 1, 0) == (4, 5, 3)
    assert at(found, "b") == (7, 1, 1)


def test_an_empty_text_has_none() -> None:
    assert positions("") == {}
    assert positions("# only words\n") == {}
