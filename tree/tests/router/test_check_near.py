"""Which names are surely one name mistyped, and which are two models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.check import near

NAMES = st.text("abcde-4.", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gtp-4o-mini", "gpt-4o-mini"),
        ("Qwen3-Coder", "qwen3_coder"),
        ("mistrl-small", "mistral-small"),
        ("mistrall-small", "mistral-small"),
        ("mistrel-small", "mistral-small"),
        ("lalma-3.3-70b", "llama-3.3-70b"),
    ],
)
def test_these_are_one_name(one: str, other: str) -> None:
    assert near.mistyped(one, other)
    assert near.mistyped(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("llama-3.1-70b", "llama-3.3-70b"),
        ("qwen3-8b", "qwen3-14b"),
        ("gpt-4", "gpt-4o"),
        ("gpt-4o", "gpt-4o-mini"),
        ("code", "coder"),
        ("gpt-4o-mini", "gpt-4o-nano"),
        ("qwen3", "qwen3"),
        ("model-a", "model-b"),
        ("mistral-small", "mistral-large"),
    ],
)
def test_these_are_two(one: str, other: str) -> None:
    assert not near.mistyped(one, other)
    assert not near.mistyped(other, one)


def test_for_a_name_that_does_not_exist_a_likeness_is_enough() -> None:
    known = ["llama-3.3-70b-instruct", "gpt-4o-mini", "qwen3-coder"]
    assert near.closest("gpt-4o-mni", known) == "gpt-4o-mini"
    assert near.closest("llama-3.3-70b-instrct", known) == "llama-3.3-70b-instruct"
    assert near.closest("llama-3.1-70b-instruct", known) is None
    assert near.closest("mistral-large", known) is None
    assert near.closest("x", []) is None


@given(st.lists(NAMES, unique=True, max_size=12), st.lists(NAMES, unique=True, max_size=12))
def test_pairs_are_found_exactly_where_two_names_are_one(one: list[str], other: list[str]) -> None:
    found = dict(near.pairs(one, other))
    for name in one:
        assert (name in found) == any(near.mistyped(name, known) for known in other)
    assert all(near.mistyped(*pair) for pair in found.items())


def test_ten_thousand_names_are_no_burden() -> None:
    names = [f"model-{at}-instruct" for at in range(10_000)]
    assert list(near.pairs(names, names)) == []
