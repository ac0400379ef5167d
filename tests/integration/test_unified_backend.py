"""Unified backend: providers of four types behind one URL, as one client uses them."""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct

from tests.support.fake_provider import Authority, FakeProvider, fake_provider
from tests.support.fleet import Answer, Fleet, Part, answer_of, ask, chat
from tests.support.load import many, one, session, statuses
from tests.support.mock import ProcessMock, start_mock
from tests.support.until import until_sync

pytestmark = pytest.mark.real

CHAT = "/v1/chat/completions"
KEY = "sk-live-55b0c7719e"
#: Provider to its type, the model it serves, and how long an answer of it may take.
ENGINES = {"ollama": "qwen3", "vllm": "llama-70b", "llama_cpp": "phi"}
LIMITS_S = {"qwen3": 40.0, "llama-70b": 30.0, "phi": 35.0, "gpt-a": 45.0}
#: Names of their own for the same models: how long a hanging engine is waited for.
HURRIED_S = {"qwen3-hurried": 2.0, "llama-70b-hurried": 1.0, "phi-hurried": 1.5}
CLOUD = "gpt-a"
MODELS = (*ENGINES.values(), CLOUD)
#: A name of its own for phi, of which only so many may be asked in a minute.
FEW, FEW_RPM = "phi-few", 6
#: Another one, whose answers are kept.
KEPT = "phi-kept"


class Backend(Struct):
    router: Part
    engines: dict[str, ProcessMock]
    cloud: FakeProvider
    fleet: Fleet
    providers: dict[str, Any]

    @property
    def url(self) -> str:
        return self.router.url

    def chat(self, model: str, text: str = "hi", **more: Any) -> Answer:
        return answer_of(self.url + CHAT, chat(model, text, **more))

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.router.get("/stats")
        return found


async def _start(fleet: Fleet) -> dict[str, ProcessMock]:
    started = await asyncio.gather(
        *(start_mock(fleet.processes, name=n, models=[m]) for n, m in ENGINES.items())
    )
    return {engine.name: engine for engine in started}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("unified")
    key = folder / "cloud.key"
    key.write_text(KEY)
    key.chmod(0o600)
    with (
        fake_provider(key=KEY, models=[CLOUD], authority=Authority(folder)) as cloud,
        Fleet(folder) as fleet,
    ):
        engines = asyncio.run(_start(fleet))
        providers: dict[str, Any] = {
            name: {"type": name, "base_url": engines[name].url, "models": [model]}
            for name, model in ENGINES.items()
        }
        providers["openai"] = cloud.table(api_key_file=str(key))
        models: dict[str, Any] = {
            name: {"timeouts": {"total_s": limit_s}} for name, limit_s in LIMITS_S.items()
        }
        models[KEPT] = {"backend_model": "phi", "cache": True}
        models[FEW] = {"backend_model": "phi", "limits": {"rpm": FEW_RPM}}
        for name, limit_s in HURRIED_S.items():
            same = name.removesuffix("-hurried")
            models[name] = {"backend_model": same, "timeouts": {"total_s": limit_s}}
        router = fleet.router(registries=[], providers=providers, models=models)
        yield Backend(router, engines, cloud, fleet, providers)


def content(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    text: str = answer.body["choices"][0]["message"]["content"]
    return text


def events(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in answer.body.splitlines() if line]


def text_of(chunks: list[str]) -> str:
    """What a stream said, without its [DONE]."""
    choices = [choice for chunk in chunks[:-1] for choice in json.loads(chunk)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_the_gateway_answers(backend: Backend) -> None:
    status, health = ask(backend.url + "/health")
    assert (status, health["status"], health["healthy_services"]) == (200, "healthy", "4/4")


def test_the_model_list_is_not_empty(backend: Backend) -> None:
    for path in ("/models", "/v1/models"):
        listed = backend.router.get(path)
        assert listed["object"] == "list"
        assert [one["id"] for one in listed["data"]] == sorted([*MODELS, *HURRIED_S, FEW, KEPT])


def test_an_exact_model_chats(backend: Backend) -> None:
    answer = backend.chat("llama-70b", "what is the time")
    assert content(answer).startswith("vllm: turn 1. what is the time")
    assert answer.body["model"] == "llama-70b"
    assert answer.body["usage"]["total_tokens"] > 0


def test_providers_of_different_types_are_routable(backend: Backend) -> None:
    served = {model: backend.chat(model).headers["x-creche-service"] for model in MODELS}
    assert served == {**{model: name for name, model in ENGINES.items()}, CLOUD: "openai"}
    assert backend.cloud.seen[-1].target == CHAT
    assert backend.cloud.seen[-1].json["model"] == CLOUD


def test_an_unknown_model_gets_a_fallbacks_answer_where_there_is_one(backend: Backend) -> None:
    router = backend.fleet.router(
        name="with-default", registries=[], providers=backend.providers, default="phi"
    )
    answer = answer_of(router.url + CHAT, chat("no-such-model"))
    assert content(answer).startswith("llama_cpp: ")
    assert answer.headers["x-creche-model"] == answer.body["model"] == "phi"
    router.stop()


def test_an_unknown_model_gets_an_error_object_where_there_is_none(backend: Backend) -> None:
    answer = backend.chat("no-such-model")
    assert answer.status == 503
    assert answer.headers["x-should-retry"] == "false"
    assert answer.body["error"] == {
        "message": "No healthy services available for model 'no-such-model'",
        "type": "server_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("model", ENGINES.values())
def test_context_is_kept_over_two_turns(backend: Backend, model: str) -> None:
    said = [{"role": "user", "content": "my name is Ana"}]
    first = content(answer_of(backend.url + CHAT, {"model": model, "messages": said}))
    assert "turn 1." in first
    said += [
        {"role": "assistant", "content": first},
        {"role": "user", "content": "what is my name"},
    ]
    second = content(answer_of(backend.url + CHAT, {"model": model, "messages": said}))
    assert "turn 2. what is my name Earlier: my name is Ana" in second


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_cache_hit_takes_under_half_of_the_misss_time_with_the_same_content(
    backend: Backend, more: dict[str, Any]
) -> None:
    engine = backend.engines["llama_cpp"]

    def timed() -> tuple[float, Answer]:
        began = time.monotonic()
        body = chat(KEPT, "again and again", temperature=0, **more)
        answer = answer_of(backend.url + CHAT, body, {"x-mock-delay-ms": "400"})
        return time.monotonic() - began, answer

    miss_s, miss = timed()
    before = ask(f"{engine.url}/mock/stats")[1]["requests"]
    # The quickest of several: a machine may stand still during one.
    hits = [timed() for _ in range(10)]
    hit = hits[0][1]
    assert [one.status for one in (miss, hit)] == [200, 200]
    assert [one.headers["x-creche-cache"] for one in (miss, hit)] == ["miss", "hit"]
    assert hit.body == miss.body
    assert hit.headers["content-type"] == miss.headers["content-type"]
    assert hit.headers["x-request-id"] != miss.headers["x-request-id"]
    assert min(hit_s for hit_s, _ in hits) < miss_s / 2
    if not more:
        assert content(hit).startswith("llama_cpp: ")
    else:
        assert events(hit)[-1] == "[DONE]"
    assert ask(f"{engine.url}/mock/stats")[1]["requests"] == before, "the engine was not asked"


def test_embeddings_are_kept_too(backend: Backend) -> None:
    body = {"model": KEPT, "input": ["one", "two"]}
    found = [answer_of(backend.url + "/v1/embeddings", body) for _ in range(2)]
    assert [one.headers["x-creche-cache"] for one in found] == ["miss", "hit"]
    assert found[0].body == found[1].body


def test_a_request_that_states_no_temperature_is_asked_each_time(backend: Backend) -> None:
    for _ in range(2):
        assert "x-creche-cache" not in backend.chat(KEPT, "again").headers


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_has_data_chunks_and_done(backend: Backend, model: str) -> None:
    found = events(backend.chat(model, stream=True))
    assert found[-1] == "[DONE]"
    chunks = [json.loads(one) for one in found[:-1]]
    assert len(chunks) >= 2
    assert all("choices" in chunk for chunk in chunks)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_equals_plain(backend: Backend, model: str) -> None:
    plain = content(backend.chat(model, "tell me"))
    assert text_of(events(backend.chat(model, "tell me", stream=True))) == plain


@pytest.mark.parametrize(
    ("model", "status"), [("../../etc/passwd", 503), ("phi ", 503), (7, 400), (["phi"], 400)]
)
def test_an_invalid_model_is_an_error(backend: Backend, model: Any, status: int) -> None:
    before = asked(backend)
    answer = backend.chat(model)
    assert answer.status == status, answer.body
    assert answer.headers["x-creche-error"] == "router"
    assert answer.body["error"].keys() == {"message", "type", "param", "code"}
    assert asked(backend) == before, "no engine was bothered"


def asked(backend: Backend) -> list[int]:
    """How many requests each engine has had."""
    stats = [ask(f"{engine.url}/mock/stats")[1] for engine in backend.engines.values()]
    return [one["requests"] for one in stats]


@pytest.mark.parametrize("model", ENGINES.values())
def test_missing_messages_are_a_400(backend: Backend, model: str) -> None:
    for body in ({"model": model}, {"model": model, "messages": []}):
        answer = answer_of(backend.url + CHAT, body)
        assert answer.status in (400, 422)
        assert "messages is required" in answer.body["error"]["message"]
    services = backend.stats()["services"].values()
    assert {service["breaker"] for service in services} == {"closed"}


def test_a_client_timeout_of_1_ms_harms_nothing(backend: Backend) -> None:
    engine = backend.engines["vllm"]
    before = backend.stats()
    clients = 5
    for _ in range(clients):
        client = http.client.HTTPConnection("127.0.0.1", backend.router.port, timeout=30)
        client.connect()
        assert client.sock is not None
        client.sock.settimeout(0.001)
        late = {"content-type": "application/json", "x-mock-delay-ms": "20000"}
        with pytest.raises(TimeoutError):
            client.request("POST", CHAT, json.dumps(chat("llama-70b")), late)
            client.getresponse()
        client.close()

    def over() -> bool:
        return bool(backend.stats()["cancelled"] == before["cancelled"] + clients)

    until_sync(over, 30, "the router saw them leave")
    until_sync(lambda: ask(f"{engine.url}/mock/stats")[1]["in_flight"] == 0, 30, "the engine, too")
    after = backend.stats()
    assert after["failed_requests"] == before["failed_requests"]
    assert after["services"]["vllm"]["error_count"] == before["services"]["vllm"]["error_count"]
    assert after["services"]["vllm"]["in_flight"] == 0
    assert content(backend.chat("llama-70b")).startswith("vllm: ")


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_comes_within_the_limit_of_its_providers_type(
    backend: Backend, model: str
) -> None:
    began = time.monotonic()
    answer = answer_of(backend.url + CHAT, chat(model), {"x-mock-delay-ms": "100"})
    assert answer.status == 200
    assert time.monotonic() - began < LIMITS_S[model]


async def test_what_takes_longer_than_its_types_limit_is_told_so(backend: Backend) -> None:
    async def hang(model: str) -> tuple[float, int, str]:
        began = time.monotonic()
        async with session() as http:
            reply = await one(http, backend.url, chat(model), {"x-mock-hang": "before"})
        code: str = json.loads(reply.text)["error"]["code"]
        return time.monotonic() - began, reply.status, code

    for limit_s, (took_s, status, code) in zip(
        HURRIED_S.values(), await asyncio.gather(*map(hang, HURRIED_S)), strict=True
    ):
        assert (status, code) == (504, "upstream_timeout")
        assert took_s >= limit_s
    replies = await many(backend.url, 3, model="llama-70b")
    assert statuses(replies) == {200: 3}, "the next ones are answered"


async def test_5_at_once_are_all_answered(backend: Backend) -> None:
    wanted = (*MODELS, "phi")
    slow = {"x-mock-delay-ms": "50"}
    async with session() as http:
        replies = await asyncio.gather(
            *(one(http, backend.url, chat(model), slow) for model in wanted)
        )
    assert statuses(replies) == {200: 5}
    assert [reply.service for reply in replies] == [*ENGINES, "openai", "llama_cpp"]


async def test_10_rapid_ones_are_answered(backend: Backend) -> None:
    replies = await many(backend.url, 10, model="phi", at_once=10)
    assert statuses(replies) == {200: 10}


async def test_10_rapid_ones_of_a_limited_model_are_answered_or_429(backend: Backend) -> None:
    began = time.monotonic()
    replies = await many(backend.url, 10, model=FEW, at_once=10)
    found = statuses(replies)
    assert found.keys() == {200, 429}
    # One more every ten seconds, should it take that long.
    assert FEW_RPM <= found[200] <= FEW_RPM + 1 + (time.monotonic() - began) * FEW_RPM / 60
    refused = json.loads(next(reply.text for reply in replies if reply.status == 429))
    assert refused["error"]["code"] == "rate_limit_exceeded"
    stats = await asyncio.to_thread(ask, f"{backend.engines['llama_cpp'].url}/mock/stats")
    assert stats[1]["by_model"].keys() == {"phi"}
