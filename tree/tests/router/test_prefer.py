from hypothesis import given
from hypothesis import strategies as st

from router.needs import NONE, Needs
from router.prefer import nearer, warm
from router.upstream import Upstream
from tests.router.making import upstream


def answered(name: str, at: float) -> Upstream:
    found = upstream(name, "m")
    found.node.answered_at = at
    return found


def placed(name: str, region: str | None = None, gpu: bool = False) -> Upstream:
    return upstream(name, "m", metadata={"region": region, "gpu": gpu})


def names(candidates: tuple[Upstream, ...]) -> str:
    return " ".join(one.name for one in candidates)


def test_those_that_answered_lately_go_first() -> None:
    all_of_them = (answered("a", 99.0), answered("b", 94.9), answered("c", 95.0))
    assert names(warm(all_of_them, now=100.0, within_s=5.0)) == "a c"


def test_where_all_are_warm_or_none_is_they_stay_as_they_are() -> None:
    all_of_them = (answered("a", 99.0), answered("b", 98.0))
    assert warm(all_of_them, now=100.0, within_s=5.0) is all_of_them
    assert warm(all_of_them, now=200.0, within_s=5.0) is all_of_them
    assert warm(all_of_them, now=100.0, within_s=0.0) is all_of_them


def test_what_never_answered_is_not_warm_even_on_a_clock_that_has_just_begun() -> None:
    all_of_them = (answered("a", 0.0), answered("b", 1.0))
    assert names(warm(all_of_them, now=2.0, within_s=5.0)) == "b"


def test_the_wanted_region_goes_first_and_no_region_is_refused() -> None:
    all_of_them = (placed("a", "us"), placed("b", "eu"), placed("c"))
    assert names(nearer(all_of_them, Needs(region="eu"))) == "b"
    assert nearer(all_of_them, Needs(region="asia")) is all_of_them
    assert nearer(all_of_them, NONE) is all_of_them


def test_a_preferred_gpu_decides_within_the_region() -> None:
    all_of_them = (placed("a", "us"), placed("b", "us", True), placed("c", "eu", True))
    assert names(nearer(all_of_them, Needs(region="us", gpu="prefer"))) == "b"
    assert names(nearer(all_of_them, Needs(gpu="prefer"))) == "b c"
    assert nearer(all_of_them, Needs(gpu="require")) is all_of_them, "that is for refusals"


@given(
    st.lists(st.tuples(st.sampled_from([None, "us", "eu"]), st.booleans()), min_size=1),
    st.sampled_from([None, "us", "eu"]),
    st.sampled_from([None, "prefer"]),
)
def test_nobody_is_left_without(
    places: list[tuple[str | None, bool]], region: str | None, gpu: str | None
) -> None:
    all_of_them = tuple(placed(f"s{at}", *where) for at, where in enumerate(places))
    found = nearer(all_of_them, Needs(region=region, gpu=gpu))
    assert found
    assert [one for one in all_of_them if one in found] == list(found)
