from router.crowd import Crowd, household


def test_so_many_of_one_address_and_no_more() -> None:
    crowd = Crowd()
    assert [crowd.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert crowd.enter("b", 2)
    crowd.leave("a")
    assert crowd.enter("a", 2)


def test_who_has_left_is_forgotten() -> None:
    crowd = Crowd()
    for _ in range(3):
        crowd.enter("a", 5)
    for _ in range(4):
        crowd.leave("a")
    assert crowd.addresses == 0


def test_a_lower_limit_holds_for_those_who_come() -> None:
    crowd = Crowd()
    assert crowd.enter("a", 5) and crowd.enter("a", 5)
    assert not crowd.enter("a", 1)


def test_what_counts_as_one_address() -> None:
    assert household("10.0.0.1") == "10.0.0.1"
    assert household("::ffff:10.0.0.1") == "10.0.0.1"
    assert household("2001:db8::1") == household("2001:db8::ffff:2") != household("2001:db8:0:1::1")
    assert household("fe80::1%eth0") == household("fe80::2%eth1")
    assert household("") == ""
    assert household("a:b") == "a:b"
