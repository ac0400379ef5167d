"""Streams that go on elsewhere, through the relay: every place of a cut, and what ends a resume."""

import json
from typing import Any

import msgspec
import pytest

from router.named import Model
from router.outcome import Outcome
from router.seam import End
from tests.router.relay_kit import SSE, Answer, Rig, Talk, once, serving
from tests.support.mock import MockHere, mock_here
from tests.support.until import until

TOKENS = 32
RESUMES: dict[str, Any] = {"named": {"m": Model(resume=True)}}
CHAT = "/v1/chat/completions"
BODY = msgspec.json.encode(
    {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "tell me something"}],
    }
)
WORD = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
BEGUN = SSE + b"%x\r\n%b\r\n" % (len(WORD), WORD)
NAN = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def chunks(answer: Answer) -> list[dict[str, Any]]:
    lines = answer.body.decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def said(answer: Answer) -> tuple[str, list[Any], int, int]:
    """Text, usages, how many [DONE]s and ids."""
    found = chunks(answer)
    text = [c["delta"].get("content") or "" for one in found for c in one.get("choices", ())]
    usages = [one["usage"] for one in found if "usage" in one]
    return (
        "".join(text),
        usages,
        answer.body.count(b"[DONE]"),
        len({one.get("id") for one in found}),
    )


async def both_asked(rig: Rig, first: MockHere, fault: dict[str, Any]) -> list[Answer]:
    """Two requests, so that one of them begins at `first`, whose next stream breaks off."""
    await first.faults({**fault, "times": 1})
    return [await rig.post(CHAT, BODY) for _ in range(2)]


@pytest.mark.parametrize("cut", ["between", "event", "chunk"])
async def test_cut_at_any_event_the_client_gets_the_whole_answer(cut: str) -> None:
    more: dict[str, Any] = {"models": ["m"], "anonymous": True, "tokens": TOKENS}
    resumes = 0
    async with mock_here(name="a", **more) as a, mock_here(name="b", **more) as b:
        for after in range(TOKENS + 4):
            # A relay of its own each time: one that fails so often would not be asked any more.
            async with serving(a.port, b.port, **RESUMES) as rig:
                whole = said(await rig.post(CHAT, BODY))
                assert whole[2:] == (1, 1)
                for answer in await both_asked(rig, a, {"cut": cut, "after": after}):
                    assert said(answer) == whole, (cut, after)
                await rig.quiet()
                assert set(rig.outcomes) == {Outcome.OK}
                resumes += sum(plan.resumes for plan, _ in rig.ends)
    # Before the first event it is an ordinary retry, after the last one nothing is missing.
    assert resumes == TOKENS + 2


async def test_a_stream_that_stalls_goes_on_elsewhere() -> None:
    more: dict[str, Any] = {"models": ["m"], "anonymous": True, "tokens": TOKENS}
    async with (
        mock_here(name="a", **more) as a,
        mock_here(name="b", **more) as b,
        serving(a.port, b.port, timeouts={"between_chunks_s": 0.2}, **RESUMES) as rig,
    ):
        whole = said(await rig.post(CHAT, BODY))
        for answer in await both_asked(rig, a, {"hang": "middle", "after": 7}):
            assert said(answer) == whole


async def test_an_error_told_midway_is_resumed_too() -> None:
    more: dict[str, Any] = {"models": ["m"], "anonymous": True, "tokens": TOKENS}
    async with (
        mock_here(name="a", **more) as a,
        mock_here(name="b", **more) as b,
        serving(a.port, b.port, **RESUMES) as rig,
    ):
        whole = said(await rig.post(CHAT, BODY))
        for answer in await both_asked(rig, a, {"error_event": 5}):
            assert said(answer) == whole


async def test_alone_it_passes_the_engines_own_error_on() -> None:
    faults = [{"error_event": 5}]
    async with mock_here(models=["m"], faults=faults) as mock, serving(mock.port, **RESUMES) as rig:
        answer = await rig.post(CHAT, BODY)
        assert chunks(answer)[-1]["error"]["message"] == "the mock engine failed"
        assert b"[DONE]" not in answer.body
        await rig.quiet()
        assert rig.outcomes == [Outcome.CUT]


def ended(rig: Rig) -> End:
    return rig.ends[-1][1]


async def begin(talk: Talk) -> None:
    """Whoever is asked first says one word and breaks off; who is asked to go on refuses."""
    _, body = await talk.request()
    await talk.say(NAN if b"continue_final_message" in body else BEGUN)


async def test_an_engine_that_cannot_continue_is_not_to_blame() -> None:
    async with serving(begin, begin, **RESUMES) as rig:
        answer = await rig.post(CHAT, BODY)
        assert chunks(answer)[-1]["error"]["code"] == "upstream_cut"
        await rig.quiet()
        assert ended(rig).outcome is Outcome.CUT
        nodes = [one.node for one in rig.brain.table.upstreams.values()]
        assert sorted(node.error_count for node in nodes) == [0, 1]
        assert sum(node.outcomes[Outcome.CLIENT] for node in nodes) == 1
        assert rig.brain.models["m"].resumes == {"failed": 1}


async def test_it_goes_on_at_most_twice() -> None:
    async with serving(*[once(BEGUN)] * 4, **RESUMES) as rig:
        answer = await rig.post(CHAT, BODY)
        assert answer.body.count(b'"content":"one"') == 3
        assert chunks(answer)[-1]["error"]["code"] == "upstream_cut"
        await rig.quiet()
        assert rig.ends[-1][0].resumes == 2
        assert rig.ends[-1][0].attempts == 3


async def test_an_engine_that_cannot_be_reached_is_passed_over() -> None:
    async def whole(talk: Talk) -> None:
        end = WORD.replace(b'"delta"', b'"finish_reason":"stop","delta"') + b"data: [DONE]\n\n"
        await talk.request()
        await talk.say(SSE + b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))

    body = BODY.replace(b"include_usage", b"other")
    async with serving(once(BEGUN), once(BEGUN), 1, whole, **RESUMES) as rig:
        for _ in range(4):
            answer = await rig.post(CHAT, body)
            assert b"[DONE]" in answer.body or b"upstream_cut" in answer.body
        await rig.quiet()
        assert Outcome.OK in rig.outcomes


async def test_a_client_that_leaves_meanwhile_frees_the_engine_that_goes_on() -> None:
    async def waits(talk: Talk) -> None:
        _, body = await talk.request()
        if b"continue_final_message" in body:
            await talk.left()
        else:
            await talk.say(BEGUN)

    async with serving(waits, waits, **RESUMES) as rig:
        client = await rig.client()
        client.send(CHAT, BODY)
        await client.head()
        await until(lambda: sum(map(len, [one.requests for one in rig.upstreams])) == 2)
        client.leave()
        await until(lambda: sum(one.closed for one in rig.upstreams) == 2)
        await rig.quiet()
        assert rig.outcomes == [Outcome.CANCELLED]
        assert all(not one.node.in_flight for one in rig.brain.table.upstreams.values())
        assert rig.brain.models["m"].resumes == {"cancelled": 1}


async def test_an_end_in_good_order_but_halfway_is_a_cut() -> None:
    async with serving(once(BEGUN + b"0\r\n\r\n"), **RESUMES) as rig:
        answer = await rig.post(CHAT, BODY)
        assert chunks(answer)[-1]["error"]["code"] == "upstream_cut"
    async with serving(once(BEGUN + b"0\r\n\r\n")) as rig:
        assert b"error" not in (await rig.post(CHAT, BODY)).body
        assert "x-creche-resume" not in (await rig.post(CHAT, BODY)).headers


async def test_only_streams_say_whether_they_may_be_resumed() -> None:
    async with mock_here(models=["m"]) as mock, serving(mock.port, **RESUMES) as rig:
        assert (await rig.post(CHAT, BODY)).headers["x-creche-resume"] == "text"
        refused = BODY.replace(b'"stream":true', b'"stream":true,"n":2')
        assert (await rig.post(CHAT, refused)).headers["x-creche-resume"] == "none"
        plain = BODY.replace(b'"stream":true', b'"stream":false')
        assert "x-creche-resume" not in (await rig.post(CHAT, plain)).headers
