"""Where what leads to what goes round, or on too long."""

from hypothesis import given
from hypothesis import strategies as st

from router.check.graph import Graph, cycles, ends

NODES = st.sampled_from("abcdef")
GRAPHS = st.dictionaries(NODES, st.lists(NODES, max_size=4).map(tuple), max_size=6)


def test_a_cycle_is_told_from_the_name_that_stands_first() -> None:
    assert list(cycles({"a": ("b",), "b": ("a",)})) == [("a", "b")]
    assert list(cycles({"x": ("c",), "c": ("b",), "b": ("x", "c")})) == [
        ("x", "c", "b"),
        ("c", "b"),
    ]


def test_a_name_that_leads_to_itself_is_told_elsewhere() -> None:
    assert list(cycles({"a": ("a", "b"), "b": ()})) == []


def test_two_ways_to_one_end_are_no_cycle() -> None:
    assert list(cycles({"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()})) == []


def test_a_long_chain_needs_no_deep_stack() -> None:
    graph: dict[str, tuple[str, ...]] = {f"m{at}": (f"m{at + 1}",) for at in range(50_000)}
    assert list(cycles(graph)) == []
    graph["m50000"] = ("m0",)
    (cycle,) = cycles(graph)
    assert len(cycle) == 50_001


@given(GRAPHS)
def test_a_cycle_is_found_where_there_is_one_and_each_is_one(graph: Graph) -> None:
    found = list(cycles(graph))
    for cycle in found:
        for one, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert following in graph[one]
        assert len(set(cycle)) == len(cycle) > 1
    assert len(set(found)) == len(found)
    assert bool(found) == _goes_round(graph)


def _goes_round(graph: Graph) -> bool:
    """By taking away, over and over, what leads nowhere."""
    left = {name: {one for one in to if one != name} for name, to in graph.items()}
    while True:
        gone = [name for name, to in left.items() if not to & left.keys()]
        if not gone:
            return bool(left)
        for name in gone:
            del left[name]


def test_the_first_of_too_long_a_way_is_told() -> None:
    graph = {"a": ("b",), "b": ("c",), "c": ("d",), "x": ("b",)}
    assert ends(graph, 3) == []
    assert ends(graph, 2) == ["a", "x"]
    assert ends(graph, 1) == ["a", "x"]
