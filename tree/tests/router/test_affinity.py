from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from router.affinity import choose, mix, mix_all, name_hash, score
from router.upstream import Upstream
from tests.router.making import upstream

NAMES = st.lists(
    st.integers(0, 10_000).map(lambda n: f"s{n}@h"), min_size=2, max_size=12, unique=True
)
KEYS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=40, unique=True)


def fleet(names: list[str]) -> list[Upstream]:
    return [upstream(name) for name in names]


def homes(upstreams: list[Upstream], keys: list[str]) -> dict[str, str]:
    return {key: choose(upstreams, key, 1.25).name for key in keys}


@settings(max_examples=60, deadline=None)
@given(NAMES, KEYS)
def test_one_that_leaves_moves_only_its_own_share(names: list[str], keys: list[str]) -> None:
    before = homes(fleet(names), keys)
    left = names[0]
    after = homes(fleet(names[1:]), keys)
    assert all(after[key] == home for key, home in before.items() if home != left)


@settings(max_examples=60, deadline=None)
@given(NAMES, KEYS)
def test_one_that_joins_takes_only_what_becomes_its_own(names: list[str], keys: list[str]) -> None:
    before = homes(fleet(names), keys)
    after = homes(fleet([*names, "new@h"]), keys)
    assert all(after[key] in (home, "new@h") for key, home in before.items())


@given(NAMES, KEYS, st.randoms())
def test_the_order_of_candidates_says_nothing(
    names: list[str], keys: list[str], random: object
) -> None:
    assert homes(fleet(names), keys) == homes(fleet(names[::-1]), keys)


def test_every_router_computes_alike() -> None:
    """Pinned: another value would move every session of a running fleet at an upgrade."""
    assert name_hash("engine@host") == 0x4A9C0DC260EB0A0E
    assert score(name_hash("key"), name_hash("engine@host"), 2.0) == 0.5645809721003107


def test_shares_follow_weights() -> None:
    upstreams = [upstream("a@h", weight=1.0), upstream("b@h", weight=3.0)]
    counts = Counter(homes(upstreams, [str(n) for n in range(4_000)]).values())
    assert 0.7 < counts["b@h"] / 4_000 < 0.8


def test_it_yields_when_its_home_is_much_busier() -> None:
    upstreams = fleet(["a@h", "b@h", "c@h"])
    home = choose(upstreams, "key", 1.25)
    home.node.in_flight = 10
    second = choose(upstreams, "key", 1.25)
    assert second is not home
    assert choose(upstreams, "key", 1.25) is second, "and always to the same second one"
    home.node.in_flight = 0
    assert choose(upstreams, "key", 1.25) is home


def test_an_evenly_busy_fleet_keeps_its_homes() -> None:
    upstreams = fleet(["a@h", "b@h", "c@h"])
    home = choose(upstreams, "key", 1.25)
    for one in upstreams:
        one.node.in_flight = 20
    assert choose(upstreams, "key", 1.25) is home


@settings(max_examples=50, deadline=None)
@given(NAMES, st.lists(st.integers(0, 30), min_size=12, max_size=12), st.text(min_size=1))
def test_nobody_is_pushed_over_the_bound(names: list[str], loads: list[int], key: str) -> None:
    upstreams = fleet(names)
    for one, load in zip(upstreams, loads, strict=False):
        one.node.in_flight = load
    chosen = choose(upstreams, key, 1.25)
    mean = (sum(one.node.in_flight for one in upstreams) + 1) / len(upstreams)
    assert chosen.node.in_flight < 1.25 * mean + 1


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=70))
def test_all_at_once_or_one_by_one_is_the_same(key: int, names: list[int]) -> None:
    assert list(mix_all(key, names)) == [mix(key, name) for name in names]
