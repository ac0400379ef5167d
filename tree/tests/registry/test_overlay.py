from hypothesis import given
from hypothesis import strategies as st

from registry.overlay import Overlay


@given(
    st.dictionaries(st.integers(0, 5), st.integers()),
    st.lists(st.tuples(st.integers(0, 7), st.none() | st.integers())),
)
def test_it_reads_as_the_dict_will_be_and_leaves_the_base_alone(
    base: dict[int, int], acts: list[tuple[int, int | None]]
) -> None:
    before, wanted = dict(base), dict(base)
    overlay = Overlay(base)
    for key, value in acts:
        if value is None:
            overlay.drop(key)
            wanted.pop(key, None)
        else:
            overlay.put(key, value)
            wanted[key] = value
        assert len(overlay) == len(wanted)
        assert dict(overlay.items()) == wanted
        assert all(overlay.get(k) == wanted.get(k) for k in range(8))
    assert base == before
    overlay.merge()
    assert base == wanted
