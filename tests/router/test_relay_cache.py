"""Answers that are given again, over real connections: the same bytes, whole, to each who asks."""

import asyncio
import gzip
import json
import socket
from typing import Any

import pytest

from common import clock
from common.tasks import spawn
from router.config import Cache, Config
from router.named import Model
from router.outcome import Outcome
from tests.router.relay_kit import SSE, Answer, Client, Rig, Script, Talk, always, events, serving
from tests.support.until import until

CHAT = "/v1/chat/completions"
BODY = (
    b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
EVENTS = (b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n', b": a comment\n\n", b"data: 2\n\n")
STREAM = events(*EVENTS)
WHOLE = b"".join(EVENTS) + b"data: [DONE]\n\n"


def answer(status: bytes, body: bytes, *headers: bytes, kind: bytes = b"application/json") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-type: " + kind, *headers]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])


PLAIN = answer(b"200 OK", BODY, b"server: up")


def cold(text: str = "hi", **more: Any) -> bytes:
    return json.dumps({"model": "m", "temperature": 0, "messages": [text], **more}).encode()


def caching(*scripts: Script | int, cache: Cache | None = None, **more: Any) -> Any:
    named = {"m": Model(cache=True, **more.pop("model", {}))}
    return serving(*scripts, named=named, cache=cache or Cache(wait_s=60), **more)


async def post(rig: Rig, body: bytes | None = None, *headers: bytes, path: str = CHAT) -> Answer:
    return await rig.post(path, cold() if body is None else body, *headers)


def said(answer: Answer) -> str | None:
    return answer.headers.get("x-creche-cache")


class Gate:
    """An upstream that answers once it may."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.opens = asyncio.Event()

    async def __call__(self, talk: Talk) -> None:
        while True:
            await talk.request()
            await self.opens.wait()
            await talk.say(self.answer)


async def waiting(rig: Rig, count: int) -> None:
    await until(lambda: rig.brain.cache.flights.waiting == count, what=f"{count} wait")


async def test_the_second_answer_is_the_first_one() -> None:
    async with caching(always(PLAIN)) as rig:
        began = clock.monotonic()
        first = await post(rig, None, b"x-request-id: one")
        second = await post(rig, None, b"x-request-id: two")
        assert (said(first), said(second)) == ("miss", "hit")
        assert second.body == first.body == BODY
        assert len(rig.upstreams[0].requests) == 1
        headers = dict(second.headers)
        assert 0 <= int(headers.pop("age")) <= clock.monotonic() - began
        assert headers == {
            "content-type": "application/json",
            "content-length": str(len(BODY)),
            "x-request-id": "two",
            "x-creche-service": "up-0",
            "x-creche-attempts": "0",
            "x-creche-cache": "hit",
            "x-creche-model": "m",
        }
    (_, miss), (plan, hit) = rig.ends
    assert (miss.tokens_in, miss.tokens_out) == (3, 2)
    assert (hit.outcome, hit.status, hit.tokens_in, hit.tokens_out) == (Outcome.OK, 200, 0, 0)
    assert (plan.cache, plan.service, plan.attempts) == ("hit", None, 0)


async def test_a_stream_is_given_again_as_a_stream_with_all_its_events() -> None:
    async with caching(always(STREAM)) as rig:
        first = await post(rig, cold(stream=True))
        second = await post(rig, cold(stream=True))
        assert (said(first), said(second)) == ("miss", "hit")
        assert first.body == second.body == WHOLE
        for name in ("content-type", "cache-control", "x-accel-buffering", "transfer-encoding"):
            assert first.headers[name] == second.headers[name]
        plain = await post(rig, cold())
        assert said(plain) == "miss"
    assert rig.brain.active_streams == 0


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_however_its_events_arrived(size: int) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]
            await talk.say(SSE, *(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces), b"0\r\n\r\n")

    async with caching(script) as rig:
        answers = [await post(rig, cold(stream=True)) for _ in range(2)]
        assert [one.body for one in answers] == [WHOLE, WHOLE]
        assert said(answers[1]) == "hit"


async def test_a_stream_that_may_be_resumed_is_kept_too() -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    async with caching(always(events(chunk)), model={"resume": True}) as rig:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        answers = [await post(rig, cold(**body)) for _ in range(2)]
        assert [said(one) for one in answers] == ["miss", "hit"]
        assert answers[0].body == answers[1].body == chunk + b"data: [DONE]\n\n"


async def test_a_client_of_http_1_0_has_it_without_chunks() -> None:
    async with caching(always(STREAM)) as rig:
        await post(rig, cold(stream=True))
        body = cold(stream=True)
        head = b"POST %b HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        raw = await rig.ask(head % (CHAT.encode(), len(body)) + body)
        assert b"x-creche-cache: hit" in raw
        assert b"chunked" not in raw
        assert raw.endswith(b"\r\n\r\n" + WHOLE)


async def test_a_connection_goes_on_after_a_hit() -> None:
    async with caching(always(PLAIN)) as rig:
        client = await rig.client()
        for _ in range(3):
            client.send(CHAT, cold())
            assert (await client.answer()).body == BODY
        await client.close()
        assert len(rig.upstreams[0].requests) == 1


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (answer(b"200 OK", b'{"error":{"message":"no"}}'), cold()),
        (answer(b"200 OK", b"not json"), cold()),
        (answer(b"200 OK", BODY, kind=b"text/plain"), cold()),
        (answer(b"200 OK", BODY, b"cache-control: No-Store"), cold()),
        (answer(b"200 OK", gzip.compress(BODY), b"content-encoding: gzip"), cold()),
        (answer(b"201 Created", BODY), cold()),
        (answer(b"400 Bad Request", BODY), cold()),
        (answer(b"500 Oh", BODY), cold()),
        (answer(b"200 OK", b'{"a":"%b"}' % (b"x" * 5_000)), cold()),
        (events(*EVENTS, done=b""), cold(stream=True)),
        (events(b"data: 1\n\n", b'data: {"error":{"message":"no"}}\n\n'), cold(stream=True)),
        (events(b"data: 1\n\n", b"data: %b\n\n" % (b"x" * 5_000)), cold(stream=True)),
        (answer(b"200 OK", BODY), cold(stream=True)),
    ],
)
async def test_what_is_no_whole_good_answer_is_not_given_again(script: bytes, body: bytes) -> None:
    async with caching(always(script), cache=Cache(entry_bytes_max=4_096)) as rig:
        for _ in range(2):
            assert said(await post(rig, body)) == "miss"
        assert len(rig.brain.cache.memory) == 0


async def test_an_answer_that_broke_off_is_not() -> None:
    cut = PLAIN[:-10]

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(cut)
        talk.reset()

    async with caching(script) as rig:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await post(rig)
        await rig.quiet()
        assert len(rig.brain.cache.memory) == 0


async def test_identical_requests_in_the_air_are_asked_once() -> None:
    gate = Gate(PLAIN)
    async with caching(gate) as rig:
        asked = [spawn(post(rig), "post") for _ in range(5)]
        await waiting(rig, 4)
        other = spawn(post(rig, cold("ho")), "post")
        gate.opens.set()
        answers = await asyncio.gather(*asked)
        assert sorted(said(one) or "" for one in answers) == ["hit"] * 4 + ["miss"]
        assert {one.body for one in answers} == {BODY}
        assert said(await other) == "miss"
        assert len(rig.upstreams[0].requests) == 2


async def test_a_stream_in_the_air_is_waited_for_too() -> None:
    gate = Gate(STREAM)
    async with caching(gate) as rig:
        asked = [spawn(post(rig, cold(stream=True)), "post") for _ in range(3)]
        await waiting(rig, 2)
        gate.opens.set()
        assert {one.body for one in await asyncio.gather(*asked)} == {WHOLE}
        assert len(rig.upstreams[0].requests) == 1


async def test_a_client_that_leaves_hands_its_turn_on() -> None:
    gate = Gate(PLAIN)
    async with caching(gate) as rig:
        client = await rig.client()
        client.send(CHAT, cold())
        await until(lambda: len(rig.upstreams[0].requests) == 1)
        asked = [spawn(post(rig), "post") for _ in range(3)]
        await waiting(rig, 3)
        client.leave()
        await until(lambda: len(rig.upstreams[0].requests) == 2)
        await waiting(rig, 2)
        gate.opens.set()
        assert sorted(said(one) or "" for one in await asyncio.gather(*asked)) == [
            "hit",
            "hit",
            "miss",
        ]


async def test_one_that_waits_and_leaves_just_leaves() -> None:
    gate = Gate(PLAIN)
    async with caching(gate) as rig:
        first = spawn(post(rig), "post")
        await until(lambda: bool(rig.upstreams) and len(rig.upstreams[0].requests) == 1)
        client = await rig.client()
        client.send(CHAT, cold())
        await waiting(rig, 1)
        client.leave()
        await waiting(rig, 0)
        gate.opens.set()
        assert (await first).body == BODY
    assert sorted(end.outcome for _, end in rig.ends) == [Outcome.OK, Outcome.CANCELLED]


async def test_nobody_fails_with_the_one_that_was_waited_for() -> None:
    """The first is answered with 500 and the next with 200; nobody who waits sees the 500."""
    gate = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await gate.wait()
        first = len(rig.upstreams[0].requests) == 1
        await talk.say(answer(b"500 Oh", b"{}", b"connection: close") if first else PLAIN)

    async with caching(script, retry=Config().retry) as rig:
        asked = [spawn(post(rig), "post") for _ in range(4)]
        await waiting(rig, 3)
        gate.set()
        statuses = sorted(one.status for one in await asyncio.gather(*asked))
        assert statuses[:3] == [200, 200, 200]


async def test_all_are_asked_at_once_when_an_answer_begins_that_is_not_kept() -> None:
    gate = Gate(answer(b"400 Bad Request", b'{"error":{}}'))
    async with caching(gate) as rig:
        asked = [spawn(post(rig), "post") for _ in range(4)]
        await waiting(rig, 3)
        gate.opens.set()
        assert [one.status for one in await asyncio.gather(*asked)] == [400] * 4
        assert len(rig.upstreams[0].requests) == 4


async def test_who_has_waited_long_enough_is_asked_for_itself() -> None:
    gate = Gate(PLAIN)
    async with caching(gate, cache=Cache(wait_s=0.05)) as rig:
        asked = [spawn(post(rig), "post") for _ in range(2)]
        await until(lambda: len(rig.upstreams[0].requests) == 2)
        gate.opens.set()
        assert [said(one) for one in await asyncio.gather(*asked)] == ["miss", "miss"]


async def test_a_stream_whose_client_heard_comments_goes_on_with_the_answer_of_another() -> None:
    gate = Gate(STREAM)
    timeouts = {"comment_every_s": 0.02}
    async with caching(gate, timeouts=timeouts) as rig:
        first = spawn(post(rig, cold(stream=True)), "post")
        await until(lambda: bool(rig.upstreams[0].requests))
        client = await rig.client()
        client.send(CHAT, cold(stream=True))
        head = await client.head()
        assert b"x-creche-cache" not in head
        assert (await client.chunk()).startswith(b": ")
        gate.opens.set()
        rest = await client.rest_of_chunks()
        assert b": x-creche-cache: hit\n" in rest
        assert rest.endswith(WHOLE)
        assert (await first).body.endswith(WHOLE)
        await client.close()


async def test_a_tenants_answers_cannot_be_poisoned_by_another() -> None:
    """Who asks says who it is by header where that is believed; its key says it where keys are."""
    count = 0

    async def script(talk: Talk) -> None:
        nonlocal count
        while True:
            await talk.request()
            count += 1
            body = b'{"choices":["%d"]}' % count
            await talk.say(answer(b"200 OK", body))

    async with caching(script) as rig:
        one = await post(rig, None, b"x-creche-tenant: one")
        attempts = [
            (b"x-creche-tenant: two",),
            (b"x-creche-tenant: two", b"x-creche-tenant: one"),
            (b"x-creche-tenant: one", b"x-creche-tenant: two"),
            (b"X-Creche-Tenant: ONE",),
            (b"x-tenant: one",),
            (),
        ]
        bodies = {(await post(rig, None, *attempt)).body for attempt in attempts}
        assert one.body not in bodies
        assert len(bodies) == len(attempts)
        assert (await post(rig, None, b"x-creche-tenant: one")).body == one.body


async def test_off_it_says_nothing_and_keeps_nothing() -> None:
    async with serving(always(PLAIN)) as rig:
        answers = [await post(rig) for _ in range(2)]
        assert [said(one) for one in answers] == [None, None]
        assert len(rig.upstreams[0].requests) == 2


LARGE = b'{"object":"list","data":[{"embedding":[%b0]}],"usage":{"prompt_tokens":3}}' % (
    b"0.125," * 600_000
)


async def test_a_slow_client_is_given_slices_and_holds_no_copy_of_its_own() -> None:
    embeddings = "/v1/embeddings"
    asked = b'{"model":"m","input":"hi"}'
    cache = Cache(entry_bytes_max=8 << 20)
    async with caching(always(answer(b"200 OK", LARGE)), cache=cache) as rig:
        first = await rig.post(embeddings, asked)
        assert said(first) == "miss"
        # A much smaller one would be filled by the sender's timer, a piece every 0.2 s.
        raw = socket.create_connection(("127.0.0.1", rig.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader, writer = await asyncio.open_connection(sock=raw, limit=4_096)
        client = Client(reader, writer)
        client.send(embeddings, asked)
        await until(lambda: any(one.paused for one in rig.relay.clients), what="it takes no more")
        assert rig.relay.in_flight == 1, "it has not been answered yet"
        (slow,) = (one for one in rig.relay.clients if one.paused)
        assert slow.transport.get_write_buffer_size() < len(LARGE) / 2
        second = await client.answer()
        assert (said(second), second.body) == ("hit", LARGE)
        client.send(embeddings, asked)
        third = await client.answer()
        assert third.body == LARGE, "the connection goes on"
        await client.close()
        await rig.quiet()
        assert rig.outcomes == [Outcome.OK] * 3
