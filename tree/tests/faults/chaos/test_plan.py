"""A seed is a schedule: the same one each time, every kind in it, nobody broken twice at once."""

from collections.abc import Collection, Mapping

import pytest

from tests.faults.chaos.plan import REST_S, ROLES, Kind, schedule

ALONE = {
    "engine": ("a1", "a2", "b1", "b2", "c1"),
    "babysitter": ("a", "b", "c"),
    "router": ("r1", "r2"),
    "registry": ("registry",),
    "sqlite": ("registry",),
    "disk": ("disk",),
    "link": ("link",),
    "peer": ("far",),
}
SHARED = {
    **ALONE,
    "registry": ("registry", "registry-2"),
    "sqlite": (),
    "link": ("to-registry", "to-registry-2"),
    "redis": ("redis",),
    "to-redis": ("to-redis-from-registry", "to-redis-from-registry-2"),
}
FLEETS = pytest.mark.parametrize("targets", [ALONE, SHARED], ids=["alone", "shared"])
Targets = Mapping[str, Collection[str]]


def possible(targets: Targets) -> set[Kind]:
    return {kind for kind in Kind if targets.get(ROLES[kind])}


@FLEETS
def test_a_seed_gives_the_same_schedule_each_time(targets: Targets) -> None:
    assert schedule(7, 600, targets) == schedule(7, 600, targets)
    assert schedule(7, 600, targets) != schedule(8, 600, targets)


@FLEETS
def test_a_minute_holds_nearly_every_kind_and_ten_hold_all(targets: Targets) -> None:
    every = possible(targets)
    for seed in range(50):
        kinds = {one.kind for one in schedule(seed, 55, targets, every_s=1.6)}
        assert len(kinds) >= len(every) - 4
        assert {one.kind for one in schedule(seed, 600, targets)} == every


@FLEETS
def test_nobody_is_broken_twice_at_once_and_all_is_mended_at_the_end(targets: Targets) -> None:
    for seed in range(50):
        free: dict[str, float] = {}
        for one in schedule(seed, 120, targets):
            assert one.target in targets[ROLES[one.kind]]
            assert one.at_s >= free.get(one.target, 0.0) - 0.02
            free[one.target] = one.at_s + one.lasts_s + REST_S
            assert one.at_s + one.lasts_s <= 120.5


def test_a_role_that_nobody_has_is_left_out() -> None:
    kinds = {one.kind for one in schedule(3, 600, {**ALONE, "disk": ()})}
    assert kinds == possible(ALONE) - {Kind.FULL_DISK}
    assert schedule(3, 600, {}) == []
