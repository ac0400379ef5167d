"""What a request needs: read from its headers, held against an upstream, told where nobody can."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import config, needs
from router.errors import RequestError
from router.head import Fields
from router.needs import INTERNAL, NONE, PRIVACY, Needs, read, refusal, trivial, unmet
from router.upstream import Upstream
from tests.router.making import upstream

NOW = 1_000.0


def fields(**headers: str) -> Fields:
    """`privacy="public"` is the header X-Creche-Privacy, among others that say nothing."""
    found = [(b"Host", b"h"), (b"User-Agent", b"test")]
    for name, value in headers.items():
        found.append((f"X-Creche-{name.replace('_', '-')}".encode(), value.encode("latin-1")))
    return Fields(found)


def said(**headers: str) -> Needs:
    return read(fields(**headers), NONE)


def refused(**headers: str) -> str:
    with pytest.raises(RequestError) as found:
        said(**headers)
    assert found.value.problem.status == 400
    return found.value.problem.message


def service(**metadata: Any) -> Upstream:
    return upstream("a@h", "m", metadata=metadata)


def measured(*seconds: float, tokens_per_s: float | None = None, at: float = NOW) -> Upstream:
    found = service()
    for took in seconds:
        found.node.answers.append(took)
    found.node.tokens_per_s = tokens_per_s
    found.node.answered_at = at
    return found


# --- headers --------------------------------------------------------------------------------------


def test_a_request_that_says_nothing_shares_the_default() -> None:
    assert read(fields(), NONE) is NONE
    assert read({}, NONE) is NONE


def test_every_header_is_read() -> None:
    assert said(
        region="us-west",
        privacy="Confidential",
        max_latency_ms="250.5",
        min_throughput="30",
        cost_tolerance="0",
        gpu="require",
    ) == Needs(
        region="us-west",
        privacy=PRIVACY.index("confidential"),
        max_latency_ms=250.5,
        min_throughput=30.0,
        cost_tolerance=0.0,
        gpu="require",
    )


def test_headers_stand_in_for_defaults_one_by_one() -> None:
    defaults = needs.default(config.Needs(region="eu", privacy="restricted", gpu="prefer"))
    assert read(fields(region="us"), defaults) == Needs(
        region="us", privacy=PRIVACY.index("restricted"), gpu="prefer"
    )


def test_the_configuration_without_a_word_is_no_need_at_all() -> None:
    assert needs.default(config.Needs()) == NONE


def test_a_tenant_is_believed_only_where_it_is_trusted() -> None:
    assert said(tenant="acme").tenant is None
    assert read(fields(tenant="acme"), NONE, trusts_tenant=True).tenant == "acme"


def test_what_an_untrusted_tenant_header_says_is_not_even_looked_at() -> None:
    assert said(tenant="no tenant's name!") == NONE


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"privacy": "secret"},
            "x-creche-privacy: 'secret' is not one of public, internal, confidential, restricted",
        ),
        ({"gpu": "yes"}, "x-creche-gpu: 'yes' is not one of prefer, require"),
        (
            {"max_latency_ms": "0"},
            "x-creche-max-latency-ms: '0' is not a number above 0, in milliseconds",
        ),
        (
            {"min_throughput": "-3"},
            "x-creche-min-throughput: '-3' is not a number above 0, in tokens a second",
        ),
        ({"cost_tolerance": "101"}, "x-creche-cost-tolerance: '101' is not a number from 0 to 100"),
        (
            {"region": ""},
            "x-creche-region: '' is not a name of at most 128 characters"
            " (letters, digits, . _ - : @ /)",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_can(
    headers: dict[str, str], message: str
) -> None:
    assert refused(**headers) == message


@pytest.mark.parametrize("value", ["nan", "inf", "1e3", "1_000", "+5", "٣", " ", "0x10", "5ms"])
def test_only_plain_numbers_are_numbers(value: str) -> None:
    with pytest.raises(RequestError):
        read({"x-creche-max-latency-ms": value}, NONE)


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refused(privacy="x" * 10_000)) < 200


@given(st.dictionaries(st.sampled_from(sorted(needs.HEADERS)), st.text(max_size=140)))
def test_any_headers_are_read_or_refused_with_400(headers: dict[str, str]) -> None:
    try:
        found = read(headers, NONE, trusts_tenant=True)
    except RequestError as error:
        assert error.problem.status == 400
        return
    assert 0 <= found.cost_tolerance <= 100
    assert found.max_latency_ms is None or found.max_latency_ms > 0


# --- refusals -------------------------------------------------------------------------------------


def test_a_service_must_be_at_least_as_private() -> None:
    for wanted in range(len(PRIVACY)):
        for has in range(len(PRIVACY)):
            found = refusal(service(privacy=PRIVACY[has]), Needs(privacy=wanted), NOW)
            assert (found is None) == (has >= wanted), (has, wanted)
    assert refusal(service(privacy="public"), NONE, NOW) == "privacy public, wanted internal"


def test_a_service_of_unknown_privacy_is_internal() -> None:
    assert refusal(service(), NONE, NOW) is None
    assert refusal(service(), Needs(privacy=INTERNAL + 1), NOW) is not None


def test_another_region_refuses_nobody() -> None:
    assert refusal(service(region="us"), Needs(region="eu"), NOW) is None
    assert refusal(service(), Needs(region="eu"), NOW) is None


def test_tenants_are_served_by_those_that_serve_all_or_name_them() -> None:
    theirs, everyones = service(tenants=["acme"]), service()
    assert refusal(theirs, Needs(tenant="acme"), NOW) is None
    assert refusal(everyones, Needs(tenant="acme"), NOW) is None
    assert refusal(everyones, NONE, NOW) is None
    assert refusal(theirs, Needs(tenant="other"), NOW) == (
        "tenant other, serves other tenants alone"
    )
    assert refusal(theirs, NONE, NOW) == "tenant not named, serves other tenants alone"


def test_a_gpu_is_required_or_only_preferred() -> None:
    assert refusal(service(gpu=True), Needs(gpu="require"), NOW) is None
    assert refusal(service(), Needs(gpu="require"), NOW) == "gpu not declared, wanted one"
    assert refusal(service(), Needs(gpu="prefer"), NOW) is None


def test_latency_is_the_median_of_good_answers() -> None:
    wanted = Needs(max_latency_ms=100)
    assert refusal(measured(0.045, 0.045, 9.0), wanted, NOW) is None
    assert refusal(measured(0.1), wanted, NOW) is None, "at most 100 ms"
    assert refusal(measured(0.045, 0.12, 0.12), wanted, NOW) == (
        "latency 120 ms (p50), wanted 100 ms"
    )


def test_throughput_below_the_wanted_refuses() -> None:
    wanted = Needs(min_throughput=30)
    assert refusal(measured(1.0, tokens_per_s=30.0), wanted, NOW) is None
    assert refusal(measured(1.0, tokens_per_s=12.34), wanted, NOW) == (
        "throughput 12.34 tokens/s, wanted 30"
    )


def test_what_is_not_known_refuses_nobody() -> None:
    wanted = Needs(max_latency_ms=1, min_throughput=1_000)
    assert refusal(service(), wanted, NOW) is None
    assert refusal(measured(at=NOW), wanted, NOW) is None


def test_what_was_too_slow_is_asked_again_after_a_minute() -> None:
    slow = measured(5.0, tokens_per_s=1.0, at=NOW)
    wanted = Needs(max_latency_ms=100, min_throughput=30)
    assert refusal(slow, wanted, NOW + 60) is not None
    assert refusal(slow, wanted, NOW + 60.001) is None


@given(
    st.builds(
        Needs,
        region=st.sampled_from([None, "us"]),
        privacy=st.integers(0, 3),
        max_latency_ms=st.sampled_from([None, 100.0]),
        min_throughput=st.sampled_from([None, 30.0]),
        gpu=st.sampled_from([None, "prefer", "require"]),
        tenant=st.sampled_from([None, "acme"]),
    )
)
def test_trivial_needs_refuse_nobody_who_is_internal_and_serves_all(found: Needs) -> None:
    slow = measured(9.0, tokens_per_s=0.1)
    refuses = any(refusal(one, found, NOW) for one in (service(), slow))
    assert refuses == (not trivial(found)), found


# --- what the client is told ----------------------------------------------------------------------


def test_a_need_that_nothing_meets_is_named_with_its_header() -> None:
    found = unmet(Needs(privacy=3), ["privacy public, wanted restricted"], "whisper-v3")
    assert found is not None
    assert (found.status, found.code, found.should_retry) == (503, "needs_unmet", False)
    assert found.message == (
        "No service for model 'whisper-v3' meets what the request needs:"
        " privacy restricted (x-creche-privacy)"
    )


def test_what_time_may_mend_is_worth_a_retry() -> None:
    found = unmet(
        Needs(max_latency_ms=100, min_throughput=30),
        [
            "throughput 1 tokens/s, wanted 30",
            "breaker open, trial in 12 s",
            "latency 900 ms (p50), wanted 100 ms",
        ],
    )
    assert found is not None
    assert (found.retry_after_s, found.should_retry) == (5, None)
    assert found.message == (
        "No service meets what the request needs: latency of at most 100 ms"
        " (x-creche-max-latency-ms), at least 30 tokens a second (x-creche-min-throughput)"
    )


def test_every_refusal_is_one_that_the_client_is_told_of() -> None:
    for one, wanted in [
        (service(privacy="public"), NONE),
        (service(tenants=["acme"]), NONE),
        (service(), Needs(gpu="require")),
        (measured(9.0), Needs(max_latency_ms=1)),
        (measured(9.0, tokens_per_s=1.0), Needs(min_throughput=2)),
    ]:
        reason = refusal(one, wanted, NOW)
        assert reason is not None
        found = unmet(wanted, [reason])
        assert found is not None
        assert "acme" not in found.message, "whose services there are is nobody else's business"


def test_where_no_need_refused_there_is_nothing_to_say() -> None:
    assert unmet(NONE, ["breaker open, trial in 12 s"]) is None
    assert unmet(NONE, []) is None
