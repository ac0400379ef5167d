"""Model lists in the shapes that engines give them."""

import json

import pytest

from babysitter.models import named, names, parse, same


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        [{"id": "a"}, {"name": "b"}],
        ["a", "b"],
        {"models": [{"name": "a"}, {"model": "b"}]},
        {"data": [{"id": "a", "aliases": ["a", "b", 7, ""]}]},
        {"data": [{"id": "a", "aliases": None}, {"id": "b", "aliases": {}}]},
        {"data": [{"id": "a"}, {"id": ""}, 7, {"id": "b"}, {"id": "a"}]},
    ],
)
def test_the_shapes(body: object) -> None:
    models = parse(json.dumps(body).encode())
    assert models is not None
    assert names(models) == ["a", "b"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'"a"', b"\xff\xff", b"[" * 100_000])
def test_what_is_no_list(body: bytes) -> None:
    assert parse(body) is None


def test_an_empty_list_is_a_list() -> None:
    assert parse(b'{"data": []}') == []


def test_extra_fields_are_kept() -> None:
    models = parse(b'{"data": [{"id": "a", "max_model_len": 4096, "meta": {"n_ctx": 1}}]}')
    assert models == [{"object": "model", "id": "a", "max_model_len": 4096, "meta": {"n_ctx": 1}}]


def test_a_list_that_only_got_older_is_the_same() -> None:
    assert same([{"id": "a", "created": 1}], [{"id": "a", "created": 2}])
    assert not same([{"id": "a"}], [{"id": "a"}, named("b")])
