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


def test_a_pause_is_taken_out_whole_and_time_stands_until_then() -> None:
    clock = LeaseClock(100.0, tick_s=0.5, stall_s=1.5)
    assert clock.read(101.0) == 101.0
    clock.pause(102.0, since=101.2)  # it was found out a little late
    assert clock.paused
    assert [clock.read(102.0 + n) for n in (0.5, 1.0)] == [102.0, 102.0]
    clock.resume(111.2)
    assert clock.stalled_s == 10.0
    assert [clock.read(111.2 + n) for n in (0.0, 0.5)] == [102.0, 102.0]  # 101.2, 101.7
    assert round(clock.read(112.2), 6) == 102.2


def test_a_stall_within_a_pause_counts_once() -> None:
    clock = LeaseClock(100.0, tick_s=0.5, stall_s=1.5)
    clock.pause(100.0, since=100.0)
    assert clock.read(160.0) == 100.0
    clock.resume(160.5)
    assert clock.stalled_s == 60.5
    assert clock.read(161.5) == 101.0
