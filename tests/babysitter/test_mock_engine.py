"""The mock engine on a real port, in this loop: what clients see and what it counts."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from common.tasks import spawn
from tests.support.mock import MockHere, mock_here

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def mock() -> AsyncIterator[MockHere]:
    async with mock_here(name="mock-a", models=["m", "org/n"]) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, mock: MockHere, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    method = "GET" if body is None else "POST"
    async with http.request(method, mock.url + path, json=body, headers=named) as answer:
        raw = await answer.read()
        kind = answer.content_type
        return answer.status, json.loads(raw) if kind == "application/json" and raw else raw


def events(raw: bytes) -> list[Any]:
    """The data of each event; `[DONE]` stays a text."""
    found = [part.partition("data: ")[2] for part in raw.decode().split("\n\n")[:-1]]
    return [data if data == "[DONE]" else json.loads(data) for data in found]


# ---- answers


async def test_a_chat_is_answered_with_its_name_and_usage(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    status, answer = await ask(http, mock, "/v1/chat/completions", HELLO)
    assert status == 200
    assert answer["system_fingerprint"] == "mock-a"
    assert answer["choices"][0]["message"]["content"].startswith("mock-a: turn 1. hello")
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 16, "total_tokens": 17}
    async with http.post(mock.url + "/chat/completions", json=HELLO) as second:
        assert second.headers["x-mock-name"] == "mock-a"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_streamed_text_equals_plain_text(
    mock: MockHere, http: aiohttp.ClientSession, path: str
) -> None:
    body = {**HELLO, "prompt": "hello", "max_tokens": 9}
    _, plain = await ask(http, mock, path, body)
    _, raw = await ask(http, mock, path, {**body, "stream": True})
    found = events(raw)
    assert found.pop() == "[DONE]"

    def text(choice: dict[str, Any]) -> str:
        return choice.get("text") or (choice.get("delta") or choice).get("content", "")

    streamed = "".join(text(event["choices"][0]) for event in found)
    choice = plain["choices"][0]
    assert streamed == (choice.get("text") or choice["message"]["content"])
    assert found[-1]["choices"][0]["finish_reason"] == choice["finish_reason"] == "length"


async def test_usage_is_streamed_when_asked_for(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True}}
    _, raw = await ask(http, mock, "/v1/chat/completions", body)
    last = events(raw)[-2]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 16
    _, raw = await ask(http, mock, "/v1/chat/completions", {**HELLO, "stream": True})
    assert "usage" not in events(raw)[-2]


async def test_a_conversation_is_remembered(mock: MockHere, http: aiohttp.ClientSession) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "I am Ada"}]},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "who am I"},
    ]
    _, answer = await ask(http, mock, "/v1/chat/completions", {"model": "m", "messages": turns})
    assert "turn 2. who am I Earlier: I am Ada" in answer["choices"][0]["message"]["content"]


async def test_responses_stream_to_completed_and_can_be_asked_for_again(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    body = {"model": "m", "input": "hello"}
    _, made = await ask(http, mock, "/v1/responses", body)
    assert made["status"] == "completed"
    _, again = await ask(http, mock, f"/v1/responses/{made['id']}")
    assert again == made
    assert (await ask(http, mock, "/v1/responses/other"))[0] == 404
    _, raw = await ask(http, mock, "/v1/responses", {**body, "stream": True})
    found = events(raw)
    assert [event["type"] for event in (found[0], found[-1])] == [
        "response.created",
        "response.completed",
    ]
    streamed = "".join(event["delta"] for event in found if event["type"].endswith(".delta"))
    assert streamed == made["output"][0]["content"][0]["text"]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))


async def test_messages_stream_to_message_stop(mock: MockHere, http: aiohttp.ClientSession) -> None:
    _, plain = await ask(http, mock, "/v1/messages", {**HELLO, "max_tokens": 5})
    assert plain["stop_reason"] == "max_tokens"
    _, raw = await ask(http, mock, "/v1/messages", {**HELLO, "max_tokens": 5, "stream": True})
    found = events(raw)
    assert found[0]["type"] == "message_start"
    assert found[-1] == {"type": "message_stop"}
    text = "".join(e["delta"]["text"] for e in found if e["type"] == "content_block_delta")
    assert text == plain["content"][0]["text"]


async def test_embeddings_of_one_and_of_many(mock: MockHere, http: aiohttp.ClientSession) -> None:
    _, one = await ask(http, mock, "/v1/embeddings", {"model": "m", "input": "a"})
    _, many = await ask(http, mock, "/v1/embeddings", {"model": "m", "input": ["b", "a"]})
    _, ids = await ask(http, mock, "/v1/embeddings", {"model": "m", "input": [1, 2]})
    assert many["data"][1]["embedding"] == one["data"][0]["embedding"]
    assert len(ids["data"]) == 1
    _, legacy = await ask(http, mock, "/embedding", {"content": "a"})
    assert legacy == [{"index": 0, "embedding": [one["data"][0]["embedding"]]}]


async def test_model_lists_of_every_kind(mock: MockHere, http: aiohttp.ClientSession) -> None:
    for path in ("/v1/models", "/models"):
        _, listed = await ask(http, mock, path)
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["m", "org/n"]
        assert listed["data"][0]["object"] == "model"
        assert listed["data"][0]["owned_by"] == "mock-a"
        assert listed["data"][0]["max_model_len"] == 4096
    _, tags = await ask(http, mock, "/api/tags")
    assert tags["models"][0]["name"] == "m"
    assert re.fullmatch("[0-9a-f]{64}", tags["models"][0]["digest"])
    async with http.get(mock.url + "/v1/models/org%2Fn") as one:
        assert (await one.json())["id"] == "org/n"


async def test_a_transcription_names_its_model(mock: MockHere, http: aiohttp.ClientSession) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"\0" * 1234, filename="a.wav")
    form.add_field("model", "org/n")  # after the file, as some clients send it
    async with http.post(mock.url + "/v1/audio/transcriptions", data=form) as answer:
        found = await answer.json()
    assert found == {"text": "mock-a heard 1234 bytes with org/n", "model": "org/n"}


async def test_a_websocket_says_back_what_it_hears(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect(mock.url + "/v1/realtime?model=m") as client:
        await client.send_str("hello")
        assert (await client.receive()).data == "hello"
        await client.send_bytes(b"\0" * 70_000)
        assert (await client.receive()).data == b"\0" * 70_000
        assert await client.close()
    stats = await mock.saw(in_flight=0, completions=1)
    assert stats["by_model"] == {"m": 1}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(mock.url + "/v1/realtime?model=other")
    assert refused.value.status == 404


async def test_anything_else_comes_back_as_it_arrived(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    _, echo = await ask(http, mock, "/v1/rerank?top=3", {"model": "m"}, x_probe="7")
    assert (echo["method"], echo["path"], echo["query"]) == ("POST", "/v1/rerank", "top=3")
    assert ["x-probe", "7"] in echo["headers"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "m"}, 400),
        ({"model": "m", "messages": []}, 400),
        ({"model": "m", "messages": ["hello"]}, 400),
        ({"model": 7, "messages": []}, 400),
        ([1], 400),
        ({**HELLO, "model": "other"}, 404),
    ],
)
async def test_what_an_engine_would_refuse_is_refused(
    mock: MockHere, http: aiohttp.ClientSession, body: Any, status: int
) -> None:
    found, answer = await ask(http, mock, "/v1/chat/completions", body)
    assert found == status
    assert answer["error"]["message"]


async def test_a_body_that_is_not_json_is_400(mock: MockHere, http: aiohttp.ClientSession) -> None:
    for raw in (b"{", b"\xff", b"[" * 100_000):
        async with http.post(mock.url + "/v1/chat/completions", data=raw) as answer:
            assert answer.status == 400


async def test_a_key_is_wanted_where_one_is_set(http: aiohttp.ClientSession) -> None:
    async with mock_here(models=["m"], api_key="k") as mock:
        assert (await ask(http, mock, "/v1/models"))[0] == 401
        assert (await ask(http, mock, "/health"))[0] == 200
        status, _ = await ask(http, mock, "/v1/models", Authorization="Bearer k")
        assert status == 200


async def test_while_it_loads_all_is_503(http: aiohttp.ClientSession) -> None:
    async with mock_here(models=["m"], load_ms=60_000) as mock:
        assert (await ask(http, mock, "/health"))[0] == 503
        assert (await ask(http, mock, "/v1/chat/completions", HELLO))[0] == 503
        assert (await ask(http, mock, "/mock/stats"))[0] == 200


# ---- counting, and clients that leave


async def test_beyond_its_limit_requests_wait_their_turn(http: aiohttp.ClientSession) -> None:
    async with mock_here(models=["m"], max_concurrency=2) as mock:
        first = [
            spawn(ask(http, mock, "/v1/chat/completions", HELLO, x_mock_hang="before"), "ask")
            for _ in range(2)
        ]
        await mock.saw(in_flight=2)
        asked = [spawn(ask(http, mock, "/v1/chat/completions", HELLO), "ask") for _ in range(5)]
        await mock.saw(queued=5)
        for one in first:
            one.cancel()
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}
        stats = await mock.saw(in_flight=0, queued=0, completions=5)
        assert stats["in_flight_max"] == 2
        assert stats["queued_max"] == 5


async def test_a_long_queue_drains_without_a_deep_stack(http: aiohttp.ClientSession) -> None:
    async with mock_here(models=["m"], max_concurrency=1) as mock:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as many:
            first = spawn(
                ask(many, mock, "/v1/chat/completions", HELLO, x_mock_hang="before"), "ask"
            )
            await mock.saw(in_flight=1)
            rest = [
                spawn(ask(many, mock, "/v1/chat/completions", HELLO), "ask") for _ in range(300)
            ]
            await mock.saw(queued=300)
            first.cancel()
            assert {status for status, _ in await asyncio.gather(*rest)} == {200}
        await mock.saw(in_flight=0, queued=0, completions=300)


@pytest.mark.parametrize(
    ("phase", "headers"),
    [
        ("waiting", {"x-mock-hang": "before"}),
        ("streaming", {"x-mock-hang": "middle"}),
        ("streaming", {"x-mock-pace-ms": "1000"}),
        ("streaming", {"x-mock-tokens": "100000000"}),
        ("streaming", {"x-mock-endless-head": "1"}),
        ("waiting", {"x-mock-delay-ms": "60000"}),
    ],
)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_client_that_leaves_is_noticed_in_every_phase(
    mock: MockHere, phase: str, headers: dict[str, str], how: str
) -> None:
    reader, writer = await asyncio.open_connection(mock.host, mock.port)
    writer.write(raw_chat(stream=True, **headers))
    await mock.saw(in_flight=1)
    if phase == "streaming":
        await reader.read(100)
    leave(writer, how)
    stats = await mock.saw(in_flight=0, aborts__total=1)
    assert stats["aborts"][phase] == 1
    assert stats["abort_log"][0]["phase"] == phase
    assert stats["completions"] == 0
    await mock.saw(connections__open=0)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_client_that_leaves_the_queue_is_noticed(how: str) -> None:
    async with mock_here(models=["m"], max_concurrency=1) as mock:
        _, busy = await asyncio.open_connection(mock.host, mock.port)
        busy.write(raw_chat(**{"x-mock-hang": "before"}))
        await mock.saw(in_flight=1)
        _, waiting = await asyncio.open_connection(mock.host, mock.port)
        waiting.write(raw_chat())
        await mock.saw(queued=1)
        leave(waiting, how)
        stats = await mock.saw(queued=0, aborts__queued=1)
        assert stats["in_flight"] == 1
        leave(busy, how)
        await mock.saw(in_flight=0, aborts__waiting=1)


async def test_a_client_that_leaves_while_it_sends_is_noticed(mock: MockHere) -> None:
    _, writer = await asyncio.open_connection(mock.host, mock.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
    await mock.saw(connections__open=1)
    leave(writer, "fin")
    await mock.saw(aborts__receiving=1, requests=0)


async def test_reset_sets_counts_and_faults_back(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    await ask(http, mock, "/v1/chat/completions", HELLO)
    assert (await ask(http, mock, "/mock/faults", {"status": 500}))[1] == {"rules": 1}
    assert (await ask(http, mock, "/v1/chat/completions", HELLO))[0] == 500
    assert (await ask(http, mock, "/health"))[0] == 200
    assert (await ask(http, mock, "/mock/reset", {}))[0] == 200
    assert (await mock.stats())["requests"] == 0
    assert (await ask(http, mock, "/v1/chat/completions", HELLO))[0] == 200
    assert (await ask(http, mock, "/mock/faults", {"bogus": 1}))[0] == 400


async def test_control_paths_are_counted_apart(mock: MockHere, http: aiohttp.ClientSession) -> None:
    await ask(http, mock, "/health")
    await ask(http, mock, "/v1/models")
    await ask(http, mock, "/v1/chat/completions", HELLO, x_request_id="abc")
    stats = await mock.stats()
    assert stats["requests"] == 1
    assert stats["by_path"] == {"/v1/chat/completions": 1}
    assert stats["control_requests"] == {"/health": 1, "/v1/models": 1}
    assert stats["ids"] == ["abc"]
    (line,) = mock.lines
    assert (
        " mock-a request id=abc model=m path=/v1/chat/completions status=200 outcome=done" in line
    )


async def test_metrics_tell_what_waits_and_runs(
    mock: MockHere, http: aiohttp.ClientSession
) -> None:
    await ask(http, mock, "/v1/chat/completions", HELLO)
    _, raw = await ask(http, mock, "/metrics")
    assert b'mock_requests_total{model="m"} 1' in raw
    assert b"vllm:num_requests_waiting 0" in raw
    assert b"vllm:kv_cache_usage_perc 0.0000" in raw


# ---- the connection itself


async def test_a_reset_is_an_rst(mock: MockHere) -> None:
    reader, writer = await asyncio.open_connection(mock.host, mock.port)
    writer.write(raw_chat(**{"x-mock-reset": "before"}))
    with pytest.raises(ConnectionResetError):
        await reader.read()
    leave(writer, "fin")


async def test_a_cut_is_a_fin_after_what_was_sent(mock: MockHere) -> None:
    raw = await conversation(mock, raw_chat(stream=True, **{"x-mock-cut": "chunk"}))
    assert raw.count(b"data: ") == 3
    assert not raw.endswith(b"0\r\n\r\n")
    assert (await mock.stats())["faulted"] == 1


async def test_pipelined_requests_are_answered_in_order(mock: MockHere) -> None:
    both = raw_chat(**{"x-mock-delay-ms": "20"}) + raw_chat(close=True)
    raw = await conversation(mock, both)
    assert raw.count(b"HTTP/1.1 200 OK") == 2
    assert raw.index(b"chatcmpl-mock-a-1") < raw.index(b"chatcmpl-mock-a-2")


async def test_a_used_connection_can_be_dropped_without_a_byte(mock: MockHere) -> None:
    first, second = raw_chat(), raw_chat(**{"x-mock-drop-reused": "1"})
    assert (await conversation(mock, first + second)).count(b"HTTP/1.1") == 1
    fresh = await conversation(mock, raw_chat(close=True, **{"x-mock-drop-reused": "1"}))
    assert fresh.startswith(b"HTTP/1.1 200")


async def test_http_1_0_is_closed_after_its_answer(mock: MockHere) -> None:
    raw = await conversation(mock, raw_chat(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert b"chunked" not in raw
    assert raw.endswith(b"data: [DONE]\n\n")


async def test_what_is_not_http_gets_400_and_a_close(mock: MockHere) -> None:
    assert (await conversation(mock, b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_expect_is_answered_before_the_body(mock: MockHere) -> None:
    head, _, body = raw_chat(close=True, expect="100-continue").partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection(mock.host, mock.port)
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
    leave(writer, "fin")


async def test_a_body_can_be_read_slowly(mock: MockHere, http: aiohttp.ClientSession) -> None:
    big = {**HELLO, "padding": "x" * 1_000_000}
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, _ = await ask(http, mock, "/v1/chat/completions", big, x_mock_slow_read="5000000")
    assert status == 200
    assert loop.time() - began >= 0.1  # a million bytes are 0.2 s; the last read pauses no more


async def test_idle_connections_end_where_so_told() -> None:
    async with mock_here(models=["m"], idle_close_ms=20) as mock:
        # Sent before the engine takes the connection: there is no idle time ahead of it.
        client = socket.create_connection((mock.host, mock.port))
        client.sendall(raw_chat())
        reader, writer = await asyncio.open_connection(sock=client)
        raw = await asyncio.wait_for(reader.read(), 30)
        leave(writer, "fin")
        assert raw.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" not in raw


def raw_chat(stream: bool = False, close: bool = False, **headers: str) -> bytes:
    body = json.dumps({**HELLO, "stream": stream}).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: mock",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
        *(["connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def conversation(mock: MockHere, raw: bytes) -> bytes:
    """All that comes back until the engine closes."""
    reader, writer = await asyncio.open_connection(mock.host, mock.port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 30)
    leave(writer, "fin")
    return answer


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "fin":
        writer.close()
    else:
        writer.transport.abort()
