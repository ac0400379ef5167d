"""A seed is a schedule: the same one each time, every kind in it, nobody broken twice at once."""

from tests.faults.chaos.plan import REST_S, ROLES, Kind, schedule

TARGETS = {
    "engine": ("a1", "a2", "b1", "b2", "c1"),
    "babysitter": ("a", "b", "c"),
    "router": ("r1", "r2"),
    "registry": ("registry",),
    "disk": ("disk",),
    "link": ("link",),
    "peer": ("far",),
}


def test_a_seed_gives_the_same_schedule_each_time() -> None:
    assert schedule(7, 600, TARGETS) == schedule(7, 600, TARGETS)
    assert schedule(7, 600, TARGETS) != schedule(8, 600, TARGETS)


def test_a_minute_holds_nearly_every_kind_and_ten_hold_all() -> None:
    for seed in range(50):
        kinds = {one.kind for one in schedule(seed, 45, TARGETS, every_s=1.6)}
        assert len(kinds) >= len(Kind) - 4
        assert {one.kind for one in schedule(seed, 600, TARGETS)} == set(Kind)


def test_nobody_is_broken_twice_at_once_and_all_is_mended_at_the_end() -> None:
    for seed in range(50):
        free: dict[str, float] = {}
        for one in schedule(seed, 120, TARGETS):
            assert one.target in TARGETS[ROLES[one.kind]]
            assert one.at_s >= free.get(one.target, 0.0) - 0.02
            free[one.target] = one.at_s + one.lasts_s + REST_S
            assert one.at_s + one.lasts_s <= 120.5


def test_a_role_that_nobody_has_is_left_out() -> None:
    kinds = {one.kind for one in schedule(3, 600, {**TARGETS, "disk": ()})}
    assert kinds == set(Kind) - {Kind.FULL_DISK}
    assert schedule(3, 600, {}) == []
