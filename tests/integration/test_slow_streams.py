"""Streams that do not begin, through real processes and the official client: comments keep the
client, a second upstream answers in the place of one that hangs."""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import openai
import pytest

from tests.support.fleet import Fleet, Part, ask, chat, mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

T = TypeVar("T")
STREAMS = 20
COMMENT = b": keep-alive\n\n"


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


def late(fleet: Fleet, asks: Callable[[], T]) -> tuple[T, str]:
    """What `asks` had of an engine that stands still until its stream has had comments, and what
    came over the wire to a second client, which asked after it."""
    pid = fleet.parts["sitter"].get("/engines/c")["pid"]
    request = urllib.request.Request(
        f"{fleet.url}/v1/chat/completions",
        json.dumps(chat("alone", "hello", stream=True)).encode(),
        {"content-type": "application/json"},
    )
    with ThreadPoolExecutor() as threads:
        os.kill(pid, signal.SIGSTOP)
        try:
            first = threads.submit(asks)
            until_sync(lambda: asked(fleet) == 1, what="the first client has asked")
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = b""
                while text.count(COMMENT) < 2:
                    part = answer.read1()
                    assert part, text
                    text += part
                os.kill(pid, signal.SIGCONT)
                text += answer.read()
        finally:
            os.kill(pid, signal.SIGCONT)
        return first.result(30), text.decode()


def asked(fleet: Fleet) -> int:
    """Requests for "alone" that run."""
    models = fleet.parts["router"].get("/stats")["models"]
    found: int = models["alone"]["in_flight"] if "alone" in models else 0
    return found


def test_the_client_reads_past_the_comments(fleet: Fleet, client: openai.OpenAI) -> None:
    heard, raw = late(fleet, lambda: said(client, "alone"))
    assert ": x-creche-service: c@test\n" in raw
    assert heard and said(client, "alone") == heard


def test_the_client_hears_an_error_behind_the_comments(fleet: Fleet, client: openai.OpenAI) -> None:
    def refused() -> openai.APIError:
        with pytest.raises(openai.APIError) as found:
            said(client, "alone")
        return found.value

    faults = f"{engine(fleet, 'c')}/mock/faults"
    ask(faults, [{"status": 400}])
    try:
        error, _ = late(fleet, refused)
        assert not isinstance(error, openai.APIStatusError), "it was told in the stream"
        body: Any = error.body
        assert body["message"] and body["message"] == error.message
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
    hedges = 'creche_hedges_total{model="pair",won="true"}'
    [won] = [one for one in metrics.splitlines() if one.startswith(hedges)]
    assert float(won.rpartition(" ")[2]) >= STREAMS / 4
    assert 'creche_attempts_total{outcome="cancelled",service="a@test"}' in metrics
    until_sync(
        lambda: ask(f"{engine(fleet, 'a')}/mock/stats")[1]["in_flight"] == 0, what="it is let go"
    )
    services = {one["name"]: one for one in router.get("/services")["services"]}
    assert services["a@test"]["error_count"] == 0, "nobody is blamed"
    until_sync(lambda: '"hedged":"won"' in router.process.log, what="its line is written")
