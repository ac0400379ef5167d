import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode

from router import errors
from router.limits import Limiter, told
from router.named import Limits
from router.toomany import duration, headers, of_requests, problem


def used_up(**limits: int) -> Limiter:
    found = Limiter(Limits(**limits))
    while found.take(10, now=0.0) is not None:
        pass
    return found


def test_what_is_left_goes_with_every_answer() -> None:
    found = Limiter(Limits(rpm=60, tpm=1_000, max_concurrency=5)).take(100, now=0.0)
    assert found is not None
    assert headers(found.told) == (
        b"x-ratelimit-limit-requests: 60\r\n"
        b"x-ratelimit-remaining-requests: 59\r\n"
        b"x-ratelimit-reset-requests: 1s\r\n"
        b"x-ratelimit-limit-tokens: 1000\r\n"
        b"x-ratelimit-remaining-tokens: 900\r\n"
        b"x-ratelimit-reset-tokens: 6s\r\n"
    )


def test_of_two_limits_of_a_kind_the_tighter_is_told() -> None:
    model = told(Limiter(Limits(rpm=60)).decide(1, now=0.0))
    key = told(Limiter(Limits(rpm=3)).decide(1, now=0.0))
    assert headers([*model, *key]) == headers([*key, *model]) == headers(key)


def test_nothing_limited_is_nothing_told() -> None:
    assert headers(()) == b""
    assert headers(told(Limiter(Limits(max_concurrency=1)).decide(1, now=0.0))) == b""


def test_too_many_requests_is_a_429_as_openai_says_it() -> None:
    found = problem(used_up(rpm=20).decide(1, now=0.5), "model 'code'")
    assert found.status == 429
    assert decode(errors.body(found)) == {
        "error": {
            "message": "Rate limit reached for model 'code' on requests per minute: limit 20,"
            " 0 left, 1 asked for. Try again in 3 s",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert dict(errors.headers(found)) == {
        "x-creche-error": "router",
        "retry-after": "3",
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "59.5s",
        "retry-after-ms": "2500",
    }


def test_too_many_tokens_say_how_many() -> None:
    found = problem(used_up(rpm=1_000, tpm=100).decide(7, now=0.0), "provider 'openai'")
    assert found.type == "tokens"
    assert found.message == (
        "Rate limit reached for provider 'openai' on tokens per minute: limit 100, 0 left,"
        " 7 asked for. Try again in 5 s"
    )


def test_a_request_that_can_never_pass_is_not_worth_a_retry() -> None:
    found = problem(Limiter(Limits(tpm=100)).decide(101, now=0.0), "model 'code'")
    assert found.message == (
        "The request is too large for model 'code': about 101 tokens, and 100 a minute are allowed"
    )
    assert (found.retry_after_s, found.should_retry) == (None, False)
    assert "retry-after-ms" not in dict(found.headers)


def test_too_many_at_once_may_come_back_soon() -> None:
    found = problem(used_up(max_concurrency=4).decide(1, now=0.0), "model 'code'")
    assert found.message == (
        "Rate limit reached for model 'code': 4 requests at once are allowed. Try again in 1 s"
    )
    assert (found.type, found.retry_after_s) == ("requests", 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (61.5, "1m1.5s"),
    ],
)
def test_times_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(1, 10_000), st.lists(st.floats(0, 30), max_size=30))
def test_one_limit_of_requests_alone_is_told_as_any_other(limit: int, gaps: list[float]) -> None:
    one, other, now = Limiter(Limits(rpm=limit)), Limiter(Limits(rpm=limit)), 0.0
    meter = one.requests_alone
    assert meter is not None
    for gap in gaps:
        now += gap
        grant = other.take(1, now)
        assert meter.pass_one(now) is (grant is not None)
        if grant is not None:
            assert of_requests(meter) == headers(grant.told)


def test_what_must_be_settled_is_not_of_requests_alone() -> None:
    assert Limiter(Limits(rpm=1, tpm=1)).requests_alone is None
    assert Limiter(Limits(rpm=1, max_concurrency=1)).requests_alone is None
    assert Limiter(Limits(max_concurrency=1)).requests_alone is None
