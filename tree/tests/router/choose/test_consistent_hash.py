from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from router import affinity, choose
from router.config import Config
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, fleet, picks, says

NAMES = st.lists(
    st.integers(0, 10_000).map(lambda n: f"s{n}@h"), min_size=2, max_size=12, unique=True
)
KEYS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=40, unique=True)


def make() -> choose.Strategy:
    return choose.make("consistent_hash", Config())


def home(upstreams: tuple[Upstream, ...], key: str) -> str:
    return picks(make(), upstreams, 1, Request(key=key))


def test_a_key_stays_where_it_is_and_keys_spread() -> None:
    upstreams = fleet(1, 1, 1, 1)
    strategy = make()
    assert len(set(picks(strategy, upstreams, 5, Request(key="session-42")))) == 1
    counts = Counter(home(upstreams, str(number)) for number in range(400))
    assert all(70 < count < 130 for count in counts.values()), counts


def test_without_a_key_equal_beginnings_stay_together() -> None:
    upstreams = fleet(1, 1, 1, 1, 1, 1, 1, 1)
    system = "You are a helpful assistant. " * 20  # more than a block of 512 bytes

    def goes(text: str) -> str:
        return picks(make(), upstreams, 1, Request(envelope=says(text)))

    assert len({goes(system + ending) for ending in ("a", "b", "c", "d", "e")}) == 1
    assert len({goes(beginning + system) for beginning in "abcdefghijkl"}) > 3


def test_with_neither_it_goes_by_least_requests() -> None:
    upstreams = (engine("a", in_flight=1), engine("b"), engine("c"))
    assert picks(make(), upstreams, 4) == "bcbc"
    assert make().explain(upstreams, Request())["a"] == "no key and no prompt, 1 in flight"


def test_it_yields_when_its_home_is_much_busier() -> None:
    upstreams = fleet(1, 1, 1)
    strategy, asked = make(), Request(key="key")
    first = picks(strategy, upstreams, 1, asked)
    busy = next(one for one in upstreams if one.name == first)
    busy.node.in_flight = 10
    second = picks(strategy, upstreams, 1, asked)
    assert second != first
    # 11 in flight with the one that comes, over 3: 1.25 x 3.67.
    assert strategy.explain(upstreams, asked)[first] == "1 of 3 for this key, 10 in flight of 4.58"
    assert strategy.explain(upstreams, asked)[second] == "2 of 3 for this key, 0 in flight of 4.58"


@settings(max_examples=60, deadline=None)
@given(NAMES, KEYS)
def test_one_that_leaves_moves_only_its_own_share(names: list[str], keys: list[str]) -> None:
    upstreams = tuple(engine(name) for name in names)
    before = {key: home(upstreams, key) for key in keys}
    after = {key: home(upstreams[1:], key) for key in keys}
    assert all(after[key] == where for key, where in before.items() if where != names[0])


@settings(max_examples=60, deadline=None)
@given(NAMES, KEYS, st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.7]), min_size=12, max_size=12))
def test_weights_or_not_the_highest_score_has_it(
    names: list[str], keys: list[str], weights: list[float]
) -> None:
    upstreams = tuple(engine(n, weight=w) for n, w in zip(names, weights, strict=False))
    for key in keys:
        hashed = affinity.name_hash(key)
        best = max(upstreams, key=lambda one: affinity.score(hashed, one.hash, one.weight))
        assert home(upstreams, key) == best.name
