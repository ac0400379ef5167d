"""Extraction, 6, and the pure part of Proxy: what a request names, what is listed."""

from collections import Counter

from router import views
from router.envelope import read
from router.errors import Problem
from router.route import resolve
from tests.router.making import begin, brain, serve, service

CHAT = "/v1/chat/completions"


def test_model_from_a_post_body() -> None:
    body = b'{"messages": [], "model": "code"}'
    assert read(resolve("POST", CHAT), "application/json", body, CHAT).model == "code"


def test_unknown_models_text() -> None:
    problem = begin(brain(service("a@h", "m")), "nothing").next(0.0)
    assert isinstance(problem, Problem)
    assert problem.message == "No healthy services available for model 'nothing'"


def test_no_model_goes_in_rotation() -> None:
    found = brain(service("a@h", "m"), service("b@h", "n"), service("c@h", "o"))
    assert Counter(serve(found) for _ in range(9)) == {"a@h": 3, "b@h": 3, "c@h": 3}


def test_get_extracts_nothing() -> None:
    assert not resolve("GET", CHAT).takes_model
    assert read(resolve("GET", CHAT), "application/json", b'{"model": "m"}', CHAT).model is None


def test_invalid_json_degrades_to_no_model() -> None:
    envelope = read(resolve("POST", CHAT), "application/json", b'{"model": "m"', CHAT)
    found = brain(service("a@h", "other"))
    assert serve(found, envelope=envelope) == "a@h"


def test_models_empty_is_an_empty_list() -> None:
    assert views.model_list(brain(), 0.0) == []


def test_weights_1_and_2_share_one_to_two() -> None:
    found = brain(service("a@h", "m", weight=1.0), service("b@h", "m", weight=2.0))
    assert Counter(serve(found, "m") for _ in range(30)) == {"a@h": 10, "b@h": 20}
