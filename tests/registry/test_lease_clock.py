from registry.lease_clock import LeaseClock


def test_lease_time_runs_as_real_time_does() -> None:
    clock = LeaseClock(100.0, tick_s=0.5, stall_s=1.5)
    assert [clock.read(100.0 + n) for n in (0.5, 1.0, 2.4)] == [100.5, 101.0, 102.4]
    assert clock.stalled_s == 0


def test_a_stall_moves_every_deadline_by_what_was_missed() -> None:
    clock = LeaseClock(100.0, tick_s=0.5, stall_s=1.5)
    deadline = clock.read(101.0) + 15
    assert clock.read(161.0) == 101.5
    assert clock.stalled_s == 59.5
    beats = [clock.read(161.0 + n) for n in range(1, 15)]
    assert beats[-1] < deadline
    assert clock.read(175.5) == deadline


def test_stalls_add_up() -> None:
    clock = LeaseClock(0.0, tick_s=0.5, stall_s=1.5)
    assert clock.read(10.0) == 0.5
    assert clock.read(20.0) == 1.0


def test_it_never_goes_back() -> None:
    clock = LeaseClock(10.0, tick_s=0.5, stall_s=1.5)
    assert clock.read(11.0) == 11.0
    assert clock.read(10.5) == 11.0
