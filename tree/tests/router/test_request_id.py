from router.request_id import RequestIds


def test_ids_are_short_and_sort_by_time() -> None:
    ids = RequestIds(0.5)
    made = [ids.next(1_800_000_000 + n // 3) for n in range(3000)]
    assert made == sorted(made)
    assert len(set(made)) == 3000
    assert {len(one) for one in made} == {14}


def test_processes_differ_by_chance() -> None:
    assert RequestIds(0.1).next(5.0) != RequestIds(0.2).next(5.0)


def test_a_clock_set_back_gives_no_id_twice() -> None:
    ids = RequestIds(0.0)
    assert len({ids.next(second) for second in (10, 10, 9, 9, 10, 11, 8)}) == 7
