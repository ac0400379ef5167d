import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import edit
from router.edit import Edit
from router.envelope import FormReader, read_form, read_json, read_query
from router.errors import RequestError


def applied(body: bytes, edit: Edit | None) -> bytes:
    assert edit is not None
    return body[: edit.start] + edit.text + body[edit.stop :]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just('"model":"x"'),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "a", 'b"', "é\\"]) | st.text(), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=8), VALUES, max_size=5),
    st.integers(0, 5),
    NAMES,
    NAMES,
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_only_the_models_value_changes(
    rest: dict[str, object],
    at: int,
    model: str,
    name: str,
    ascii: bool,
    indent: int | str | None,
    measure: bool,
) -> None:
    rest.pop("model", None)
    items = list(rest.items())
    items.insert(at, ("model", model))
    before = json.dumps(dict(items), ensure_ascii=ascii, indent=indent).encode()
    found = read_json(before, measure=measure).edit(name)
    after = applied(before, found)
    assert json.loads(after) == {**dict(items), "model": name}
    assert found is not None
    old = before[found.start : found.stop]
    assert json.loads(old) == model
    assert after[: found.start] == before[: found.start]
    assert after[found.start + len(found.text) :] == before[found.stop :]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"model":"a"}', b'"a"'),
        (b' \n{ "x": 1 ,\t"model"\r\n: "a" }', b'"a"'),
        (b'{"x": {"model": "b"}, "model": "a"}', b'"a"'),
        (b'{"model": "a", "x": {"model": "b"}}', b'"a"'),
        (b'{"x": "\\"model\\": \\"b\\"", "model": "a"}', b'"a"'),
        (b'{"x": "model", "model": "a", "y": "model"}', b'"a"'),
        (b'{"mode\\u006c": "a"}', b'"a"'),
        (b'{"model": "q\\"u\\\\"}', b'"q\\"u\\\\"'),
        ('{"é": "é", "x": {"model": 1}, "model": "ü"}'.encode(), '"ü"'.encode()),
        (b'{"n": ' + b"1" * 5_000 + b', "x": ["model"], "model": "a"}', b'"a"'),
    ],
)
def test_the_place_of_a_model(body: bytes, value: bytes) -> None:
    found = read_json(body).edit("new")
    assert found is not None
    assert body[found.start : found.stop] == value
    assert found.text == b'"new"'


@pytest.mark.parametrize("value", [b"null", b'""'])
def test_a_model_left_empty_can_be_filled_in(value: bytes) -> None:
    body = b'{"x": {"model": "b"}, "model": ' + value + b"}"
    assert json.loads(applied(body, read_json(body).edit("m")))["model"] == "m"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"{}",
        b"[]",
        b'"model"',
        b'{"x": {"model": "b"}}',
        b'{"x": "model"}',
        b'{"model',
        b'{"model": ',
        b'{"x" 1, "model": "a"',
        b'["model", {"model": "a"}]',
        b"\xff\xfe",
    ],
)
def test_what_names_no_model_has_no_place_for_one(body: bytes) -> None:
    assert read_json(body).edit("m") is None
    assert read_json(body, measure=True).edit("m") is None


def test_endless_keys_are_not_searched() -> None:
    keys = b"".join(b'"k%d":[],' % n for n in range(edit.KEYS_MAX))
    assert read_json(b"{" + keys + b'"x":{"model":1},"model":"a"}').edit("m") is None


def test_endless_nesting_in_a_body_has_no_place() -> None:
    assert edit.in_json(b'{"a": ' + b"[" * 200_000, named=False) is None


BOUNDARY = b"xyz"


def form(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        b"--xyz\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + value + b"\r\n"
        for head, value in parts
    )
    return body + b"--xyz--\r\n"


FILE = (b'name="file"; filename="a.wav"\r\nContent-Type: audio/wav', b"\x00\r\n--xy" * 50 + b"\r")
#: What a value may end or begin with that looks like a boundary for a while.
TRICKY = st.text(st.sampled_from("xyz\r\n-a"), min_size=1, max_size=12)


@given(TRICKY, NAMES, st.booleans(), st.lists(st.integers(1, 40), max_size=80))
def test_a_forms_model_is_replaced_however_the_form_is_split(
    model: str, name: str, file_first: bool, sizes: list[int]
) -> None:
    if "--xyz" in model:
        model = "m"
    parts = [(b'name="model"\r\nX-Empty:', model.encode()), FILE, (b'name="x"', b"model")]
    before = form(*(parts[::-1] if file_first else parts))
    reader = FormReader(BOUNDARY)
    at = 0
    for size in sizes:
        reader.feed(before[at : at + size])
        at += size
    reader.feed(before[at:])
    envelope = reader.finish()
    assert envelope.model == model
    found = envelope.edit(name)
    assert found is not None
    assert before[found.start : found.stop] == model.encode()
    assert found.text == name.encode()


def test_a_form_without_a_model_has_no_place_for_one() -> None:
    assert read_form(form(FILE), BOUNDARY).edit("m") is None
    assert read_form(form((b'name="model"', b"")), BOUNDARY).edit("m") is None
    assert read_form(form((b'name="model"; filename="x"', b"m")), BOUNDARY).edit("m") is None


@given(NAMES, st.sampled_from(["", "a=1&", "modelx=1&model=&", "&&x=model&"]))
def test_a_querys_model_is_replaced(name: str, before: str) -> None:
    query = before + "model=a%2Fb+c&z=1"
    envelope = read_query(query)
    assert envelope.model == "a/b c"
    after = applied(query.encode(), envelope.edit(name))
    assert dict(parse_qsl(after.decode())) == {**dict(parse_qsl(query)), "model": name}
    assert after.isascii()


def test_two_models_have_no_place_because_they_are_refused() -> None:
    with pytest.raises(RequestError):
        read_json(b'{"model": "a", "model": "b"}', measure=True)
