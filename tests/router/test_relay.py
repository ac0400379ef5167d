"""Transcripts: what a client says and hears, what an upstream hears and says."""

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from router.outcome import Outcome
from tests.router.relay_kit import (
    CHAT,
    OK,
    SSE,
    STREAM,
    Talk,
    always,
    events,
    once,
    serving,
)
from tests.support.ports import free_port
from tests.support.until import until

A, B, DONE = b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', b"data: [DONE]\n\n"


async def test_a_request_is_relayed_with_its_path_query_and_body() -> None:
    async with serving(always(OK)) as rig:
        answer = await rig.post("/v1/chat/completions?a=b%20c", CHAT, b"X-Own: 1")
        assert (answer.status, answer.body) == (200, b"{}")
        ((head, body),) = rig.upstreams[0].requests
        assert head.startswith(b"POST /v1/chat/completions?a=b%20c HTTP/1.1\r\n")
        assert b"X-Own: 1\r\n" in head
        assert body == CHAT
        assert rig.outcomes == [Outcome.OK]


async def test_what_the_answer_says_about_itself() -> None:
    lie = OK.replace(b"\r\n\r\n", b"\r\nx-creche-service: lie\r\nx-creche-x: y\r\n\r\n")
    async with serving(always(lie)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT, b"x-request-id: mine")
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["x-creche-service"] == "up-0"
        assert answer.headers["x-creche-model"] == "m"
        assert answer.headers["x-creche-attempts"] == "1"
        assert "x-creche-x" not in answer.headers
        assert "x-creche-error" not in answer.headers
        assert b"x-request-id: mine\r\n" in rig.upstreams[0].requests[0][0]


async def test_an_unsafe_request_id_is_replaced_and_the_new_one_sent_both_ways() -> None:
    async with serving(always(OK)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT, b"x-request-id: a b")
        made = answer.headers["x-request-id"]
        assert made != "a b"
        assert f"x-request-id: {made}\r\n".encode() in rig.upstreams[0].requests[0][0]


async def test_the_clients_key_and_its_word_about_itself_stay_here() -> None:
    async with serving(always(OK)) as rig:
        await rig.post(
            "/v1/chat/completions", CHAT, b"Authorization: Bearer sk-1", b"X-Api-Key: k",
            b"api-key: k", b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https",
            b"traceparent: 00-ab-cd-01",
        )  # fmt: skip
        head = rig.upstreams[0].requests[0][0].lower()
        assert b"sk-1" not in head
        assert b"key: k" not in head
        assert b"9.9.9.9" not in head
        assert b"x-forwarded-for: 127.0.0.1\r\n" in head
        assert b"x-forwarded-proto: http\r\n" in head
        assert b"x-forwarded-host: test\r\n" in head
        assert b"traceparent: 00-ab-cd-01\r\n" in head
        assert head.count(b"host:") == 2  # Host and X-Forwarded-Host


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8"])
async def test_a_trusted_proxys_word_is_kept(trusted: str) -> None:
    async with serving(always(OK), trusted_proxies=(trusted,)) as rig:
        await rig.post(
            "/v1/chat/completions", CHAT, b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-Proto: https"
        )
        head = rig.upstreams[0].requests[0][0].lower()
        assert b"x-forwarded-for: 9.9.9.9, 127.0.0.1\r\n" in head
        assert b"x-forwarded-proto: https\r\n" in head


async def test_a_models_name_cannot_break_into_the_answers_head() -> None:
    async with serving(always(OK), models=("m\r\nx-evil: 1",)) as rig:
        answer = await rig.post("/v1/chat/completions", b'{"model":"m\\r\\nx-evil: 1"}')
        assert answer.status == 200
        assert "x-evil" not in answer.headers


async def test_connections_are_used_again_both_ways() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        for _ in range(3):
            client.send("/v1/chat/completions", CHAT)
            assert (await client.answer()).body == b"{}"
        assert len(rig.upstreams[0].talks) == 1
        await client.close()


async def test_a_stream_passes_event_by_event() -> None:
    more = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE + b"f\r\n" + A + b"\r\n")
        await more.wait()
        await talk.say(b"5\r\ndata:\r\n", b"a\r\n" + b' {"b":2}\n\n' + b"\r\n", b"0\r\n\r\n")

    async with serving(script) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM)
        head = await client.head()
        assert b"transfer-encoding: chunked" in head
        assert b"cache-control: no-cache\r\nx-accel-buffering: no\r\n" in head
        assert await client.chunk() == A
        more.set()
        assert await client.chunk() == B
        assert await client.rest_of_chunks() == b""
        await client.close()


async def test_usage_and_the_terminal_marker_are_noted() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    async with serving(always(events(A, usage))) as rig:
        await rig.post("/v1/chat/completions", STREAM)
        await until(lambda: rig.ends)
        end = rig.ends[0][1]
        assert (end.tokens_in, end.tokens_out, end.done_marker, end.events) == (3, 4, True, 3)


async def test_a_stream_that_ends_without_done_passes_as_it_is() -> None:
    async with serving(always(events(A, B, done=b""))) as rig:
        answer = await rig.post("/v1/chat/completions", STREAM)
        assert answer.body == A + B
        await until(lambda: rig.outcomes == [Outcome.OK])
        assert not rig.ends[0][1].done_marker


async def test_what_follows_the_last_blank_line_passes_at_a_clean_end() -> None:
    async with serving(always(events(A, b"data: tail", done=b""))) as rig:
        answer = await rig.post("/v1/chat/completions", STREAM)
        assert answer.body == A + b"data: tail"


async def test_comments_wait_for_the_first_event() -> None:
    more = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE + b"5\r\n: p\n\n\r\n")
        await more.wait()
        await talk.say(b"f\r\n" + A + b"\r\n0\r\n\r\n")

    async with serving(script) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.1)
        more.set()
        await client.head()
        assert await client.chunk() == b": p\n\n" + A
        await client.close()


# --- framing --------------------------------------------------------------------------------------


async def test_a_chunked_answer_is_chunked_anew() -> None:
    said = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n"
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx: y\r\n\r\n"
    )
    async with serving(always(said)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT)
        assert answer.body == b"abcde"
        assert b"ext" not in answer.raw
        assert b"x: y" not in answer.raw


async def test_an_answer_that_ends_by_close_is_chunked() -> None:
    async with serving(once(b"HTTP/1.1 200 OK\r\n\r\nhello")) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        answer = await client.answer()
        assert answer.body == b"hello"
        assert "transfer-encoding" in answer.headers
        client.send("/v1/chat/completions", CHAT)  # the client's connection goes on
        assert (await client.answer()).body == b"hello"
        await client.close()


@pytest.mark.parametrize("said", [events(A), b"HTTP/1.1 200 OK\r\n\r\nhello"])
async def test_http10_clients_get_no_chunks(said: bytes) -> None:
    async with serving(once(said)) as rig:
        raw = await rig.ask(
            b"POST /v1/chat/completions HTTP/1.0\r\nConnection: keep-alive\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(STREAM), STREAM)
        )
        head, _, body = raw.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body in (b"hello", A + DONE)


async def test_http10_keeps_its_connection_when_asked_and_possible() -> None:
    async with serving(always(OK)) as rig:
        one = (
            b"POST /v1/chat/completions HTTP/1.0\r\nConnection: keep-alive\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
        )
        client = await rig.client()
        for _ in range(2):
            client.writer.write(one)
            answer = await client.answer()
            assert answer.headers["connection"] == "keep-alive"
        await client.close()


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_answers_without_a_body(method: bytes) -> None:
    if method == b"HEAD":
        said = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    else:
        said = b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
    async with serving(always(said)) as rig:
        client = await rig.client()
        for _ in range(2):
            client.send("/v1/files", method=method)
            answer = await client.answer(method)
            assert answer.headers["content-length"] == "5"
        assert len(rig.upstreams[0].talks) == 1
        await client.close()


async def test_interim_answers_are_dropped() -> None:
    said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK
    async with serving(always(said)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT)
        assert (answer.status, answer.body) == (200, b"{}")
        assert answer.raw.count(b"HTTP/1.1") == 1


async def test_a_chunked_body_goes_upstream_under_one_length() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for byte in CHAT:
            client.writer.write(b"1\r\n%c\r\n" % byte)
        client.writer.write(b"0\r\nX-Trailer: 1\r\n\r\n")
        assert (await client.answer()).status == 200
        head, body = rig.upstreams[0].requests[0]
        assert body == CHAT
        assert b"content-length: %d\r\n" % len(CHAT) in head
        assert b"transfer-encoding" not in head.lower()
        assert b"X-Trailer" not in head
        await client.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(talk: Talk) -> None:
        while True:
            _, body = await talk.request()
            await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with serving(script) as rig:
        client = await rig.client()
        for number in range(20):
            client.send("/v1/chat/completions", b'{"model":"m","n":%d}' % number)
        for number in range(20):
            assert json.loads((await client.answer()).body)["n"] == number
        await client.close()


# --- expectations, options, control ---------------------------------------------------------------


async def test_the_router_itself_says_continue() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(CHAT)
        )
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(CHAT)
        assert (await client.answer()).status == 200
        assert b"expect" not in rig.upstreams[0].requests[0][0].lower()
        await client.close()


async def test_a_pipelined_expectation_is_answered_when_its_turn_comes() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(CHAT)
        )
        assert (await client.answer()).status == 200
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(CHAT)
        assert (await client.answer()).status == 200
        await client.close()


async def test_a_refused_expectation_never_gets_its_continue() -> None:
    async with serving(always(OK), limits={"body_bytes_max": 10}) as rig:
        for expect, status in ((b"100-continue", 413), (b"nonsense", 417)):
            raw = await rig.ask(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: %b\r\n"
                b"Content-Length: 11\r\n\r\n" % expect
            )
            assert raw.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close" in raw


async def test_options_of_everything_is_answered_here() -> None:
    async with serving(always(OK)) as rig:
        raw = await rig.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert raw.startswith(b"HTTP/1.1 204 ")
        assert rig.upstreams[0].requests == []


def application() -> web.Application:
    app = web.Application()

    async def health(request: web.Request) -> web.Response:
        text = f"{request.method} {request.path_qs} {(await request.read()).decode()}"
        answer = web.Response(text=text)
        answer.force_close()
        return answer

    app.router.add_route("*", "/health", health)
    app.router.add_route("*", "/metrics", health)
    app.router.add_route("*", "/admin/x", health)
    return app


async def test_a_control_request_goes_to_aiohttp_for_good() -> None:
    async with serving(always(OK), control=application()) as rig:
        raw = await rig.ask(b"GET /health?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.startswith(b"HTTP/1.1 200 OK")
        assert raw.endswith(b"GET /health?a=b ")
        body = b"POST /admin/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw = await rig.ask(body + b"2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n")
        assert raw.endswith(b"POST /admin/x hi!")
        assert rig.upstreams[0].requests == []


async def test_a_connection_that_relayed_can_still_be_handed_over() -> None:
    async with serving(always(OK), control=application()) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        client.send("/health", method=b"GET")
        assert (await client.answer()).body == b"{}"
        assert (await client.answer()).body == b"GET /health "
        assert await client.rest() == b""
        await client.close()


async def test_control_paths_match_exactly_and_other_methods_are_relayed() -> None:
    async with serving(always(OK), control=application()) as rig:
        for method, path in ((b"POST", "/health"), (b"GET", "/health/"), (b"GET", "/%68ealth")):
            answer = await rig.post(path, b"", method=method)
            assert answer.headers["x-creche-service"] == "up-0"


async def test_operator_paths_are_unknown_on_the_public_port_where_they_have_their_own() -> None:
    async with serving(always(OK), control=application(), control_listen="127.0.0.1:1") as rig:
        for path in ("/metrics", "/admin/x"):
            assert (await rig.post(path, b"", method=b"GET")).status == 404
        assert (await rig.post("/health", b"", method=b"GET")).status == 200
        assert rig.upstreams[0].requests == []


# --- retries --------------------------------------------------------------------------------------


async def test_a_refused_connect_goes_to_the_other_upstream() -> None:
    async with serving(free_port(), always(OK)) as rig:
        for _ in range(2):
            answer = await rig.post("/v1/chat/completions", CHAT)
            assert answer.status == 200
        assert {end.outcome for _, end in rig.ends} == {Outcome.OK}


async def test_nobody_left_is_told_in_the_routes_shape() -> None:
    async with serving(free_port()) as rig:
        answer = await rig.post("/v1/messages", CHAT)
        assert answer.status == 502
        assert json.loads(answer.body)["type"] == "error"
        assert answer.headers["x-creche-error"] == "router"


async def test_an_unknown_model_is_named() -> None:
    async with serving(always(OK)) as rig:
        answer = await rig.post("/v1/chat/completions", b'{"model":"nope"}')
        assert answer.status == 503
        error = json.loads(answer.body)["error"]
        assert error["message"] == "No healthy services available for model 'nope'"


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 429 Busy\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
        events(b'data: {"error":{"message":"x"}}\n\n'),
        events(b"event: error\ndata: {}\n\n"),
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    ],
)
async def test_a_bad_answer_is_asked_of_another(bad: bytes) -> None:
    async with serving(once(bad), once(OK)) as rig:
        for _ in range(2):  # whichever is asked first
            answer = await rig.post("/v1/chat/completions", STREAM)
            assert (answer.status, answer.body) == (200, b"{}")


async def test_the_last_upstreams_word_passes() -> None:
    said = b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nwhy!"
    async with serving(always(said)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT)
        assert (answer.status, answer.body) == (500, b"why!")
        assert answer.headers["x-creche-error"] == "upstream"


async def test_a_client_error_passes_untouched() -> None:
    said = b"HTTP/1.1 422 Unprocessable\r\ncontent-type: text/html\r\ncontent-length: 3\r\n\r\n<p>"
    async with serving(always(said), always(said)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT)
        assert (answer.status, answer.body) == (422, b"<p>")
        await until(lambda: rig.outcomes == [Outcome.CLIENT])


async def test_a_body_that_is_cut_off_goes_on_as_it_is_and_the_engine_judges_it() -> None:
    said = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nwhy"
    async with serving(always(said)) as rig:
        answer = await rig.post("/v1/chat/completions", b'{"model": "m", "messages": [')
        assert (answer.status, answer.body) == (400, b"why")
        assert answer.headers.get("x-creche-error") != "router"
        ((_, body),) = rig.upstreams[0].requests
        assert body == b'{"model": "m", "messages": ['
        await until(lambda: rig.outcomes == [Outcome.CLIENT])


async def test_what_is_no_inference_is_not_sent_twice() -> None:
    async with serving(once(b""), once(b"")) as rig:
        answer = await rig.post("/v1/files", b'{"model":"m"}')
        assert answer.status == 502
        assert sum(len(u.requests) for u in rig.upstreams) == 1


async def test_a_reused_connection_that_gave_no_byte_is_replaced_at_once() -> None:
    """The idle race: the same upstream again, for any method, and it costs no attempt."""
    served = 0

    async def script(talk: Talk) -> None:
        nonlocal served
        await talk.request()
        served += 1
        await talk.say(OK)
        if served == 1:
            await talk.request()  # closes instead of answering

    async with serving(script) as rig:
        client = await rig.client()
        for _ in range(2):
            client.send("/v1/files", b'{"model":"m"}', method=b"PUT")
            answer = await client.answer()
            assert answer.status == 200
            assert answer.headers["x-creche-attempts"] == "1"
        assert len(rig.upstreams[0].talks) == 2
        await client.close()


async def test_an_upstreams_closed_connection_is_not_used_again() -> None:
    async with serving(once(OK)) as rig:
        client = await rig.client()
        for _ in range(3):
            client.send("/v1/chat/completions", CHAT)
            assert (await client.answer()).status == 200
        await client.close()
        await until(lambda: not rig.relay.pool.open)


# --- after the first byte -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        ("/v1/chat/completions", b'data: {"error":'),
        ("/v1/responses", b'event: error\ndata: {"type":"error"'),
        ("/v1/messages", b'event: error\ndata: {"type":"error"'),
    ],
)
@pytest.mark.parametrize("how", ["fin", "reset", "garbage", "long"])
async def test_a_cut_stream_is_told_in_band(path: str, mark: bytes, how: str) -> None:
    heard = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE + b"f\r\n" + A + b"\r\n")
        await heard.wait()
        if how == "reset":
            talk.reset()
        elif how == "garbage":
            await talk.say(b"zzz\r\n")
            await talk.left()
        elif how == "long":
            with contextlib.suppress(ConnectionError):
                await talk.say(b"7d0\r\n" + b"x" * 2000 + b"\r\n")
                await talk.left()

    async with serving(script, limits={"event_bytes_max": 1000}) as rig:
        client = await rig.client()
        client.send(path, STREAM)
        await client.head()
        assert await client.chunk() == A
        heard.set()
        told = await client.rest_of_chunks()
        assert told.startswith(mark)
        assert b"[DONE]" not in told
        assert await client.rest() == b""
        await client.close()
        await until(lambda: rig.outcomes == [Outcome.CUT])


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_a_cut_plain_answer_cannot_be_taken_for_a_whole_one(framing: bytes) -> None:
    heard = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await talk.say(b"5\r\nhello\r\n")
        await heard.wait()

    async with serving(script) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        await client.head()
        heard.set()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunks() if b"chunked" in framing else await client.reader.readexactly(100)
        await client.close()
        await until(lambda: rig.outcomes == [Outcome.CUT])


async def test_a_silent_stream_is_cut_after_its_time() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE + b"f\r\n" + A + b"\r\n")
        await talk.left()

    async with serving(script, timeouts={"between_chunks_s": 0.2}) as rig:
        answer = await rig.post("/v1/chat/completions", STREAM)
        assert b"error" in answer.body
        await until(lambda: rig.outcomes == [Outcome.CUT])


@pytest.mark.parametrize(
    ("timeouts", "body"),
    [({"first_event_s": 0.2}, STREAM), ({"total_s": 0.2}, CHAT)],
)
async def test_no_answer_in_time(timeouts: dict[str, float], body: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.left()

    async with serving(script, timeouts=timeouts) as rig:
        answer = await rig.post("/v1/chat/completions", body)
        assert answer.status == 504


async def test_the_first_event_limit_is_for_streams_only() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await asyncio.sleep(0.5)
        await talk.say(OK)

    async with serving(script, timeouts={"first_event_s": 0.1}) as rig:
        assert (await rig.post("/v1/chat/completions", CHAT)).status == 200


# --- hostile upstreams ----------------------------------------------------------------------------

BIG = b"x" * 70_000


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nx: " + BIG + b"\r\ncontent-length: 0\r\n\r\n",  # endless head
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,  # endless interim answers
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",  # two in one
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}garbage",
        b"HTTP/1.1 204 No Content\r\n\r\nbody",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        SSE + b"%x\r\n%b" % (2_000_000, b"data: " + b"x" * 1_100_000),  # an endless event
        SSE + b"zz\r\n",
    ],
    ids=range(17),
)
async def test_a_hostile_upstream_harms_only_itself(said: bytes) -> None:
    async with serving(once(said)) as rig:
        answer = await rig.post("/v1/chat/completions", STREAM)
        assert answer.status == 502
        assert answer.headers["x-creche-error"] == "router"
        await until(lambda: not rig.relay.pool.open)


async def test_a_stray_byte_between_answers_drops_the_connection() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        await asyncio.sleep(0.02)
        await talk.say(OK)  # nobody asked
        await talk.left()

    async with serving(script) as rig:
        await rig.post("/v1/chat/completions", CHAT)
        await until(lambda: not rig.relay.pool.open)


@pytest.mark.parametrize(
    "last",
    [
        OK + b"x",
        OK + OK,
        OK.replace(b": 2", b": 3") + b"x\n\r\nx",
        OK.replace(b": 2", b": +2"),
        OK.replace(b": 2", b": 2\r\ncontent-length: 2"),
    ],
    ids=range(5),
)
async def test_a_head_that_came_before_excuses_nothing_that_follows(last: bytes) -> None:
    async def script(talk: Talk) -> None:
        for said in (OK, OK, last):
            await talk.request()
            await talk.say(said)
        await talk.left()

    async with serving(script) as rig:
        client = await rig.client()
        for status in (200, 200, 502):
            client.send("/v1/files", CHAT)  # not retried
            assert (await client.answer()).status == status
        await client.close()
        await until(lambda: not rig.relay.pool.open)


async def test_a_head_that_comes_again_may_have_another_length_and_come_in_pieces() -> None:
    async def script(talk: Talk) -> None:
        while True:
            _, body = await talk.request()
            await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            await talk.say(body[:10], body[10:])

    async with serving(script) as rig:
        client = await rig.client()
        for count in (1, 0, 5000, 2, 300_000, 2_000_000, 7):
            body = b'{"model":"m","x":"' + b"y" * count + b'"}'
            client.send("/v1/chat/completions", body)
            assert (await client.answer()).body == body
        await client.close()


async def test_a_stray_line_after_an_answer_keeps_the_connection_from_the_pool() -> None:
    async with serving(always(OK + b"\r\n")) as rig:
        assert (await rig.post("/v1/chat/completions", CHAT)).status == 200
        await rig.quiet()
        assert rig.relay.pool.kept == 0


async def test_an_answer_before_the_body_was_sent_ends_the_connection() -> None:
    async def script(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n")
        await talk.left()

    async with serving(script) as rig:
        answer = await rig.post("/v1/chat/completions", b" " * 8_000_000 + CHAT)
        assert answer.status == 413
        await rig.quiet()
        assert rig.relay.pool.kept == 0


# --- departures -----------------------------------------------------------------------------------


async def waits_before_answering(talk: Talk) -> None:
    await talk.request()
    await talk.left()


async def waits_after_the_head(talk: Talk) -> None:
    await talk.request()
    await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
    await talk.left()


async def waits_within_the_stream(talk: Talk) -> None:
    await talk.request()
    await talk.say(SSE + b"f\r\n" + A + b"\r\n")
    await talk.left()


async def waits_before_the_first_event(talk: Talk) -> None:
    await talk.request()
    await talk.say(SSE + b"5\r\n: p\n\n\r\n")
    await talk.left()


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize(
    "script",
    [
        waits_before_answering,
        waits_after_the_head,
        waits_within_the_stream,
        waits_before_the_first_event,
    ],
)
async def test_a_departure_frees_the_upstream_at_once(script: object, how: str) -> None:
    """How soon, bench/times.py measures. Here nothing looks at deadlines any more."""
    async with serving(script) as rig:  # type: ignore[arg-type]
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM)
        await until(lambda: rig.upstreams[0].requests)
        if script is not waits_before_answering:
            await until(lambda: all(link.got for link in rig.relay.pool.open))
        rig.relay._sweep.close()
        if how == "fin":
            client.writer.write_eof()
        else:
            Talk(client.reader, client.writer).reset()
        await until(lambda: rig.upstreams[0].closed)
        await until(lambda: rig.outcomes == [Outcome.CANCELLED])
        await until(lambda: not rig.relay.pool.open)
        await client.close()


async def test_a_departure_while_connecting() -> None:
    # A full backlog: the connection is never made.
    import socket

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", port))
            async with serving(port) as rig:
                client = await rig.client()
                client.send("/v1/chat/completions", CHAT)
                await until(lambda: rig.relay.in_flight == 1)
                client.leave()
                await until(lambda: rig.outcomes == [Outcome.CANCELLED])


async def test_a_connect_that_takes_too_long() -> None:
    import socket

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", port))
            async with serving(port, timeouts={"connect_s": 0.2}) as rig:
                answer = await rig.post("/v1/chat/completions", CHAT)
                assert answer.status == 502


async def test_a_departure_within_the_body_gives_its_room_back() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
            + b"x" * 2_000_000
        )
        await until(lambda: rig.relay.bodies.memory + rig.relay.bodies.disk >= 2_000_000)
        client.leave()
        await until(lambda: rig.relay.bodies.memory + rig.relay.bodies.disk == 0)


async def test_a_half_closed_client_is_answered_where_that_is_asked_for() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await asyncio.sleep(0.05)
        await talk.say(OK)

    async with serving(script, half_close="answer") as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        client.writer.write_eof()
        assert (await client.answer()).body == b"{}"
        assert await client.rest() == b""
        await client.close()


async def test_a_client_that_floods_while_its_request_runs_is_closed() -> None:
    async with serving(waits_before_answering, limits={"pipelined_bytes_max": 1000}) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        await until(lambda: rig.upstreams[0].requests)
        client.writer.write(b"x" * 2000)
        with contextlib.suppress(ConnectionError):
            assert await client.rest() == b""
        await until(lambda: rig.outcomes == [Outcome.CANCELLED])
        await client.close()


async def test_a_client_that_floods_within_its_stream_is_closed() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SSE)
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.say(b"f\r\n" + A + b"\r\n")

    async with serving(script, limits={"pipelined_bytes_max": 1000}) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM)
        await client.head()
        client.writer.write(b"x" * 2000)
        await until(lambda: rig.outcomes == [Outcome.CANCELLED])
        await until(lambda: rig.upstreams[0].closed)
        await client.close()


# --- backpressure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_client_slows_the_upstream_and_loses_nothing(stream: bool) -> None:
    count, sent = 400, 0
    piece = b"data: " + b"x" * 65_000 + b"\n\n"

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        kind = b"text/event-stream" if stream else b"text/plain"
        await talk.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % kind
        )
        for _ in range(count):
            await talk.say(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += 1
        await talk.say(b"0\r\n\r\n")

    async with serving(script) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM if stream else CHAT)
        await asyncio.sleep(0.5)
        assert sent < count  # it was held back
        answer = await client.answer()
        assert len(answer.body) == count * len(piece)
        await client.close()


async def test_a_slow_client_gets_the_last_answer_whole_before_the_close() -> None:
    size = 8_000_000
    said = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)
    async with serving(always(said)) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT, b"Connection: close")
        await client.head()
        await asyncio.sleep(2.5)  # longer than a refused client is listened to
        assert len(await client.rest()) == size
        await client.close()


async def test_a_client_that_takes_nothing_is_closed() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await talk.say(b"x" * 100_000)

    async with serving(script, timeouts={"write_idle_s": 0.3}) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", CHAT)
        await until(lambda: rig.outcomes == [Outcome.CANCELLED])
        await client.close()


# --- upgrades -------------------------------------------------------------------------------------

UPGRADE = (
    b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nAuthorization: Bearer x\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s\r\n\r\n"
)


async def test_a_websocket_is_a_tunnel_after_its_101() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await asyncio.sleep(0.05)
        await talk.say(SWITCH + b"hello")
        assert await talk.reader.readexactly(5) == b"early"
        while data := await talk.reader.read(100):
            await talk.say(data.upper())

    async with serving(script) as rig:
        client = await rig.client()
        client.writer.write(UPGRADE + b"early")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s\r\n" in head
        assert head.lower().count(b"upgrade: websocket") == 1
        assert await client.reader.readexactly(5) == b"hello"
        client.writer.write(b"abc")
        assert await client.reader.readexactly(3) == b"ABC"
        sent = rig.upstreams[0].requests[0][0]
        assert b"connection: Upgrade\r\nupgrade: websocket\r\n" in sent
        assert b"Bearer" not in sent
        client.leave()
        await until(lambda: rig.outcomes == [Outcome.OK])
        await until(lambda: rig.upstreams[0].closed)


async def test_an_upgrade_that_is_refused_is_an_ordinary_answer() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(UPGRADE)
        assert (await client.answer()).body == b"{}"
        client.send("/v1/chat/completions", CHAT)
        assert (await client.answer()).body == b"{}"
        await client.close()


async def test_a_tunnel_that_is_idle_ends() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(SWITCH)
        await talk.left()

    async with serving(script, timeouts={"upgrade_idle_s": 0.2}) as rig:
        client = await rig.client()
        client.writer.write(UPGRADE)
        await client.head()
        assert await client.rest() == b""
        await client.close()


async def test_other_upgrades_are_dropped() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: h2c\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
        )
        client.send("/v1/chat/completions", CHAT)
        assert (await client.answer()).body == b"{}"
        assert (await client.answer()).body == b"{}"
        assert b"upgrade" not in rig.upstreams[0].requests[0][0].lower()
        await client.close()


# --- shutdown -------------------------------------------------------------------------------------


async def test_a_drain_answers_what_runs_and_what_still_comes() -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await go.wait()
            await talk.say(OK)

    async with serving(script) as rig:
        client, late = await rig.client(), await rig.client()
        client.send("/v1/chat/completions", CHAT)
        await until(lambda: rig.upstreams[0].requests)
        draining = asyncio.get_running_loop().create_task(rig.relay.drain(10))
        await asyncio.sleep(0)
        late.send("/v1/chat/completions", CHAT)
        await until(lambda: len(rig.upstreams[0].requests) == 2)
        go.set()
        for one in (client, late):
            answer = await one.answer()
            assert answer.headers["connection"] == "close"
            assert await one.rest() == b""
            await one.close()
        await draining


async def test_what_outlasts_the_drain_is_told() -> None:
    async with serving(waits_within_the_stream) as rig:
        client = await rig.client()
        client.send("/v1/chat/completions", STREAM)
        await client.head()
        await client.chunk()
        await rig.relay.drain(0.05)
        await rig.relay.close()
        assert b"error" in await client.rest()
        await client.close()


async def test_a_tunnel_that_outlasts_the_drain_gets_no_http() -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        )
        await talk.left()

    async with serving(script) as rig:
        client = await rig.client()
        client.send(
            "/v1/realtime?model=m",
            b"",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            method=b"GET",
        )
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        await rig.relay.close()
        assert await client.rest() == b""
        assert rig.outcomes == [Outcome.OK]
        await client.close()


async def test_a_half_closed_client_gets_all_its_answers_and_then_the_close() -> None:
    async with serving(always(OK), half_close="answer") as rig:
        client = await rig.client()
        for _ in range(3):
            client.send("/v1/chat/completions", CHAT)
        client.writer.write_eof()
        assert (await client.rest()).count(b"HTTP/1.1 200 ") == 3
        await client.close()
