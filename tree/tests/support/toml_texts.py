"""Valid TOML texts in every style that the format has, for Hypothesis."""

import json
from typing import Any

import tomlkit
from hypothesis import strategies as st

_BARE = st.text("abcxyzABC019_-", min_size=1, max_size=6)
_WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8
)  # no control characters: each needs an escape of its own
_SPACE = st.sampled_from(["", " ", "  ", "\t"])
_NOTHING = st.sampled_from(["", "\n", "# a note = [x]\n", "   \n", "\t# ]\n"])
_SCALARS = st.one_of(
    st.integers(-99, 99).map(str),
    st.sampled_from(
        ["true", "false", "0x1F", "1_000", "-0.5", "6.0e-3", "+inf", "nan", "1979-05-27",
         "07:32:00", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5-07:00", "1979-05-27 07:32:00"]
    ),
    _WORD.map(lambda text: json.dumps(text, ensure_ascii=False).replace("\x7f", "")),
    st.text("abc =#[]{}.,\"\\", max_size=8).map(lambda text: f"'{text}'"),
    st.text("ab \n'=#[]{}.,", max_size=12).map(lambda text: f'"""{text}"""'),
    st.text('ab \n"=#[]{}.,\\', max_size=12)
    .filter(lambda text: '"""' not in text)
    .map(lambda text: f"'''{text}'''"),
    st.sampled_from(['"""a\\\n   b"""', '"""x"""""', "'''y'''''", '"\\u00e9\\n\\""']),
)  # fmt: skip


@st.composite
def toml_texts(draw: st.DrawFn) -> str:
    """A whole text: pairs, dotted keys, inline tables, arrays, headers, arrays of tables."""
    text = "".join(_table(draw, (), draw(st.integers(0, 3))))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return text if draw(st.booleans()) else text.rstrip("\r\n")


def _table(draw: st.DrawFn, at: tuple[str, ...], depth: int) -> list[str]:
    """The body of a table, then its sub-tables under headers of their own."""
    keys = draw(st.lists(st.one_of(_BARE, _WORD), max_size=4, unique=True))
    body: list[str] = []
    after: list[str] = []
    for key in keys:
        style = draw(st.sampled_from(["pair", "dotted", "header", "tables"])) if depth else "pair"
        if style == "pair":
            body.append(_line(draw, _key(draw, key), _value(draw, depth)))
        elif style == "dotted":
            for inner in draw(st.lists(_BARE, min_size=1, max_size=3, unique=True)):
                dot = draw(_SPACE) + "." + draw(_SPACE)
                name = _key(draw, key) + dot + _key(draw, inner)
                body.append(_line(draw, name, _value(draw, depth - 1)))
        elif style == "header":
            after += _header(draw, (*at, key), "[", "]", depth)
        else:
            for _ in range(draw(st.integers(1, 2))):
                after += _header(draw, (*at, key), "[[", "]]", depth)
    return body + after


def _header(
    draw: st.DrawFn, at: tuple[str, ...], opening: str, closing: str, depth: int
) -> list[str]:
    space = draw(_SPACE)
    name = f"{space}.{space}".join(_key(draw, one) for one in at)
    end = draw(st.sampled_from(["\n", "  # ]]\n"]))
    head = f"{draw(_SPACE)}{opening}{space}{name}{space}{closing}{end}"
    return [draw(_NOTHING), head, *_table(draw, at, depth - 1)]


def _line(draw: st.DrawFn, key: str, value: str) -> str:
    end = draw(st.sampled_from(["\n", " # = note\n", "\t\n"]))
    before = draw(_NOTHING) + draw(_SPACE)
    return f"{before}{key}{draw(_SPACE)}={draw(_SPACE)}{value}{end}"


def _key(draw: st.DrawFn, name: str) -> str:
    if (
        name
        and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
        and draw(st.booleans())
    ):
        return name
    if "'" not in name and "\t" not in name and draw(st.booleans()):
        return f"'{name}'"
    return tomlkit.item(name).as_string()


def _value(draw: st.DrawFn, depth: int) -> str:
    style = draw(st.sampled_from(["scalar", "scalar", "array", "inline"])) if depth else "scalar"
    if style == "scalar":
        return draw(_SCALARS)
    if style == "array":
        gap = st.sampled_from(["", " ", "\n", " # a , note\n  "])
        items = [_value(draw, depth - 1) for _ in range(draw(st.integers(0, 3)))]
        inner = ",".join(f"{draw(gap)}{item}{draw(gap)}" for item in items)
        tail = "," if items and draw(st.booleans()) else ""
        return f"[{inner}{tail}{draw(gap)}]"
    keys = draw(st.lists(st.one_of(_BARE, _WORD), max_size=3, unique=True))
    pairs = [f"{_key(draw, key)} = {_value(draw, depth - 1)}" for key in keys]
    return "{" + draw(_SPACE) + ", ".join(pairs) + draw(_SPACE) + "}"


def dumps(data: dict[str, Any]) -> str:
    """A configuration for a test, as TOML."""
    return tomlkit.dumps(data)
