"""What /stats and /services tell of who is asked now, and of the names of the file."""

from collections.abc import Iterable

import pytest

from common.wire.registry import Health
from common.wire.router import ModelStats
from router import views
from router.brain import Brain
from router.config import Config
from router.named import Capability, Model
from tests.router.making import brain, cloud, serve, service, with_file


def model(found: Brain, name: str, now: float = 1.0) -> ModelStats:
    return views.stats(found, now=now, started=0.0).models[name]


def fail(found: Brain, name: str, times: int, *, connect: bool = False) -> None:
    node = found.table.upstreams[name].node
    for _ in range(times):
        found.fitness.failed(node, node.breaker.life, 0.0, connect=connect)


def told(found: Brain, names: Iterable[str], now: float = 1.0) -> list[tuple[object, ...]]:
    services = {one.name: one for one in views.services(found, "", now=now).services}
    return [
        (one.set_aside, one.why_out, one.breaker, one.resting_s)
        for one in map(services.__getitem__, names)
    ]


def test_ready_counts_only_those_that_requests_go_to_now() -> None:
    found = brain(*(service(f"{name}@h", "m") for name in "abcde"))
    fail(found, "b@h", 1, connect=True)
    fail(found, "c@h", 3)
    fail(found, "d@h", 5)
    found.fitness.rest(found.table.upstreams["e@h"].node, 12.0, 0.0)
    assert (model(found, "m").ready, model(found, "m").total) == (1, 5)
    assert told(found, ["a@h", "b@h", "c@h", "d@h", "e@h"]) == [
        (False, "", "closed", 0.0),
        (True, "connect", "closed", 0.0),
        (True, "answers", "closed", 0.0),
        (True, "answers", "open", 0.0),
        (False, "", "closed", 11.0),
    ]
    assert model(found, "m", now=12.0).ready == 2, "its rest is over"


def test_what_is_tried_since_nobody_else_is_left_is_told_apart_from_what_is_lost() -> None:
    found = brain(service("a@h", "m"), service("b@h", "n"))
    fail(found, "a@h", 1, connect=True)
    fail(found, "b@h", 5)
    assert (model(found, "m").ready, model(found, "m").last_resort) == (0, True)
    assert (model(found, "n").ready, model(found, "n").last_resort) == (0, False)


NAMES = Config(
    registries=("http://r",),
    expect=("absent", "big"),
    models={
        "code": Model(targets={"big": 9, "small": 1}),
        "fast": Model(backend_model="small"),
        "chained": Model(backend_model="absent", fallbacks=("small",)),
        "lost": Model(backend_model="absent", fallbacks=()),
    },
    capabilities={"chat": Capability(models=("big", "small"))},
)


@pytest.mark.parametrize(
    ("name", "ready", "behind", "by_chain"),
    [
        ("code", 2, {"a@h", "b@h"}, False),
        ("fast", 1, {"b@h"}, False),
        ("chat", 2, {"a@h", "b@h"}, False),
        ("chained", 0, set(), True),
        ("lost", 0, set(), False),
        ("absent", 0, set(), False),
    ],
)
def test_the_names_of_the_file_are_told_before_anybody_asks_for_them(
    name: str, ready: int, behind: set[str], by_chain: bool
) -> None:
    found = brain(service("a@h", "big"), service("b@h", "small"), config=NAMES)
    one = model(found, name)
    assert (one.ready, set(one.services), one.by_chain) == (ready, behind, by_chain)
    assert one.configured


def test_what_is_expected_and_fit_nowhere_is_told() -> None:
    def absent(*known: str, healthy: bool = True) -> tuple[str, ...]:
        health = Health.HEALTHY if healthy else Health.UNHEALTHY
        made = [service(f"{n}@h", n, is_healthy=healthy, health_status=health) for n in known]
        return views.stats(brain(*made, config=NAMES), now=1.0, started=0.0).absent_expected

    assert absent() == ("absent", "big")
    assert absent("big") == ("absent",)
    assert absent("big", "absent") == ()
    assert absent("big", "absent", healthy=False) == ("absent", "big")


def test_a_provider_is_unasked_until_a_request_went_to_it() -> None:
    found = with_file(Config(providers={"cloud": cloud(models=("gpt",))}))
    assert (model(found, "gpt").ready, model(found, "gpt").unasked) == (1, 1)
    serve(found, "gpt")
    assert (model(found, "gpt").ready, model(found, "gpt").unasked) == (1, 0)
