from prometheus_client.parser import text_string_to_metric_families

from router import metrics
from router.brain import Brain
from router.outcome import Outcome
from tests.router.making import begin, brain, end, serve, service


def scrape(found: Brain) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    collector = metrics.RouterCollector(found, lambda: True)
    text = metrics.exposition(metrics.registry(collector)).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Brain, name: str, **labels: str) -> float | None:
    return scrape(found).get((name, tuple(sorted(labels.items()))))


def test_what_is_counted_can_be_parsed_by_prometheus() -> None:
    found = brain(service("a@h", "m"))
    for _ in range(3):
        serve(found, "m")
    assert value(found, "creche_requests_total", model="m", outcome="ok") == 3
    assert value(found, "creche_attempts_total", service="a@h", outcome="ok") == 3
    assert value(found, "creche_request_seconds_count", model="m") == 3
    assert value(found, "creche_request_seconds_bucket", model="m", le="+Inf") == 3
    assert value(found, "creche_upstream_fit", service="a@h") == 1
    assert value(found, "creche_registry_connected") == 1
    assert value(found, "process_open_fds") is not None


def test_buckets_are_cumulative() -> None:
    found = brain(service("a@h", "m"))
    for seconds in (0.004, 0.04, 0.4):
        plan = begin(found, "m")
        plan.next(0.0)
        plan.ended(end(now=seconds))
    buckets = {
        dict(labels)["le"]: count
        for (name, labels), count in scrape(found).items()
        if name == "creche_request_seconds_bucket" and dict(labels)["model"] == "m"
    }
    assert (buckets["0.005"], buckets["0.05"], buckets["0.5"]) == (1, 2, 3)


def test_a_name_that_nothing_offers_is_no_label() -> None:
    found = brain(service("a@h", "m"))
    plan = begin(found, "typo")
    plan.next(0.0)
    plan.ended(end(Outcome.REFUSED, 503))
    assert value(found, "creche_requests_total", model="", outcome="refused") == 1
    assert not any("typo" in str(key) for key in scrape(found))


def test_a_services_odd_model_name_breaks_nothing() -> None:
    found = brain(service("a@h", 'we"ird\n\\'))
    serve(found, 'we"ird\n\\')
    assert value(found, "creche_requests_total", model='we"ird\n\\', outcome="ok") == 1
