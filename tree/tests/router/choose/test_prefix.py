from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.choose.prefix import Prefix
from router.config import Config
from router.config import Prefix as Settings
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, fleet, picks, says
from tests.router.making import upstream

#: Blocks of 16 bytes, so that a test can write them.
CONFIG = Config(prefix=Settings(block_bytes=16))
SYSTEM = "You are helpful. Say what you know and do not what you don't.   "  # 4 blocks


def make(**settings: int) -> Prefix:
    return Prefix(Config(prefix=Settings(block_bytes=16, **settings)))


def request(text: str, models: tuple[str, ...] = ("m",)) -> Request:
    return Request(envelope=says(text), models=models)


def send(strategy: Prefix, upstreams: tuple[Upstream, ...], text: str) -> str:
    """One request, as the router does it; who had it."""
    asked = request(text)
    chosen = strategy.choose(upstreams, asked)
    strategy.took(chosen, asked)
    return chosen.name


def read(strategy: Prefix, one: Upstream, text: str) -> None:
    strategy.took(one, request(text))


def cached(strategy: Prefix, upstreams: tuple[Upstream, ...], text: str) -> list[str]:
    return [
        explained.partition(" blocks")[0]
        for explained in strategy.explain(upstreams, request(text)).values()
    ]


def test_the_longest_beginning_read_before_has_it() -> None:
    strategy, upstreams = make(), fleet(1, 1, 1)
    read(strategy, upstreams[0], SYSTEM + "How do trees grow in winter?")
    read(strategy, upstreams[2], SYSTEM)
    text = SYSTEM + "How do trees grow in summer?"
    assert strategy.explain(upstreams, request(text)) == {
        "a": "5 of 5 blocks cached, 0 in flight",
        "b": "0 of 5 blocks cached, 0 in flight",
        "c": "4 of 5 blocks cached, 0 in flight",
    }
    assert picks(strategy, upstreams, 3, request(text)) == "aaa"


def test_a_conversation_stays_where_it_began() -> None:
    strategy, upstreams = make(), fleet(1, 1, 1, 1)
    text = SYSTEM
    homes = set()
    for turn in range(8):
        text += f"Question {turn}, and whatever the answer to it was."
        homes.add(send(strategy, upstreams, text))
    assert len(homes) == 1


def test_who_is_too_busy_is_passed_over_for_the_next_longest() -> None:
    strategy = make()
    upstreams = (engine("a", in_flight=4), engine("b"), engine("c"))
    read(strategy, upstreams[0], SYSTEM)
    read(strategy, upstreams[2], SYSTEM[:32])
    # 5 in flight with the one that comes, over 3 upstreams: 1.25 x 1.67 = 2.08.
    assert picks(strategy, upstreams, 2, request(SYSTEM)) == "cc"
    explained = strategy.explain(upstreams, request(SYSTEM))
    assert explained["a"] == "4 of 4 blocks cached, 4 in flight, too busy"
    upstreams[0].node.in_flight = 2
    upstreams[1].node.in_flight = upstreams[2].node.in_flight = 1
    assert picks(strategy, upstreams, 1, request(SYSTEM)) == "a", "2 of 2.08"


def test_the_example_of_a_busy_fleet() -> None:
    strategy = make()
    text = "".join(f"sixteen bytes {number:02}" for number in range(14))
    upstreams = (engine("gpu-02", in_flight=3), engine("gpu-03", in_flight=1))
    read(strategy, upstreams[0], text[: 11 * 16])
    read(strategy, upstreams[1], text[: 2 * 16])
    assert strategy.explain(upstreams, request(text)) == {
        "gpu-02": "11 of 14 blocks cached, 3 in flight",
        "gpu-03": "2 of 14 blocks cached, 1 in flight",
    }
    assert strategy.choose(upstreams, request(text)) is upstreams[0]


def test_equal_beginnings_go_to_the_least_busy() -> None:
    strategy = make()
    upstreams = (engine("a", in_flight=1), engine("b"), engine("c"))
    for one in upstreams:
        read(strategy, one, SYSTEM)
    assert picks(strategy, upstreams, 4, request(SYSTEM)) == "bcbc"


def test_what_nobody_has_read_goes_where_every_router_sends_it() -> None:
    upstreams = fleet(1, 1, 1, 1)
    texts = [f"{number:03} " + SYSTEM for number in range(200)]
    one = [make().choose(upstreams, request(text)).name for text in texts]
    other = [make().choose(upstreams[::-1], request(text)).name for text in texts]
    assert one == other
    assert all(30 < count < 70 for count in Counter(one).values())
    same_start = {make().choose(upstreams, request(SYSTEM + text)).name for text in texts}
    assert len(same_start) == 1, "by the first block alone"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc", min_size=16, max_size=16), min_size=1, max_size=30, unique=True))
def test_one_that_leaves_moves_only_its_own_share(texts: list[str]) -> None:
    upstreams = fleet(1, 2, 1, 1)
    strategy = make()
    before = [strategy.choose(upstreams, request(text)).name for text in texts]
    after = [strategy.choose(upstreams[1:], request(text)).name for text in texts]
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "a")


def test_a_prompt_shorter_than_a_block_goes_by_least_requests() -> None:
    upstreams = (engine("a", in_flight=1), engine("b"), engine("c"))
    assert picks(make(), upstreams, 4, request("hi")) == "bcbc"
    assert make().explain(upstreams, request("hi"))["a"] == (
        "prompt shorter than a block, 1 in flight"
    )


def test_another_model_has_read_nothing_of_it() -> None:
    strategy, upstreams = make(), fleet(1, 1)
    read(strategy, upstreams[0], SYSTEM)
    explained = strategy.explain(upstreams, request(SYSTEM, models=("other",)))
    assert explained["a"] == "0 of 4 blocks cached, 0 in flight"


def test_a_new_life_has_an_empty_cache() -> None:
    strategy = make()
    old, other = upstream("a", "m", instance_id="1"), engine("b")
    read(strategy, old, SYSTEM)
    read(strategy, other, SYSTEM[:16])
    new = upstream("a", "m", instance_id="2")
    assert cached(strategy, (new, other), SYSTEM) == ["0 of 4", "1 of 4"]
    assert strategy.choose((new, other), request(SYSTEM)) is other


def test_a_new_view_of_the_same_life_has_what_the_life_read() -> None:
    strategy = make()
    read(strategy, upstream("a", "m", instance_id="1"), SYSTEM)
    renewed = upstream("a", "m", "n", instance_id="1", weight=2)
    assert cached(strategy, (renewed,), SYSTEM) == ["4 of 4"]


def told(cached_tokens: int, tokens: int = 64) -> list[str]:
    """Of four blocks that were believed cached: how many are, after the engine said so."""
    strategy, upstreams = make(), fleet(1, 1)
    read(strategy, upstreams[0], SYSTEM)
    asked = request(SYSTEM)
    strategy.took(upstreams[0], asked)
    strategy.told(upstreams[0], asked, cached_tokens, tokens)
    return cached(strategy, upstreams[:1], SYSTEM)


@pytest.mark.parametrize(
    ("cached_tokens", "left"),
    [(64, "4 of 4"), (40, "4 of 4"), (33, "4 of 4"), (31, "1 of 4"), (16, "1 of 4"), (0, "0 of 4")],
)
def test_an_engine_that_says_far_less_is_believed(cached_tokens: int, left: str) -> None:
    # 64 tokens for 67 bytes with its marks: 15.3 tokens a block, 61 believed cached.
    assert told(cached_tokens) == [left]


def test_what_was_not_believed_cannot_be_wrong() -> None:
    strategy, upstreams = make(), fleet(1, 1)
    asked = request(SYSTEM)
    strategy.took(upstreams[0], asked)
    strategy.told(upstreams[0], asked, 0, 64)
    assert cached(strategy, upstreams[:1], SYSTEM) == ["4 of 4"], "it has read it since"


def test_numbers_that_make_no_sense_change_nothing() -> None:
    assert told(0, tokens=0) == ["4 of 4"]
    strategy, upstreams = make(), fleet(1, 1)
    strategy.told(upstreams[0], request(SYSTEM), 0, 64)  # of a request it never saw


def test_a_request_is_cut_into_blocks_once_for_each_target() -> None:
    strategy, upstreams = make(), fleet(1, 1)
    asked = request(SYSTEM)
    strategy.choose(upstreams, asked)
    note = asked.note
    strategy.took(upstreams[0], asked)
    assert asked.note is note
    asked.models = ("fallback",)
    strategy.choose(upstreams, asked)
    assert asked.note is not note


def test_only_so_much_of_a_prompt_is_looked_at() -> None:
    strategy, upstreams = make(blocks_max=2), fleet(1, 1)
    read(strategy, upstreams[0], SYSTEM)
    assert cached(strategy, upstreams[:1], SYSTEM) == ["2 of 2"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab", max_size=100), max_size=40), st.integers(1, 4_000))
def test_its_memory_is_bounded(texts: list[str], limit: int) -> None:
    strategy, upstreams = make(memory_bytes_max=limit), fleet(1, 1, 1)
    for text in texts:
        send(strategy, upstreams, text)
        assert strategy.index.bytes <= limit
