from router import choose
from router.config import Config
from tests.router.choose.asking import Request, engine, picks


def make() -> choose.Strategy:
    return choose.make("least_latency", Config())


def test_it_takes_the_fastest_of_the_idle() -> None:
    upstreams = (engine("a", p50_ms=120), engine("b", p50_ms=45), engine("c", p50_ms=200))
    assert picks(make(), upstreams, 3) == "bbb"


def test_what_is_in_flight_makes_it_slower() -> None:
    upstreams = (engine("a", p50_ms=120), engine("b", p50_ms=45, in_flight=2))
    asked = Request()
    assert make().explain(upstreams, asked) == {
        "a": "p50 120 ms, 0 in flight: 120 ms expected",
        "b": "p50 45 ms, 2 in flight: 135 ms expected",
    }
    assert picks(make(), upstreams, 1, asked) == "a"


def test_weight_is_how_many_it_takes_at_once() -> None:
    upstreams = (engine("a", p50_ms=120), engine("b", p50_ms=45, in_flight=2, weight=4))
    assert picks(make(), upstreams, 1) == "b", "45 x 1.5 = 67.5"


def test_a_node_that_fails_fast_never_looks_fast() -> None:
    upstreams = (
        engine("a", p50_ms=900, in_flight=3),
        engine("broken", failures=1),
        engine("c", p50_ms=800, in_flight=1),
    )
    asked = Request()
    assert make().explain(upstreams, asked)["broken"] == (
        "no good answer yet, 0 in flight, 1 failures in a row: 1800 ms expected"
    )
    assert picks(make(), upstreams, 1, asked) == "c", "1600 ms"


def test_failures_make_a_fast_node_slower() -> None:
    upstreams = (engine("a", p50_ms=100), engine("b", p50_ms=45, failures=2))
    assert picks(make(), upstreams, 1) == "a", "45 x 3 = 135"


def test_one_that_answers_everything_with_400_attracts_no_traffic() -> None:
    upstreams = (engine("a", p50_ms=300), engine("b", asked=50), engine("c", p50_ms=200))
    assert picks(make(), upstreams, 1) == "c"


def test_a_new_one_is_tried_at_once_but_not_stampeded() -> None:
    upstreams = (engine("a", p50_ms=100), engine("new"), engine("c", p50_ms=300))
    asked = Request()
    strategy = make()
    assert strategy.explain(upstreams, asked)["new"] == "never asked: tried first"
    chosen = ""
    for _ in range(6):
        one = strategy.choose(upstreams, asked)
        assert one is not None
        one.node.in_flight += 1
        one.node.request_count += 1
        chosen += one.name[0]
    # Then it counts as slow as the slowest: a at 100 200 300 ms, c at 300, new at 600.
    assert chosen.startswith("naa")
    assert chosen.count("n") == 1


def test_with_nothing_known_the_fewest_in_flight_serve_in_turn() -> None:
    upstreams = (engine("a", asked=1), engine("b", in_flight=1), engine("c", asked=1))
    assert picks(make(), upstreams, 4) == "acac"


def test_what_was_slow_once_is_tried_again() -> None:
    slow = engine("slow", p50_ms=1_000, answered_at=400.0)
    upstreams = (engine("a", p50_ms=150), slow)
    assert picks(make(), upstreams, 1, Request(now=700.0)) == "a", "1000 x 60/300 = 200"
    upstreams[0].node.answered_at = 999.0
    assert picks(make(), upstreams, 1, Request(now=1000.0)) == "slow", "1000 x 60/600 = 100"


def test_among_many_each_is_measured_anew_in_its_turn() -> None:
    upstreams = tuple(engine(f"e{n:02}", p50_ms=500) for n in range(40))
    strategy, asked = make(), Request()
    strategy.choose(upstreams, asked)
    # The first choice measured 16 of them; the rest count by their last answer.
    upstreams[39].node.answers.extend([0.3, 0.2, 0.1, 0.1])
    assert strategy.choose(upstreams, asked) is upstreams[39]
    for _ in range(3):
        strategy.choose(upstreams, asked)
    assert [one.node.answers.p50 for one in upstreams] == [0.5] * 39 + [0.3]
