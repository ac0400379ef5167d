"""What a request needs, through the Brain: who serves it, what refuses it, what it is told."""

import pytest

from router.brain import Brain
from router.config import Config, Needs
from router.errors import Problem, RequestError
from router.hooks import BEFORE_ROUTE, Hook, Hooks
from router.named import Model, Privacy
from router.outcome import Failure, Outcome
from tests.router.making import (
    begin,
    brain,
    cloud,
    end,
    in_flight,
    name_of,
    serve,
    service,
    with_file,
)

NOW = 1.0


def _refused(found: Brain, model: str = "m", now: float = NOW, **headers: str) -> Problem:
    plan = begin(found, model, now=now, headers=_headers(headers))
    step = plan.next(now)
    assert isinstance(step, Problem), step
    plan.ended(end(Outcome.REFUSED, step.status, now))
    assert in_flight(found) == 0
    return step


def _served(found: Brain, model: str = "m", now: float = NOW, **headers: str) -> str:
    return serve(found, model, now=now, headers=_headers(headers))


def _headers(said: dict[str, str]) -> dict[str, str]:
    return {f"x-creche-{name.replace('_', '-')}": value for name, value in said.items()}


def _break(found: Brain, name: str) -> None:
    node = found.table.upstreams[name].node
    for _ in range(5):
        found.fitness.failed(node, node.breaker.life, 0.0)


def _cloud(privacy: Privacy, config: Config = Config(), **models: Model) -> Brain:  # noqa: B008
    providers = {"cloud": cloud(models=("m",), privacy=privacy)}
    return with_file(
        Config(providers=providers, models=models, needs=config.needs, expect=("small",)),
        service("s@h", "small"),
    )


# --- privacy --------------------------------------------------------------------------------------


def test_by_default_nothing_goes_to_a_public_cloud() -> None:
    problem = _refused(_cloud("public"))
    assert problem.status == 503
    assert problem.code == "needs_unmet"
    assert problem.should_retry is False
    assert problem.message == (
        "No service for model 'm' meets what the request needs: privacy internal (x-creche-privacy)"
    )


def test_a_request_that_says_that_it_is_public_goes_there() -> None:
    assert _served(_cloud("public"), privacy="public") == "cloud"


def test_a_default_of_public_lets_requests_there_that_say_nothing() -> None:
    found = _cloud("public", Config(needs=Needs(privacy="public")))
    assert _served(found) == "cloud"
    assert _refused(found, privacy="internal").code == "needs_unmet"


def test_a_cloud_that_is_not_private_enough_leaves_the_request_to_the_chain() -> None:
    found = _cloud("public", m=Model(fallbacks=("small",)))
    assert _served(found) == "s@h"
    assert _served(found, privacy="public") == "cloud"


@pytest.mark.parametrize(
    ("declared", "wanted", "serves"),
    [
        (None, "internal", True),
        (None, "confidential", False),
        ("confidential", "confidential", True),
        ("restricted", "public", True),
    ],
)
def test_a_service_must_be_at_least_as_private(
    declared: str | None, wanted: str, serves: bool
) -> None:
    found = brain(service("a@h", "m", metadata={"privacy": declared} if declared else {}))
    if serves:
        assert _served(found, privacy=wanted) == "a@h"
    else:
        assert f"privacy {wanted}" in _refused(found, privacy=wanted).message


# --- the others -----------------------------------------------------------------------------------


def test_what_is_measured_to_be_slow_is_refused_and_may_be_asked_again_later() -> None:
    found = brain(service("a@h", "m"), service("b@h", "m"))
    for name, seconds in (("a@h", 0.9), ("b@h", 0.1)):
        node = found.table.upstreams[name].node
        node.answers.extend([seconds] * 99)
        node.answered_at = NOW
        node.tokens_per_s = 100 / seconds
    assert {_served(found, max_latency_ms="500") for _ in range(3)} == {"b@h"}
    assert {_served(found, min_throughput="500") for _ in range(3)} == {"b@h"}
    problem = _refused(found, max_latency_ms="50")
    assert "latency of at most 50 ms (x-creche-max-latency-ms)" in problem.message
    assert problem.retry_after_s is not None
    assert _served(found, now=NOW + 61, max_latency_ms="50"), "measured too long ago"


def test_a_gpu_is_preferred_or_required() -> None:
    found = brain(service("a@h", "m"), service("g@h", "m", metadata={"gpu": "L4"}))
    assert {_served(found, gpu="prefer") for _ in range(3)} == {"g@h"}
    found.apply({"g@h": None})
    assert _served(found, gpu="prefer") == "a@h"
    assert "a GPU (x-creche-gpu)" in _refused(found, gpu="require").message


def test_a_tenant_is_believed_where_the_file_says_so() -> None:
    services = (service("a@h", "m", metadata={"tenants": ["acme"]}),)
    trusting = brain(*services, config=Config(needs=Needs(trust_tenant_header=True)))
    assert _served(trusting, tenant="acme") == "a@h"
    assert "tenant other" in _refused(trusting, tenant="other").message
    assert "no tenant" in _refused(brain(*services), tenant="acme").message


def test_a_region_is_preferred_and_nobody_is_left_without() -> None:
    found = brain(*(service(f"{name}@h", "m", metadata={"region": name}) for name in ("eu", "us")))
    assert {_served(found, region="eu") for _ in range(3)} == {"eu@h"}
    assert _served(found, region="asia") in ("eu@h", "us@h")


def test_a_default_region_and_gpu_are_preferred_by_requests_that_say_nothing() -> None:
    found = brain(
        service("eu@h", "m", metadata={"region": "eu"}),
        service("us@h", "m", metadata={"region": "us"}),
        service("gpu@h", "m", metadata={"region": "us", "gpu": "L4"}),
        config=Config(needs=Needs(region="eu")),
    )
    assert {_served(found) for _ in range(4)} == {"eu@h"}
    found.reconfigure(Config(needs=Needs(region="us", gpu="prefer")))
    assert {_served(found) for _ in range(4)} == {"gpu@h"}


def test_default_needs_hold_for_requests_that_say_nothing() -> None:
    services = (service("a@h", "m"), service("g@h", "m", metadata={"gpu": "L4"}))
    found = brain(*services, config=Config(needs=Needs(gpu="require")))
    assert {_served(found) for _ in range(3)} == {"g@h"}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("privacy", "secret"),
        ("max_latency_ms", "fast"),
        ("min_throughput", "-1"),
        ("cost_tolerance", "101"),
        ("gpu", "yes"),
        ("region", "a b"),
    ],
)
def test_a_need_that_cannot_be_read_is_a_400_and_counts_nothing(header: str, value: str) -> None:
    found = brain(service("a@h", "m"))
    with pytest.raises(RequestError) as refused:
        begin(found, "m", headers=_headers({header: value}))
    assert refused.value.problem.status == 400
    assert f"x-creche-{header.replace('_', '-')}" in refused.value.problem.message
    assert in_flight(found) == 0
    assert not found.models


# --- what is told ---------------------------------------------------------------------------------


def test_a_need_is_named_only_where_nobody_meets_it() -> None:
    """One that meets it and is out for a while: to wait helps, and the client is told to."""
    found = brain(
        service("a@h", "m", metadata={"privacy": "public"}),
        service("b@h", "m"),
    )
    _break(found, "b@h")
    problem = _refused(found)
    assert problem.code == "no_healthy_services"
    assert problem.retry_after_s == 29
    assert problem.should_retry is None


def test_a_need_that_a_target_does_not_meet_hides_no_trouble_of_the_next() -> None:
    found = _cloud("public", m=Model(fallbacks=("small",)))
    _break(found, "s@h")
    assert _refused(found).code == "no_healthy_services"
    found.apply({"s@h": None})
    assert _refused(found).code == "needs_unmet", "nobody is left who meets it"


def test_needs_hold_for_retries_too() -> None:
    found = brain(
        service("a@h", "m", metadata={"privacy": "restricted"}),
        service("b@h", "m", metadata={"privacy": "restricted"}),
        service("c@h", "m"),
    )
    headers = _headers({"privacy": "restricted"})
    asked = set()
    for _ in range(6):
        plan = begin(found, "m", headers=headers)
        asked.add(name_of(plan.next(0.0)))
        asked.add(name_of(plan.failed(Failure.CLOSED, True, 0.0)))
        plan.ended(end(now=0.0))
    assert asked == {"a@h", "b@h"}


def test_needs_that_a_hook_states_hold() -> None:
    found = _cloud("public")
    said = {"headers": {"X-Creche-Privacy": "public"}}
    hook = Hook(BEFORE_ROUTE, "acme", lambda _: said, lambda: 0.0, lambda _: None)
    found.reconfigure(found.config, hooks=Hooks(before_route=(hook,)))
    assert _served(found) == "cloud"
