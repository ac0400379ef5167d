"""The formula on plain numbers, and what refuses."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.choose.asked import Asked, Policy
from router.choose.score import Score
from router.config import Config
from router.config import Score as Weights
from router.needs import Needs
from router.nodes import NodeHealth
from router.upstream import Upstream
from tests.router.choose.asking import Request, engine, picks

HEALTHY, DEGRADED = NodeHealth.HEALTHY, NodeHealth.DEGRADED
UNKNOWN, UNHEALTHY = NodeHealth.UNKNOWN, NodeHealth.UNHEALTHY


def make(*policies: Policy, **weights: float) -> Score:
    return Score(Config(score=Weights(**weights)), policies)  # type: ignore[arg-type]


def asking(**needs: object) -> Request:
    return Request(needs=Needs(**needs))  # type: ignore[arg-type]


def scores(
    *upstreams: Upstream, asked: Request | None = None, by: Score | None = None
) -> list[float]:
    found = (by or make()).scored(upstreams, asked or Request())
    return [round(one.score, 4) for one in found.values()]


def refusal(one: Upstream, asked: Request | None = None, by: Score | None = None) -> str | None:
    """Why `one` is refused beside another that is not."""
    fine = engine("fine", p50_ms=100)
    return (by or make()).scored((one, fine), asked or Request())[one.name].refused


# --- the federation's own numbers

US_WEST = engine("us-west-gpu", "whisper-v3", p50_ms=45, region="us-west")
EU_WEST = engine("eu-west-gpu", "whisper-v3", p50_ms=120, region="eu-west")
US_EAST = engine("us-east-gpu", "llama-70b", asked=1, health=UNKNOWN, region="us-east")
EMBED = (
    engine("embed-us", "bge-large", p50_ms=20, region="us-west"),
    engine("embed-eu", "bge-large", p50_ms=20, region="eu-west"),
)


def test_transcribe_has_two_candidates_and_goes_to_us_west_gpu() -> None:
    # (2 x 1 + 1 - 45/5000 + 1 + 0.5 + 0.3 x 0.5 + 1 - 0.5) / 5
    assert scores(US_WEST, EU_WEST) == [1.0282, 1.0252]
    assert picks(make(), (EU_WEST, US_WEST), 3) == "us-west-gpu" * 3


def test_a_region_outweighs_milliseconds() -> None:
    asked = asking(region="eu-west")
    # (2 + 0.991 + 1 + 0.5 + 0.5) / 5 and (2 + 0.976 + 1 + 0.8 + 0.5) / 5
    assert scores(US_WEST, EU_WEST, asked=asked) == [0.9982, 1.0552]
    assert picks(make(), (US_WEST, EU_WEST), 1, asked) == "eu-west-gpu"


def test_generate_goes_to_the_only_node_though_its_health_is_unknown() -> None:
    # (2 x 0.3 + 1 - 1000/5000 + 1 + 0.65 + 0.5) / 5
    assert scores(US_EAST) == [0.71]
    assert picks(make(), (US_EAST,), 1) == "us-east-gpu"


def test_embed_has_two_candidates_that_take_turns() -> None:
    assert scores(*EMBED) == [1.0292, 1.0292]
    assert {picks(make(), EMBED, 1, asking(region=r)) for r in ("us-west", "eu-west")} == {
        "embed-us",
        "embed-eu",
    }
    asked = Request()
    assert {picks(make(), EMBED, 1, asked) for _ in range(2)} == {"embed-us", "embed-eu"}


# --- the parts


def part(name: str, one: Upstream, asked: Request | None = None) -> float:
    return round(make().scored((one,), asked or Request())[one.name].parts[name], 4)


@pytest.mark.parametrize(
    ("health", "value"), [(HEALTHY, 2.0), (DEGRADED, 1.0), (UNKNOWN, 0.6), (UNHEALTHY, 0.0)]
)
def test_health_counts_twice(health: NodeHealth, value: float) -> None:
    assert part("health", engine("a", health=health)) == value


@pytest.mark.parametrize(
    ("p50_ms", "value"), [(None, 0.8), (0.0, 1.0), (45, 0.991), (2_500, 0.5), (5_000, 0.0)]
)
def test_latency_is_one_less_a_share_of_five_seconds(p50_ms: float | None, value: float) -> None:
    assert part("latency", engine("a", p50_ms=p50_ms)) == value


@pytest.mark.parametrize(
    ("wanted", "there", "value"),
    [("eu", "eu", 0.8), ("eu", "us", 0.5), ("eu", None, 0.65), (None, "us", 0.65)],
)
def test_locality(wanted: str | None, there: str | None, value: float) -> None:
    one = engine("a", region=there) if there else engine("a")
    assert part("locality", one, asking(region=wanted)) == value


@pytest.mark.parametrize(
    ("tolerance", "cost", "tokens_per_s", "value"),
    [
        (50, 0.2, 900, 0.8),
        (50, None, 900, 0.5),
        (51, 0.2, 900, 0.9),
        (51, 0.2, 4_000, 1.0),
        (51, 0.2, None, 0.5),
        (0, 1.0, None, 0.0),
    ],
)
def test_cost_or_speed(
    tolerance: float, cost: float | None, tokens_per_s: float | None, value: float
) -> None:
    one = engine("a", tokens_per_s=tokens_per_s, cost=cost)
    assert part("cost", one, asking(cost_tolerance=tolerance)) == value


def test_weights_are_over_their_sum() -> None:
    # (3 x 2 + 1 x 0.5) / 4
    by = make(health=3, latency=1, privacy=0, locality=0, cost=0)
    assert scores(engine("a", p50_ms=2_500), by=by) == [1.625]


def test_weights_change_who_is_chosen() -> None:
    cheap = engine("cheap", p50_ms=2_000, cost=0.0)
    fast = engine("fast", p50_ms=100, cost=0.9)
    assert picks(make(), (cheap, fast), 1) == "cheap"
    assert picks(make(cost=0), (cheap, fast), 1) == "fast"


def test_without_any_weight_all_parts_count_alike() -> None:
    by = make(health=0, latency=0, privacy=0, locality=0, cost=0)
    assert scores(US_WEST, by=by) == [1.0282]


def test_a_new_record_of_an_upstream_counts_at_once() -> None:
    by, asked = make(), asking(region="eu")
    moved = engine("a", p50_ms=100, region="eu")
    other = engine("b", p50_ms=90, region="eu", in_flight=9)
    assert picks(by, (moved, other), 1, asked) == "a"
    assert picks(by, (engine("a", p50_ms=100, region="us"), other), 1, asked) == "b"
    assert picks(by, (moved, other), 1, asking(region="us")) == "a", "both are elsewhere"


def test_what_it_keeps_is_bounded_however_many_regions_are_named() -> None:
    by = make()
    for number in range(1_000):
        picks(by, EMBED, 1, asking(region=f"region-{number}"))
    assert len(by._formula._kept) <= 64


# --- refusals


def test_it_refuses_the_unhealthy_while_another_is_not() -> None:
    sick = engine("sick", p50_ms=1, health=UNHEALTHY)
    assert refusal(sick) == "unhealthy"
    assert picks(make(), (sick, US_EAST), 1) == "us-east-gpu"
    assert picks(make(), (sick,), 1) == "sick", "still tried when nothing else is left"
    assert make().scored((sick,), Request())["sick"].refused is None


def test_it_refuses_the_slow() -> None:
    slow = engine("slow", p50_ms=6_200)
    assert refusal(slow) == "slower than 5 s: p50 6.2 s"
    assert make().choose((slow,), Request()) is None
    assert picks(make(latency_max_ms=10_000), (slow,), 1) == "slow"


def test_what_was_too_slow_is_tried_again_after_a_minute() -> None:
    slow = engine("slow", p50_ms=6_200, answered_at=100.0)
    assert make().choose((slow,), Request(now=159.9)) is None
    assert make().choose((slow,), Request(now=160.0)) is slow
    assert part("latency", slow, Request(now=160.0)) == 0.0


def test_it_refuses_what_scores_too_little() -> None:
    by = make(health=0, latency=1, privacy=0, locality=0, cost=0)
    poor = engine("poor", p50_ms=4_600)
    assert refusal(poor, by=by) == "scores 0.08, below 0.1"
    assert by.choose((poor,), Request()) is None
    assert picks(make(health=0, privacy=0, locality=0, cost=0, least=0.05), (poor,), 1) == "poor"


def test_with_all_refused_there_is_none() -> None:
    slow = tuple(engine(name, p50_ms=9_000) for name in "abc")
    assert make().choose(slow, Request()) is None


# --- operators' policies


def test_a_policys_number_joins_the_mean() -> None:
    def evening(upstream: Upstream, asked: Asked) -> float | str | None:
        return 0.0 if upstream.name == "a" else None

    a, b = engine("a", p50_ms=500), engine("b", p50_ms=500)
    # 4.55 / 5 and 5.05 / 6: what one has nothing to say on keeps its mean.
    assert scores(a, b, by=make(evening)) == [0.8417, 1.01]
    assert picks(make(evening), (a, b), 2) == "bb"
    assert "evening 0.00" in make(evening).explain((a, b), Request())["a"]


def test_a_policys_text_refuses_and_is_told() -> None:
    def contract(upstream: Upstream, asked: Asked) -> float | str | None:
        return "not under contract" if upstream.name == "a" else 1.0

    a, b = engine("a", p50_ms=1), engine("b", p50_ms=4_000)
    assert refusal(a, by=make(contract)) == "contract: not under contract"
    assert picks(make(contract), (a, b), 1) == "b"
    assert make(contract).choose((a,), Request()) is None


@pytest.mark.parametrize("number", [float("nan"), float("-inf"), -50.0])
def test_a_policys_senseless_number_refuses(number: float) -> None:
    def broken(upstream: Upstream, asked: Asked) -> float | str | None:
        return number

    by = make(broken)
    assert by.choose((US_WEST,), Request()) is None
    assert by.scored((US_WEST,), Request())["us-west-gpu"].refused


# --- ties


def test_what_scores_the_same_goes_to_the_fewest_in_flight_in_turn() -> None:
    upstreams = tuple(engine(name, p50_ms=100) for name in "abc")
    upstreams[1].node.in_flight = 1
    assert picks(make(), upstreams, 4, Request()) == "acac"


def test_a_hair_better_is_the_same() -> None:
    upstreams = (engine("a", p50_ms=100, in_flight=1), engine("b", p50_ms=120))
    assert picks(make(), upstreams, 1) == "b", "20 ms are 0.0008"
    upstreams = (engine("a", p50_ms=100, in_flight=1), engine("b", p50_ms=130))
    assert picks(make(), upstreams, 1) == "a", "30 ms are 0.0012"


def test_a_preferred_gpu_breaks_ties_alone() -> None:
    gpu = engine("gpu", p50_ms=100, gpu=True, in_flight=3)
    upstreams = (engine("a", p50_ms=100), gpu, engine("c", p50_ms=100))
    assert picks(make(), upstreams, 2) == "ac"
    assert picks(make(), upstreams, 2, asking(gpu="prefer")) == "gpugpu"
    faster = (engine("a", p50_ms=50), gpu)
    assert picks(make(), faster, 1, asking(gpu="prefer")) == "a"


# --- explanations


def test_it_explains_the_parts() -> None:
    slow = engine("slow", p50_ms=9_000)
    assert make().explain((US_WEST, slow), asking(region="us-west")) == {
        "us-west-gpu": "scores 1.058: health 2.00, latency 0.99, privacy 1.00, locality 0.80, "
        "cost 0.50; 0 in flight",
        "slow": "refused: slower than 5 s: p50 9.0 s",
    }


def test_only_the_best_are_kept() -> None:
    upstreams = tuple(engine(f"e{number:02}", p50_ms=100 * number) for number in range(12))
    explained = make().explain(upstreams, Request())
    left_out = {name for name, text in explained.items() if text.startswith("refused")}
    assert left_out == {"e10", "e11"}
    assert explained["e11"] == "refused: scores 0.99, not among the 10 best"


HEALTHS = st.sampled_from(list(NodeHealth))
PARTS = st.tuples(
    HEALTHS,
    st.none() | st.floats(0, 8_000),
    st.sampled_from(["eu", "us", None]),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 3_000),
)
WEIGHTS = st.lists(st.floats(0, 5), min_size=5, max_size=5)


@example([(NodeHealth.UNHEALTHY, 5001.0, "eu", None, None)], [0.0] * 5, False, False)
@given(st.lists(PARTS, min_size=1, max_size=6), WEIGHTS, st.booleans(), st.booleans())
def test_the_fast_way_and_the_explained_one_agree(
    parts: list[tuple[NodeHealth, float | None, str | None, float | None, float | None]],
    weights: list[float],
    tolerant: bool,
    somewhere: bool,
) -> None:
    upstreams = tuple(
        engine(f"e{at}", health=health, p50_ms=p50, region=region, cost=cost, tokens_per_s=pace)
        for at, (health, p50, region, cost, pace) in enumerate(parts)
    )
    names = ("health", "latency", "privacy", "locality", "cost")
    by = make(**dict(zip(names, weights, strict=True)))
    asked = asking(region="eu" if somewhere else None, cost_tolerance=90 if tolerant else 10)
    explained = by.scored(upstreams, asked)
    chosen = by.choose(upstreams, asked)
    fit = {name: one.score for name, one in explained.items() if one.refused is None}
    unknown = {u.name for u in upstreams if u.node.health is NodeHealth.UNKNOWN} & fit.keys()
    if unknown:  # what is not known and idle goes first
        fit = {name: score for name, score in fit.items() if name in unknown}
    if chosen is None:
        assert all(score < 0.1 + 1e-9 for score in fit.values())
    else:
        assert explained[chosen.name].score >= max(fit.values(), default=0.1) - 0.001 - 1e-9
        assert chosen.name in fit or explained[chosen.name].score == pytest.approx(0.1)


def test_the_first_to_answer_does_not_keep_all_traffic() -> None:
    """A new or restarted one would never be asked: what is not known scores less."""
    known = engine("known", health=NodeHealth.HEALTHY, p50_ms=45)
    new = engine("new", health=NodeHealth.UNKNOWN)
    by, asked = make(), asking()
    assert by.choose((known, new), asked) is new
    new.node.in_flight = 1
    assert by.choose((known, new), asked) is known, "one at a time"
    new.node.in_flight = 0
    new.node.health = NodeHealth.HEALTHY
    new.node.answers.append(0.2)
    assert by.choose((known, new), asked) is known, "now it is known, and slower"
