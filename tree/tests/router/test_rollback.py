"""What undoes a reload, on plain names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import decode
from router.config import Config
from router.rollback import Side, named, reason


def side(named: str, served: str) -> Side:
    return Side(frozenset(named.split()), frozenset(served.split()))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        # Nothing is left, and the old file would serve.
        (side("code", "code qwen"), side("code", ""), 'would serve "code", "qwen"'),
        # Also where the names of the two files have nothing in common.
        (side("code", "code"), side("chat", ""), 'would serve "code"'),
        # One name of both was lost, another is served.
        (side("a b", "a b"), side("a b", "a"), '"b" cannot be served with the new file'),
    ],
)
def test_what_the_new_file_lost_undoes_it(old: Side, new: Side, why: str) -> None:
    found = reason(old, new)
    assert found is not None
    assert why in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # The whole fleet is down: the old file would serve nothing either.
        (side("a b", ""), side("a b", "")),
        # An engine is down for both.
        (side("a b", "a"), side("a b", "a")),
        # A name was taken out on purpose.
        (side("a b", "a b"), side("a", "a")),
        # A name that no file has: a provider was switched off on purpose.
        (side("a", "a gpt"), side("a", "a")),
        # A new name is not served yet: the old file did not serve it.
        (side("a", "a"), side("a b", "a")),
        # It was not served before either.
        (side("a b", "a"), side("a b", "a c")),
        # More than before.
        (side("", ""), side("a", "a")),
    ],
)
def test_what_was_meant_or_is_the_fleets_doing_stays(old: Side, new: Side) -> None:
    assert reason(old, new) is None


NAMES = st.frozensets(st.sampled_from("abcdef"))
SIDES = st.builds(Side, NAMES, NAMES)


@given(NAMES, NAMES, NAMES)
def test_the_state_of_the_fleet_alone_never_undoes_a_reload(
    old: frozenset[str], new: frozenset[str], served: frozenset[str]
) -> None:
    assert reason(Side(old, served), Side(new, served)) is None


@given(SIDES, SIDES)
def test_whoever_is_brought_back_serves_something_that_the_other_does_not(
    old: Side, new: Side
) -> None:
    if reason(old, new) is not None:
        assert old.served - new.served


def test_of_many_names_a_few_are_told() -> None:
    old = side("", " ".join(f"m{n}" for n in range(9)))
    assert (reason(old, side("", "")) or "").endswith(
        'the old one would serve "m0", "m1", "m2", "m3", "m4" and 4 more'
    )


def test_a_files_names_are_those_that_clients_or_chains_ask_for() -> None:
    text = """
    expect = ["expected"]
    default = "fallback"
    default_fallbacks = ["last"]
    [providers.p]
    type = "openai"
    base_url = "https://p"
    models = ["listed-only"]
    [models.code]
    targets = { "target" = 1 }
    fallbacks = ["second"]
    [[patterns]]
    match = "x-.*"
    provider = "p"
    fallbacks = ["third"]
    [capabilities.chat]
    models = ["member"]
    fallbacks = ["fourth"]
    [[rules]]
    when = { stream = true }
    model = "ruled"
    fallbacks = ["fifth"]
    """
    wanted = "expected fallback last code second third chat fourth fifth"
    assert named(decode(text, Config)) == frozenset(wanted.split())
