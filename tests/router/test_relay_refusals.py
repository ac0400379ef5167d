"""What a client may not send: refused on the wire, closed, never seen by an upstream."""

import asyncio
import random

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.brain import Brain
from router.outcome import Outcome
from router.server import Relay
from tests.router.raw_requests import ROWS
from tests.router.relay_kit import CHAT, OK, Talk, always, config, serving, splits
from tests.router.wire import Wire
from tests.support.until import until

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n"


async def test_what_came_before_the_refusal_is_answered_first() -> None:
    async with serving(always(OK)) as rig:
        good = POST + b"Content-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
        raw = await rig.ask(good + b"garbage\r\n\r\n")
        assert raw.startswith(b"HTTP/1.1 200 ")
        assert raw.count(b"HTTP/1.1 400 ") == 1
        await until(lambda: Outcome.REFUSED in rig.outcomes)


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_head_has_a_length(pieces: int) -> None:
    async with serving(always(OK), limits={"head_bytes_max": 1000}) as rig:
        client = await rig.client()
        head = GET + b"X: " + b"x" * 2000 + b"\r\n\r\n"
        for piece in splits(head, [n * len(head) // pieces for n in range(pieces)]):
            client.writer.write(piece)
            await asyncio.sleep(0.001)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        await client.close()


async def test_a_head_has_its_time() -> None:
    async with serving(always(OK), timeouts={"head_s": 0.2}) as rig:
        assert (await rig.ask(b"GET / HTTP/1.1\r\nHo")).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_without_a_request_closes_without_a_word() -> None:
    async with serving(always(OK), timeouts={"keep_alive_s": 60}) as rig:
        silent, client = await rig.client(), await rig.client()
        await until(lambda: len(rig.relay.clients) == 2)
        client.send("/v1/chat/completions", CHAT)
        await client.answer()
        rig.skip(50)
        assert len(rig.relay.clients) == 2
        rig.skip(61)
        for one in (silent, client):
            assert await one.rest() == b""
            await one.close()


async def test_a_body_that_stalls() -> None:
    async with serving(always(OK), timeouts={"body_idle_s": 0.2}) as rig:
        raw = await rig.ask(POST + b"Content-Length: 5\r\n\r\nx")
        assert raw.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 1001\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
    ],
)
async def test_a_body_has_a_length(body: bytes) -> None:
    async with serving(always(OK), limits={"body_bytes_max": 1000}) as rig:
        raw = await rig.ask(POST + body)
        assert raw.startswith(b"HTTP/1.1 413 ")
        assert rig.upstreams[0].requests == []


async def test_a_client_that_still_sends_can_read_why_it_was_refused() -> None:
    async with serving(always(OK), limits={"body_bytes_max": 1000}) as rig:
        client = await rig.client()
        client.writer.write(POST + b"Content-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")
        await client.close()


async def test_all_bodies_together_have_room_or_are_told_to_come_again() -> None:
    async def slow(talk: Talk) -> None:
        await talk.request()
        await talk.left()

    async with serving(slow, limits={"bodies_memory_bytes_max": 500}) as rig:
        first = await rig.client()
        first.send("/v1/chat/completions", b" " * 400 + CHAT)
        await until(lambda: rig.upstreams[0].requests)
        answer = await rig.post("/v1/chat/completions", b" " * 400 + CHAT)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        first.leave()
        await rig.quiet()


async def test_a_body_that_is_mostly_framing() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n1;a=")
        for _ in range(100):
            client.writer.write(b"x" * 10_000)
            await asyncio.sleep(0)
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        await client.close()
        assert rig.upstreams[0].requests == []


async def test_chunks_of_one_byte_are_no_fault() -> None:
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        client.writer.write(b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n")
        assert (await client.answer()).status == 200
        await client.close()
        assert len(rig.upstreams[0].requests[0][1]) == 300_000


# --- bodies that name a model ---------------------------------------------------------------------


async def test_a_compressed_body_whose_model_must_be_read() -> None:
    async with serving(always(OK)) as rig:
        answer = await rig.post("/v1/chat/completions", CHAT, b"Content-Encoding: gzip")
        assert answer.status == 415
        answer = await rig.post("/v1/x", CHAT, b"Content-Encoding: gzip", method=b"PUT")
        assert answer.status == 200


async def test_json_that_is_too_long_to_read() -> None:
    async with serving(always(OK), limits={"json_bytes_max": 100}) as rig:
        assert (await rig.post("/v1/chat/completions", b" " * 100 + CHAT)).status == 413


@pytest.mark.parametrize("size", [500_000, 3_000_000])
async def test_a_long_body_is_read_for_its_model_and_replayed_on_another_upstream(
    size: int,
) -> None:
    body = b'{"x":"' + b"y" * size + b'","model":"m"}'

    async def breaks(talk: Talk) -> None:
        await talk.request()

    async with serving(breaks, always(OK), models=("m",)) as rig:
        for _ in range(2):
            answer = await rig.post("/v1/chat/completions", body)
            assert answer.status == 200
            assert answer.headers["x-creche-model"] == "m"
        assert {b for u in rig.upstreams for _, b in u.requests} == {body}


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_forms_model_may_come_after_its_file(size: int) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"z" * size
        + b'\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    )
    async with serving(always(OK)) as rig:
        client = await rig.client()
        client.writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        answer = await client.answer()
        assert answer.headers["x-creche-model"] == "m"
        assert rig.upstreams[0].requests[0][1] == body
        await client.close()


@pytest.mark.parametrize("size", [0, 3_000_000])
async def test_two_models_in_one_body(size: int) -> None:
    body = b'{"model":"m","x":"' + b"y" * size + b'","model":"n"}'
    async with serving(always(OK)) as rig:
        assert (await rig.post("/v1/chat/completions", body)).status == 400
        assert rig.upstreams[0].requests == []


# --- any split of the same bytes ------------------------------------------------------------------


ONE = (
    POST + b"X: y\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT),
    *(row.sent for row in ROWS if len(row.sent) < 1_000),
)


@given(
    st.lists(st.sampled_from(ONE), min_size=1, max_size=4).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_any_split_of_the_same_bytes_gives_the_same_answers(data: bytes, cuts: list[int]) -> None:
    assert _said(data, []) == _said(data, cuts)


AGAIN = (
    POST + b"X: y\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT),
    POST + b"X: y\r\nContent-Length: 02\r\n\r\n{}",
    POST + b"X: y\r\nContent-Length: 0\r\n\r\n",
    POST + b"X: y\r\nContent-Length: 5,5\r\n\r\n",
    POST + b"X: y\r\nContent-Length: 2 \r\n\r\n{}",
    POST + b"X: y\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"X: y\r\nContent-Length: 2\r\n\r\n{}\r\n",
    POST + b"X: y\r\n\r\n",
    GET + b"\r\n",
    GET + b"Connection: close\r\n\r\n",
)


@given(st.lists(st.sampled_from(AGAIN), min_size=2, max_size=6), st.integers(0, 60))
def test_a_head_that_comes_again_is_read_as_the_first_time(told: list[bytes], cut: int) -> None:
    """One request to a read is the way without the parser; a byte at a time is never."""
    data = b"".join(told)
    ends = [sum(map(len, told[:n])) for n in range(1, len(told))]
    heads = [end + cut for end in ends]
    bytewise = _said(data, list(range(len(data))))
    assert _said(data, ends) == bytewise
    assert _said(data, ends + heads) == bytewise


def _said(data: bytes, cuts: list[int]) -> tuple[bytes, bool]:
    from router.downstream import Client

    async def main() -> tuple[bytes, bool]:
        settings = config()
        relay = Relay(settings, Brain(settings, random.random), control=None, chance=0.5)
        wire = Wire()
        client = Client(relay)
        client.connection_made(wire)  # type: ignore[arg-type]
        for piece in splits(data, cuts):
            client.data_received(piece)
        said, closed = wire.out, wire.closed
        client.connection_lost(None)
        assert (relay.bodies.memory, relay.in_flight) == (0, 0)
        return said, closed

    said, closed = asyncio.run(main())
    lines = [line for line in said.split(b"\r\n") if not line.startswith(b"x-request-id")]
    return b"\r\n".join(lines), closed


def test_the_parser_is_the_one_whose_refusals_are_relied_on() -> None:
    """llhttp's lenient modes are off unless asked for: if that ever changes, look at every case."""
    assert httptools.__version__.startswith("0.")


@pytest.mark.parametrize(
    ("path", "shape"), [("/v1/messages", b'"type":"error"'), ("/v1/embeddings", b'"param":')]
)
async def test_a_refusal_at_the_door_has_the_requests_id_and_its_routes_shape(
    path: str, shape: bytes
) -> None:
    async with serving(always(OK), limits={"body_bytes_max": 10}) as rig:
        said = await rig.ask(
            b"POST %b HTTP/1.1\r\nHost: t\r\nx-request-id: mine\r\ncontent-length: 100\r\n\r\n"
            % path.encode()
        )
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nx-request-id: mine\r\n" in said
        assert shape in said
        ((plan, _),) = rig.ends
        assert plan.id == "mine"
        assert plan.problem is not None


async def test_a_refusal_of_what_is_no_request_has_an_id_too() -> None:
    async with serving(always(OK)) as rig:
        said = await rig.ask(b"GET / HTTP/1.1\r\n\r\n")
        ((plan, _),) = rig.ends
        assert b"x-request-id: %b\r\n" % plan.id.encode() in said


async def test_two_content_types_that_differ_are_refused() -> None:
    async with serving(always(OK)) as rig:
        said = await rig.ask(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            b"content-type: audio/wav\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
        )
        assert said.startswith(b"HTTP/1.1 400 ")
        assert not rig.upstreams[0].requests


async def test_web_pages_of_other_origins_read_nothing_unless_engines_may_let_them() -> None:
    said = b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-length: 2\r\n\r\n{}"
    async with serving(always(said)) as rig:
        client = await rig.client()
        for cors in ("closed", "upstream", "closed"):
            rig.relay.reconfigure(config(cors=cors))
            for _ in range(2):
                client.send("/v1/chat/completions", CHAT)
                answer = await client.answer()
                assert ("access-control-allow-origin" in answer.headers) is (cors == "upstream")
        await client.close()
