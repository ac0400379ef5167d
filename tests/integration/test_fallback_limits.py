"""Limits and chains together: what is over its limit is answered by what follows it, and what a
request held comes back, whichever way it ended."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
from msgspec import Struct

from tests.support.fake_provider import FakeProvider, fake_provider
from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat
from tests.support.mock import ProcessMock, start_mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"


class House(Struct):
    router: Part
    engine: ProcessMock
    cloud: FakeProvider
    tired: FakeProvider

    def chat(self, model: str) -> Answer:
        return answer_of(self.router.url + CHAT, chat(model))

    def stream(self, model: str) -> HTTPResponse:
        """One that goes on for longer than a test; close it to leave."""
        request = urllib.request.Request(
            self.router.url + CHAT,
            json.dumps(chat(model, stream=True)).encode(),
            {"content-type": "application/json", "x-mock-pace-ms": "5000"},
        )
        opened: HTTPResponse = urllib.request.urlopen(request, timeout=20)
        assert opened.readline().startswith(b"data: {")
        return opened

    def explained(self, model: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(f"{self.router.url}/explain?model={model}")[1]["targets"]
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with (
        fake_provider(models=["cloud-m"]) as cloud,
        fake_provider(models=["tired-m"]) as tired,
        Fleet(tmp_path_factory.mktemp("limits")) as fleet,
    ):
        served = ["spare", "few", "one", "one-chained"]
        engine = asyncio.run(start_mock(fleet.processes, name="engine", models=served))
        router = fleet.router(
            registries=[],
            static_services=[
                {
                    "name": "engine",
                    "host": "127.0.0.1",
                    "port": engine.port,
                    "metadata": {"models": served},
                }
            ],
            providers={
                "cloud": cloud.table(limits={"rpm": 2}),
                "tired": tired.table(),
            },
            models={
                "few": {"limits": {"rpm": 2}, "fallbacks": ["spare"]},
                "cloud-m": {"fallbacks": ["spare"]},
                "tired-m": {"fallbacks": ["spare"]},
                "one": {"limits": {"max_concurrency": 1}, "fallbacks": []},
                "one-chained": {"limits": {"max_concurrency": 1}, "fallbacks": ["spare"]},
            },
        )
        yield House(router, engine, cloud, tired)


NOW_OR_NEVER = {"x-request-timeout": "0"}


def served(answer: Answer) -> tuple[int, str, str | None, str]:
    headers = answer.headers
    return (
        answer.status,
        answer.body["model"],
        headers.get("x-creche-fallback"),
        headers["x-creche-attempts"],
    )


def test_a_model_over_its_limit_is_answered_by_its_chain(house: House) -> None:
    assert [served(house.chat("few")) for _ in range(4)] == [
        (200, "few", None, "1"),
        (200, "few", None, "1"),
        (200, "spare", "1", "1"),
        (200, "spare", "1", "1"),
    ]


def test_a_provider_over_its_limit_is_spared_and_the_chain_answers(house: House) -> None:
    assert [served(house.chat("cloud-m")) for _ in range(4)] == [
        (200, "cloud-m", None, "1"),
        (200, "cloud-m", None, "1"),
        (200, "spare", "1", "1"),
        (200, "spare", "1", "1"),
    ]
    assert len(house.cloud.seen) == 2
    cloud = house.explained("cloud-m")[0]["candidates"][0]
    assert cloud["state"] == "refused"
    assert cloud["why"].startswith("limit of 2 requests a minute reached, room in ")


def test_a_providers_own_429_is_answered_by_the_chain_and_it_rests_as_long_as_it_said(
    house: House,
) -> None:
    assert served(house.chat("tired-m")) == (200, "tired-m", None, "1")
    house.tired.fail(status=429, headers={"Retry-After": "400"})
    assert served(house.chat("tired-m")) == (200, "spare", "1", "2")
    before = len(house.tired.seen)
    assert [served(house.chat("tired-m")) for _ in range(3)] == [(200, "spare", "1", "1")] * 3
    assert len(house.tired.seen) == before, "it rests"
    why: str = house.explained("tired-m")[0]["candidates"][0]["why"]
    assert 300 < int(why.removeprefix("rests ").removesuffix(" s more")) <= 400


def test_a_place_comes_back_when_its_client_leaves(house: House) -> None:
    with house.stream("one"):
        refused = answer_of(house.router.url + CHAT, chat("one"), NOW_OR_NEVER)
        assert (refused.status, refused.body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "Every place for model 'one' is taken" in refused.body["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
    until_sync(lambda: house.chat("one").status == 200, what="the place is free again")
    for _ in range(3):
        assert house.chat("one").status == 200


def test_a_place_comes_back_when_the_engine_fails(house: House) -> None:
    for _ in range(3):
        broken = answer_of(house.router.url + CHAT, chat("one"), {"x-mock-status": "400"})
        assert broken.status == 400
        cut = answer_of(house.router.url + CHAT, chat("one"), {"x-mock-garbage-head": "1"})
        assert cut.status == 502
        assert house.chat("one").status == 200


def test_while_the_only_place_is_taken_the_chain_answers_who_will_not_wait(house: House) -> None:
    with house.stream("one-chained"):
        hasty = answer_of(house.router.url + CHAT, chat("one-chained"), NOW_OR_NEVER)
        assert served(hasty) == (200, "spare", "1", "1")
    until_sync(
        lambda: house.chat("one-chained").body["model"] == "one-chained", what="its own again"
    )
