"""A second upstream for a stream that does not begin, through the relay: both lanes, every end."""

import asyncio
from typing import Any

import pytest

from common.tasks import spawn
from router.config import Retry
from router.named import Model, ModelTimeouts
from router.outcome import Failure, Outcome
from tests.router.relay_kit import (
    CHAT,
    OK,
    SSE,
    STREAM,
    Answer,
    Rig,
    Talk,
    events,
    serving,
)
from tests.support.until import until

SOON: dict[str, Any] = {"named": {"m": Model(hedge_after_ms=30)}, "retry": Retry(hedge_percent=100)}
PATH = "/v1/chat/completions"
ONE = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
TWO = b'data: {"choices":[{"delta":{"content":"two"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "no"}}\n\n'


class Pair:
    """Two upstreams that say nothing until they are told to; `first` is whoever was asked first.

    What is told goes to the connection with the latest request.
    """

    def __init__(self) -> None:
        self.asked: list[Talk] = []
        #: Connections that the relay has closed.
        self.left: list[Talk] = []

    async def __call__(self, talk: Talk) -> None:
        while True:
            await talk.request()
            self.asked.append(talk)
            if await talk.left():
                self.left.append(talk)

    async def both(self) -> tuple[Talk, Talk]:
        await until(lambda: len(self.asked) == 2)
        first, second = self.asked
        return first, second


def outcomes(rig: Rig, first: Talk, second: Talk) -> list[list[Outcome]]:
    """Of the two upstreams, what their attempts came to."""
    by_port = {u.node.port: u.node.outcomes for u in rig.brain.table.upstreams.values()}
    ports = [talk.writer.get_extra_info("sockname")[1] for talk in (first, second)]
    return [[Outcome(at) for at, n in enumerate(by_port[port]) if n] for port in ports]


def post(rig: Rig) -> "asyncio.Task[Answer]":
    return spawn(rig.post(PATH, STREAM), "client")


async def test_the_second_begins_first_and_the_first_is_closed() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        assert first.requests[0][1] == second.requests[0][1] == STREAM
        await second.say(events(TWO))
        answer = await asking
        assert answer.body == TWO + DONE
        assert answer.headers["x-creche-attempts"] == "2"
        await until(lambda: first in pair.left, what="the first is closed")
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.CANCELLED], [Outcome.OK]]
        plan, end = rig.ends[0]
        assert (plan.hedged, plan.attempts, end.outcome) == ("won", 2, Outcome.OK)
        assert end.tokens_out is None and end.done_marker


async def test_the_first_begins_after_all_and_the_second_is_closed() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        await first.say(events(ONE))
        answer = await asking
        assert answer.body == ONE + DONE and answer.headers["x-creche-attempts"] == "1"
        await until(lambda: second in pair.left, what="the second is closed")
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.OK], [Outcome.CANCELLED]]
        assert rig.ends[0][0].hedged == "lost"


async def test_a_head_alone_or_a_comment_is_no_beginning() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        await second.say(SSE, b"e\r\n: thinking..\n\n\r\n")
        await first.say(SSE, b"4\r\ndata\r\n")
        assert not asking.done()
        await second.say(b"%x\r\n%b\r\n" % (len(TWO), TWO), b"0\r\n\r\n")
        assert (await asking).body == b": thinking..\n\n" + TWO
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.CANCELLED], [Outcome.OK]]


@pytest.mark.parametrize("cuts", [range(1, 200, 7), range(1, 200)])
async def test_what_the_second_says_arrives_whole_however_it_comes(cuts: range) -> None:
    data = events(TWO, ONE)
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        _, second = await pair.both()
        at = 0
        for cut in (*cuts, len(data)):
            await second.say(data[at:cut])
            at = cut
        assert (await asking).body == TWO + ONE + DONE


BROKEN = [
    (b"", Outcome.UNREACHABLE),
    (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", Outcome.BROKEN),
    (b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", Outcome.BACKPRESSURE),
    (SSE + b"%x\r\n%b\r\n" % (len(ERROR), ERROR), Outcome.BROKEN),
    (SSE + b"zz\r\n", Outcome.BROKEN),
]


@pytest.mark.parametrize(("said", "outcome"), BROKEN)
async def test_the_first_fails_and_the_second_answers(said: bytes, outcome: Outcome) -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        if said:
            await first.say(said)
        else:
            first.reset()
        await until(lambda: outcomes(rig, first, second)[0] == [outcome])
        assert not asking.done()
        await second.say(events(TWO))
        assert (await asking).body == TWO + DONE
        await rig.quiet()
        assert outcomes(rig, first, second) == [[outcome], [Outcome.OK]]
        assert rig.outcomes == [Outcome.OK] and rig.ends[0][0].attempts == 2


@pytest.mark.parametrize(
    ("said", "outcome"),
    [*BROKEN, (b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n", Outcome.CLIENT), (OK, Outcome.OK)],
)
async def test_the_second_fails_and_the_first_answers(said: bytes, outcome: Outcome) -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        if said:
            await second.say(said)
        else:
            second.reset()
        await until(lambda: outcomes(rig, first, second)[1] == [outcome])
        assert not asking.done()
        await first.say(events(ONE))
        assert (await asking).body == ONE + DONE
        await rig.quiet()
        assert rig.outcomes == [Outcome.OK]
        assert len(pair.asked) == 2, "asked once for it"


async def test_both_fail_and_the_client_is_told() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        first.reset()
        second.reset()
        answer = await asking
        assert answer.status == 502
        await rig.quiet()
        assert rig.ends[0][1].failure in (Failure.CLOSED, Failure.CONNECT)


async def test_a_client_that_leaves_frees_both() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        client = await rig.client()
        client.send(PATH, STREAM)
        first, second = await pair.both()
        await client.close()
        await until(lambda: set(pair.left) == {first, second}, what="both are closed")
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.CANCELLED], [Outcome.CANCELLED]]
        assert rig.outcomes == [Outcome.CANCELLED]


async def test_the_first_times_out_and_the_second_has_its_own_time() -> None:
    pair = Pair()
    named = {"m": Model(hedge_after_ms=30, timeouts=ModelTimeouts(first_event_s=60))}
    async with serving(pair, pair, named=named) as rig:
        asking = post(rig)
        first, second = await pair.both()
        (client,) = rig.relay.clients
        given_up_at = client.deadline
        for _ in range(2):
            rig.relay._sweep_clients(given_up_at)
        await until(lambda: first in pair.left, what="the first is given up")
        assert client.deadline > given_up_at
        assert not asking.done()
        await second.say(events(TWO))
        assert (await asking).body == TWO + DONE
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.SLOW], [Outcome.OK]]


async def test_the_router_stops_and_both_are_closed() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        await rig.relay.close()
        assert (await asking).status == 503
        await until(lambda: set(pair.left) == {first, second})


async def test_with_one_upstream_nothing_is_hedged() -> None:
    pair = Pair()
    async with serving(pair, **SOON) as rig:
        asking = post(rig)
        await until(lambda: len(pair.asked) == 1)
        hedged = asyncio.Event()
        rig.relay.gateway.loop.call_later(0.06, hedged.set)
        await hedged.wait()
        await pair.asked[0].say(events(ONE))
        assert (await asking).body == ONE + DONE
        await rig.quiet()
        assert rig.ends[0][0].hedged is None


async def test_a_plain_request_is_not_hedged() -> None:
    pair = Pair()
    async with serving(pair, pair, **SOON) as rig:
        asking = spawn(rig.post(PATH, CHAT), "client")
        await until(lambda: len(pair.asked) == 1)
        waited = asyncio.Event()
        rig.relay.gateway.loop.call_later(0.06, waited.set)
        await waited.wait()
        await pair.asked[0].say(OK)
        assert (await asking).body == b"{}" and len(pair.asked) == 1


async def test_comments_come_while_two_are_asked() -> None:
    pair = Pair()
    async with serving(pair, pair, timeouts={"comment_every_s": 0.01}, **SOON) as rig:
        asking = post(rig)
        _, second = await pair.both()
        await second.say(events(TWO))
        answer = await asking
        assert answer.body.startswith(b": keep-alive\n\n")
        assert b": x-creche-attempts: 2\n" in answer.body and answer.body.endswith(TWO + DONE)


async def test_an_error_answer_behind_comments_ends_the_second() -> None:
    pair = Pair()
    async with serving(pair, pair, timeouts={"comment_every_s": 0.01}, **SOON) as rig:
        asking = post(rig)
        first, second = await pair.both()
        await first.say(b"HTTP/1.1 400 No\r\ncontent-length: 4\r\n\r\nlong")
        answer = await asking
        assert b'"message":"long"' in answer.body
        await until(lambda: second in pair.left)
        await rig.quiet()
        assert outcomes(rig, first, second) == [[Outcome.CLIENT], [Outcome.CANCELLED]]


async def test_a_winner_that_breaks_off_is_resumed_elsewhere() -> None:
    pair = Pair()
    named = {"m": Model(hedge_after_ms=30, resume=True)}
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    async with serving(pair, pair, pair, named=named, retry=Retry(hedge_percent=100)) as rig:
        asking = spawn(rig.post(PATH, body), "client")
        first, second = await pair.both()
        await second.say(SSE, b"%x\r\n%b\r\n" % (len(TWO), TWO))
        await until(lambda: first in pair.left)
        second.reset()
        await until(lambda: len(pair.asked) == 3)
        assert b"continue_final_message" in pair.asked[2].requests[-1][1]
        last = b'data: {"choices":[{"delta":{"content":" three"},"finish_reason":"stop"}]}\n\n'
        await pair.asked[2].say(events(last))
        answer = await asking
        assert b'"two"' in answer.body and b'" three"' in answer.body
        assert answer.body.endswith(DONE)


async def test_a_renamed_model_is_asked_for_by_its_name_in_both_lanes() -> None:
    pair = Pair()
    named = {"code": Model(backend_model="m", hedge_after_ms=30)}
    async with serving(pair, pair, named=named) as rig:
        asking = spawn(rig.post(PATH, STREAM.replace(b'"m"', b'"code"')), "client")
        first, second = await pair.both()
        assert first.requests[0][1] == second.requests[0][1] == STREAM
        await second.say(events(TWO))
        answer = await asking
        assert answer.headers["x-creche-model"] == "m"
