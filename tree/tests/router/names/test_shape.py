"""Patterns against whole names, and their rewrites."""

import pytest
import re2

from router.names.shape import Shape


@pytest.mark.parametrize(
    ("match", "rewrite", "name", "sent"),
    [
        ("gpt-.*", None, "gpt-4o", "gpt-4o"),
        ("gpt-.*", None, "my-gpt-4o", None),
        ("gpt", None, "gpt-4o", None),
        ("a|ab", None, "ab", "ab"),
        (r"gpt-(\d)(.*)", r"openai/\2-\1", "gpt-4o", "openai/o-4"),
        (r"gpt-(\d)", r"\0!", "gpt-4", "gpt-4!"),
        (r"gpt-(\d)", r"\10", "gpt-4", "40"),
        (r"(a)?b", r"x\1", "b", "x"),
        (r"(a)?b", r"\1", "b", "b"),
        (r"b", r"a\\b", "b", "a\\b"),
        (r"mödel-(.*)", r"größe-\1", "mödel-ü", "größe-ü"),
        (r"(.*)", "fixed", "b", "fixed"),
    ],
)
def test_a_rewrite(match: str, rewrite: str | None, name: str, sent: str | None) -> None:
    shape = Shape(match, rewrite)
    assert shape.rewritten(name) == sent
    assert shape.matches(name) is (sent is not None)


def test_what_takes_more_than_linear_time_does_not_compile() -> None:
    with pytest.raises(re2.error):
        Shape(r"(a)\1")
    assert not Shape("(a*)*b").matches("a" * 200)
