"""Two tables that grew apart from one: what they know together is a table again."""

from hypothesis import given
from hypothesis import strategies as st

from registry import commands as ask
from registry import shared
from registry.shared import Clocks, Whole
from registry.state import Stored, Terms
from registry.table import Table
from tests.registry.acts import World, registration

NAMES = ("a", "b", "c", "d")
ACTS = st.lists(
    st.one_of(
        st.builds(
            lambda name, port, life: ask.Register(registration(name, port=port, instance_id=life)),
            st.sampled_from(NAMES),
            st.integers(1, 4),
            st.sampled_from(("l1", "l2", "l3")),
        ),
        st.builds(lambda name: ask.Remove(name, None), st.sampled_from(NAMES)),
        st.builds(ask.Drain, st.sampled_from(NAMES), st.booleans()),
    ),
    max_size=8,
)


def whole(world: World) -> Whole:
    table, clocks = world.table, Clocks(world.at, 0)
    return Whole(
        epoch=table.epoch,
        revision=table.revision,
        entries=tuple(shared.kept(one, clocks) for one in table.entries.values()),
        silent_s={},
        retired={life: one.lease_s for life, one in table.retired.items()},
        drained=frozenset(table.drained),
    )


def grown_apart(
    common: list[ask.Command], first: list[ask.Command], second: list[ask.Command]
) -> tuple[World, World]:
    worlds = World(), World()
    for world, own in zip(worlds, (first, second), strict=True):
        for act in (*common, *own):
            world.do(act)
    return worlds


def table_of(merged: Whole, world: World) -> Table:
    table = Table(Terms(), Stored(epoch="e"), world.now)
    table.become(merged, world.now, Clocks(world.at, 0))
    return table


@given(ACTS, ACTS, ACTS)
def test_it_is_always_a_table(
    common: list[ask.Command], first: list[ask.Command], second: list[ask.Command]
) -> None:
    one, other = grown_apart(common, first, second)
    merged = shared.merged(whole(one), whole(other))
    table = table_of(merged, one)
    table.validate()
    assert set(table.retired) == {*one.table.retired, *other.table.retired}
    again = shared.merged(merged, whole(other))
    assert {kept.record.name: kept for kept in again.entries} == {
        kept.record.name: kept for kept in merged.entries
    }
    assert again.drained == merged.drained


def test_what_either_was_told_is_kept() -> None:
    one, other = World(), World()
    for world in (one, other):
        world.post("a", port=1)
        world.post("gone", port=2)
    one.post("mine", port=3)
    one.do(ask.Drain("a", True))
    other.post("theirs", port=4)
    other.do(ask.Remove("gone", None))
    merged = shared.merged(whole(one), whole(other))
    assert {kept.record.name for kept in merged.entries} == {"a", "mine", "theirs"}
    assert merged.drained == {"a"}
    assert merged.revision == max(one.table.revision, other.table.revision)


def test_of_two_at_one_address_the_later_is_kept() -> None:
    one, other = World(), World()
    one.post("first", port=1)
    other.post("a", port=9)
    other.post("second", port=1)
    merged = shared.merged(whole(one), whole(other))
    assert {kept.record.name for kept in merged.entries} == {"a", "second"}
