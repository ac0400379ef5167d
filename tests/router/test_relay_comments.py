"""What a client hears before its stream begins, and how it is told what then goes wrong."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from common import clock
from router.errors import Problem
from router.named import Model, ModelTimeouts
from router.outcome import Outcome
from router.plan import Plan
from router.seam import Wait
from tests.router.relay_kit import (
    CHAT,
    OK,
    SSE,
    STREAM,
    Client,
    Rig,
    Talk,
    always,
    events,
    once,
    serving,
)
from tests.support.until import until

SOON: dict[str, Any] = {"timeouts": {"comment_every_s": 0.01}}
WORD = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
COMMENT = b": keep-alive\n\n"
PATH = "/v1/chat/completions"


def answered(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


TOO_LONG = answered(
    b"400 Bad Request", b'{"error":{"message":"too long","type":"invalid_prompt","code":"length"}}'
)


class Gate:
    """Holds an upstream's answer until the client has heard a comment."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.open = asyncio.Event()

    async def __call__(self, talk: Talk) -> None:
        while True:
            await talk.request()
            await self.open.wait()
            await talk.say(self.answer)


@contextlib.asynccontextmanager
async def talking(rig: Rig) -> AsyncIterator[Client]:
    client = await rig.client()
    try:
        yield client
    finally:
        await client.close()


async def heard(client: Client, path: str = PATH, body: bytes = STREAM) -> bytes:
    """The head that came before anybody had answered, when a comment followed it."""
    client.send(path, body)
    head = await client.head()
    assert await client.chunk() == COMMENT
    return head


async def rest(client: Client, gate: Gate) -> bytes:
    """What follows once the upstream may answer, without further comments."""
    gate.open.set()
    return (await client.rest_of_chunks()).replace(COMMENT, b"")


async def test_comments_until_the_first_event_then_the_stream_as_it_is() -> None:
    gate = Gate(events(WORD))
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        head = await heard(client)
        comments_began = clock.monotonic()
        assert b"200 OK" in head and b"content-type: text/event-stream" in head
        assert b"x-creche-service" not in head and b"x-request-id" in head
        said = await rest(client, gate)
        told, _, stream = said.partition(b"\n\n")
        assert told.split(b"\n") == [
            b": x-creche-service: up-0",
            b": x-creche-attempts: 1",
            b": x-creche-model: m",
        ]
        assert stream == WORD + b"data: [DONE]\n\n"
        await rig.quiet()
        _, end = rig.ends[0]
        assert end.outcome is Outcome.OK and end.done_marker and end.events == 2
        assert end.first_byte > comments_began, "the first event, not the first comment"
        # The connection is kept, and what is not a stream hears no comments.
        client.send(PATH, CHAT)
        gate.answer = OK
        assert (await client.answer()).body == b"{}"


async def test_a_stream_that_begins_in_time_has_the_usual_head() -> None:
    async with serving(always(events(WORD)), timeouts={"comment_every_s": 10}) as rig:
        answer = await rig.post(PATH, STREAM)
        assert answer.headers["x-creche-service"] == "up-0"
        assert answer.body == WORD + b"data: [DONE]\n\n"


async def test_what_fails_behind_the_comments_is_tried_elsewhere() -> None:
    gates = [Gate(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n") for _ in range(2)]
    async with serving(*gates, **SOON) as rig, talking(rig) as client:
        await heard(client)
        await until(lambda: any(upstream.requests for upstream in rig.upstreams))
        first = 0 if rig.upstreams[0].requests else 1
        gates[1 - first].answer = events(WORD)
        gates[1 - first].open.set()
        said = await rest(client, gates[first])
        assert b": x-creche-attempts: 2\n" in said
        assert said.endswith(WORD + b"data: [DONE]\n\n")
        await rig.quiet()
        assert rig.outcomes == [Outcome.OK]


async def test_a_first_event_that_is_an_error_is_still_tried_elsewhere() -> None:
    gate = Gate(events(b'data: {"error": {"message": "no"}}\n\n', done=b""))
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        await heard(client)
        said = await rest(client, gate)
        assert json.loads(said.split(b"data: ")[1])["error"]["code"] == "upstream_broken"
        await rig.quiet()
        assert rig.ends[0][0].attempts == 2


@pytest.mark.parametrize("path", [PATH, "/v1/responses", "/v1/messages"])
async def test_an_engines_error_answer_becomes_an_event_of_the_route(path: str) -> None:
    gate = Gate(TOO_LONG)
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        await heard(client, path)
        said = await rest(client, gate)
        told, event, nothing = said.split(b"\n\n")
        assert b": x-creche-error: upstream" in told and nothing == b""
        value = json.loads(event.partition(b"data: ")[2])
        if path.endswith("responses"):
            assert event.startswith(b"event: error\n")
            assert (value["message"], value["code"]) == ("too long", "length")
        elif path.endswith("messages"):
            assert event.startswith(b"event: error\n")
            assert value["error"] == {"type": "invalid_request_error", "message": "too long"}
        else:
            assert value["error"] == {
                "message": "too long",
                "type": "invalid_prompt",
                "param": None,
                "code": "length",
            }
        assert await client.rest() == b"", "the connection closes"
        await rig.quiet()
        _, end = rig.ends[0]
        assert (end.outcome, end.status, end.upstream_spoke) == (Outcome.CLIENT, 400, True)


async def test_the_routers_last_word_is_an_event_with_its_headers_in_a_comment() -> None:
    gate = Gate(b"")
    async with (
        serving(gate, timeouts={"comment_every_s": 0.01, "first_event_s": 60}) as rig,
        talking(rig) as client,
    ):
        await heard(client)
        await until(lambda: rig.upstreams[0].requests)
        rig.skip(61)
        said = (await client.rest_of_chunks()).replace(COMMENT, b"")
        told, event, _ = said.split(b"\n\n")
        assert told == b": x-creche-error: router"
        assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "upstream_timeout"
        await rig.quiet()
        _, end = rig.ends[0]
        assert (end.outcome, end.status) == (Outcome.SLOW, 504)


async def test_an_answer_that_is_no_stream_is_a_broken_one_by_then() -> None:
    gate = Gate(OK)
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        await heard(client)
        said = await rest(client, gate)
        assert b'"upstream_broken"' in said


@pytest.mark.parametrize(
    "script",
    [
        b"HTTP/1.1 400 No\r\ncontent-length: 100\r\n\r\nhalf of it",
        b"HTTP/1.1 400 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_error_answer_that_breaks_off_is_a_failed_attempt(script: bytes) -> None:
    async def breaks(talk: Talk) -> None:
        await talk.request()
        await asyncio.wait_for(gate.open.wait(), 10)
        await talk.say(script)

    gate = Gate(b"")
    async with serving(breaks, **SOON) as rig, talking(rig) as client:
        await heard(client)
        assert b'"upstream_broken"' in await rest(client, gate)


async def test_an_error_answer_without_end_is_told_as_far_as_it_goes() -> None:
    gate = Gate(b"HTTP/1.1 400 No\r\n\r\n" + b"too long: " * 10_000)
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        await heard(client)
        assert b'"message":"too long: ' in await rest(client, gate)


async def test_a_client_that_leaves_between_comments_frees_its_upstream() -> None:
    gate = Gate(b"")
    async with serving(gate, **SOON) as rig:
        async with talking(rig) as client:
            await heard(client)
        await rig.quiet()
        await until(lambda: not rig.relay.pool.open)
        _, end = rig.ends[0]
        assert (end.outcome, end.status) == (Outcome.CANCELLED, 200)


async def test_an_old_client_gets_comments_and_the_stream_until_the_close() -> None:
    gate = Gate(events(WORD))
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(STREAM), STREAM)
        )
        head = await client.head()
        assert b"transfer-encoding" not in head and b"connection: close" in head
        assert await client.reader.readexactly(len(COMMENT)) == COMMENT
        gate.open.set()
        assert (await client.rest()).endswith(b"\n\n" + WORD + b"data: [DONE]\n\n")


async def test_comments_come_while_the_request_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = Plan.next
    waited: list[Plan] = []

    def queued(plan: Plan, now: float) -> Any:
        if waited:
            return ordinary(plan, now)
        waited.append(plan)
        return Wait(30)

    monkeypatch.setattr(Plan, "next", queued)
    async with serving(always(events(WORD)), **SOON) as rig, talking(rig) as client:
        await heard(client)
        assert not rig.upstreams[0].requests
        wake = waited[0].wake
        assert wake is not None
        wake()
        assert (await client.rest_of_chunks()).endswith(WORD + b"data: [DONE]\n\n")


async def test_a_wait_that_ends_in_nothing_is_told_in_band(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Plan] = []

    def queued(plan: Plan, now: float) -> Any:
        waited.append(plan)
        return Wait(30) if len(waited) == 1 else Problem(429, "full", "full", retry_after_s=7)

    monkeypatch.setattr(Plan, "next", queued)
    async with serving(always(events(WORD)), **SOON) as rig, talking(rig) as client:
        await heard(client)
        wake = waited[0].wake
        assert wake is not None
        wake()
        said = (await client.rest_of_chunks()).replace(COMMENT, b"")
        assert b": retry-after: 7\n" in said and b'"code":"full"' in said
        await rig.quiet()
        assert rig.ends[0][1].status == 429


async def test_a_model_may_have_its_own_interval_or_none() -> None:
    named = {"m": Model(timeouts=ModelTimeouts(comment_every_s=0))}
    gate = Gate(events(WORD))
    async with serving(gate, named=named, **SOON) as rig, talking(rig) as client:
        client.send(PATH, STREAM)
        await until(lambda: rig.upstreams[0].requests)
        gate.open.set()
        assert b"x-creche-service: up-0" in await client.head()
    named = {"m": Model(timeouts=ModelTimeouts(comment_every_s=0.01))}
    gate = Gate(events(WORD))
    async with serving(gate, named=named) as rig, talking(rig) as client:
        await heard(client)
        assert WORD in await rest(client, gate)


async def test_a_route_whose_streams_are_no_events_hears_none() -> None:
    gate = Gate(OK)
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        client.send("/api/chat", STREAM)
        await until(lambda: rig.upstreams[0].requests)
        gate.open.set()
        assert (await client.answer()).body == b"{}"


async def test_a_stop_is_told_in_band_too() -> None:
    gate = Gate(b"")
    async with serving(gate, **SOON) as rig, talking(rig) as client:
        await heard(client)
        await rig.relay.close()
        assert b'"code":"stopping"' in await client.rest()


async def test_a_stream_that_breaks_off_behind_comments_is_resumed() -> None:
    begun = SSE + b"%x\r\n%b\r\n" % (len(WORD), WORD)
    more = b'data: {"choices":[{"delta":{"content":" two"},"finish_reason":"stop"}]}\n\n'
    gates = [Gate(begun), Gate(begun)]

    async def script(talk: Talk) -> None:
        _, body = await talk.request()
        if b"continue_final_message" in body:
            await talk.say(events(more))
            return
        await gates[0].open.wait()
        await talk.say(begun)

    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    async with (
        serving(script, script, named={"m": Model(resume=True)}, **SOON) as rig,
        talking(rig) as client,
    ):
        await heard(client, body=body)
        said = await rest(client, gates[0])
        assert b": x-creche-resume: text\n" in said
        assert b'"one"' in said and b'" two"' in said and said.endswith(b"data: [DONE]\n\n")
        await rig.quiet()
        assert rig.outcomes == [Outcome.OK]


async def test_nothing_of_it_is_left_when_a_stream_ends_early() -> None:
    async with serving(once(events(WORD)), timeouts={"comment_every_s": 60}) as rig:
        await rig.post(PATH, STREAM)
        await rig.quiet()
        plan, _ = rig.ends[0]
        assert plan.comment_every_s == 60
