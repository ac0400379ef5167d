"""Streams that do not begin, through real processes and the official client: comments keep the
client, a second upstream answers in the place of one that hangs."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.fleet import Fleet, Part, ask, chat, mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

STREAMS = 20


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("slow")) as fleet:
        fleet.registry()
        fleet.babysitter("sitter", [mock("a", "pair"), mock("b", "pair"), mock("c", "alone")])
        fleet.router(
            retry={"hedge_percent": 100},
            models={
                "pair": {"hedge_after_ms": 100},
                "alone": {"timeouts": {"comment_every_s": 0.1}},
            },
        )
        fleet.wait_models("pair", "alone")
        for name in "abc":
            fleet.wait_service(f"{name}@test", healthy=True)
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def engine(fleet: Fleet, name: str) -> str:
    url: str = fleet.parts["sitter"].get(f"/engines/{name}")["url"]
    return url


def said(client: openai.OpenAI, model: str) -> str:
    with client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], stream=True
    ) as stream:
        return "".join(one.choices[0].delta.content or "" for one in stream if one.choices)


def test_the_client_reads_past_the_comments(fleet: Fleet, client: openai.OpenAI) -> None:
    faults = f"{engine(fleet, 'c')}/mock/faults"
    ask(faults, [{"delay_ms": 500}])
    late = said(client, "alone")
    _, raw = ask(f"{fleet.url}/v1/chat/completions", chat("alone", "hello", stream=True))
    assert raw.count(": keep-alive\n\n") >= 2
    assert ": x-creche-service: c@test\n" in raw
    ask(faults, [])
    assert late and said(client, "alone") == late


def test_the_client_hears_an_error_behind_the_comments(fleet: Fleet, client: openai.OpenAI) -> None:
    faults = f"{engine(fleet, 'c')}/mock/faults"
    ask(faults, [{"delay_ms": 300, "status": 400}])
    try:
        with pytest.raises(openai.APIError) as refused:
            said(client, "alone")
        assert not isinstance(refused.value, openai.APIStatusError), "it was told in the stream"
        body: Any = refused.value.body
        assert body["message"] and body["message"] == refused.value.message
    finally:
        ask(faults, [])


def test_one_engine_hangs_and_every_stream_is_answered(fleet: Fleet, client: openai.OpenAI) -> None:
    router: Part = fleet.parts["router"]
    ask(f"{engine(fleet, 'a')}/mock/faults", [{"hang": "before"}])
    try:
        assert all(said(client, "pair") for _ in range(STREAMS))
    finally:
        ask(f"{engine(fleet, 'a')}/mock/faults", [])
    _, metrics = ask(f"{router.url}/metrics")
    [won] = [x for x in metrics.splitlines() if x.startswith("creche_hedges_total{")]
    assert 'model="pair",won="true"' in won
    assert float(won.rpartition(" ")[2]) >= STREAMS / 4
    assert 'creche_attempts_total{outcome="cancelled",service="a@test"}' in metrics
    until_sync(
        lambda: ask(f"{engine(fleet, 'a')}/mock/stats")[1]["in_flight"] == 0, 10, "it is let go"
    )
    services = {one["name"]: one for one in router.get("/services")["services"]}
    assert services["a@test"]["error_count"] == 0, "nobody is blamed"
    assert '"hedged":"won"' in router.process.log
