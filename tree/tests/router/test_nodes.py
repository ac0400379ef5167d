from router.nodes import Node, NodeHealth


def node() -> Node:
    return Node("a", "127.0.0.1", 8100)


def test_two_successes_in_a_row_make_it_healthy() -> None:
    one = node()
    assert one.health is NodeHealth.UNKNOWN
    one.succeeded()
    assert one.health is NodeHealth.UNKNOWN
    one.succeeded()
    assert one.health is NodeHealth.HEALTHY


def test_a_failure_degrades_and_three_in_a_row_take_it_out() -> None:
    one = node()
    assert not one.failed()
    assert one.health is NodeHealth.DEGRADED
    assert not one.out
    assert not one.failed()
    assert one.failed()
    assert one.health is NodeHealth.UNHEALTHY
    assert one.out
    assert not one.failed(), "it was out already"


def test_a_success_between_failures_breaks_the_row() -> None:
    one = node()
    for _ in range(10):
        one.failed()
        one.failed()
        one.succeeded()
    assert not one.out


def test_one_failed_connect_is_enough() -> None:
    one = node()
    assert one.connect_failed()
    assert one.set_aside and one.health is NodeHealth.UNHEALTHY


def test_a_probe_brings_it_back_one_failure_from_leaving() -> None:
    one = node()
    one.connect_failed()
    one.came_back()
    assert not one.out
    assert one.health is NodeHealth.DEGRADED
    assert one.failed(), "on probation: one failure is enough"
    one.came_back()
    one.succeeded()
    one.succeeded()
    assert one.health is NodeHealth.HEALTHY


def test_a_slow_probe_degrades() -> None:
    one = node()
    one.succeeded()
    one.succeeded()
    one.came_back(slow=True)
    assert one.health is NodeHealth.DEGRADED
    assert not one.out


def test_a_success_while_out_brings_it_back() -> None:
    one = node()
    one.connect_failed()
    assert one.succeeded()
    assert not one.out


def test_a_later_shorter_rest_never_shortens() -> None:
    one = node()
    one.rest(100.0)
    one.rest(50.0)
    assert one.rest_until == 100.0


def test_the_head_carries_its_host() -> None:
    assert node().head == b"Host: 127.0.0.1:8100\r\n"
    assert Node("a", "::1", 80).head == b"Host: [::1]\r\n"
