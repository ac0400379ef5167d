"""Answers that break off and go on elsewhere: `router.resume` between two mock engines' bytes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysitter.mock.answers import Answers, Request, Stream
from babysitter.mock.faults import Faults
from babysitter.mock.settings import Settings
from router import resume
from router.resume import DONE, Rest, Resume

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
SAID_MAX = 1 << 20


def chat(**more: Any) -> bytes:
    messages = [{"role": "user", "content": "tell me something"}]
    return msgspec.json.encode({"model": "m", "stream": True, "messages": messages, **more})


def completion(**more: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "stream": True, "prompt": "one day", **more})


WITH_USAGE = {"stream_options": {"include_usage": True}}


class Engine:
    """A mock engine without its sockets."""

    def __init__(self, name: str, tokens: int = 12) -> None:
        self.answers = Answers(Settings(name=name, models=("m",), tokens=tokens, anonymous=True))

    def stream(self, path: str, body: bytes) -> list[bytes]:
        """Its events, [DONE] the last."""
        request = Request(
            method="POST", target=path, headers=[], body=body, keep_alive=True, http10=False
        )
        found = self.answers.answer(request, json.loads(body), "m", Faults(), 1_000.0)
        assert isinstance(found, Stream)
        return [*found.events, found.closing]


def read(path: str, body: bytes) -> resume.Request:
    request = resume.read(path, body)
    assert request is not None
    return request


def decoded(out: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream, which must end in exactly one [DONE]."""
    assert out.endswith(DONE) and out.count(DONE) == 1
    return [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]


def text_of(chunks: list[dict[str, Any]]) -> str:
    said = (choice for chunk in chunks for choice in chunk["choices"])
    return "".join(
        one["text"] if "text" in one else one["delta"].get("content", "") for one in said
    )


def played(path: str, body: bytes, cuts: list[int]) -> tuple[bytes, Resume]:
    """What the client gets when the n-th engine is cut after `cuts[n]` events of its own."""
    said = Resume(read(path, body), SAID_MAX)
    engines = [Engine(f"engine-{n}") for n in range(len(cuts) + 1)]
    out = b""
    asked = body
    for number, engine in enumerate(engines):
        events = engine.stream(path, asked)
        cut = cuts[number] if number < len(cuts) else len(events)
        out += said.take(b"".join(events[:cut]))
        if cut >= len(events):
            break
        rest = said.cut()
        assert rest is not None
        out += rest.out
        if not rest.more:
            break
        asked = said.body(None)
    return out, said


def undisturbed(path: str, body: bytes) -> bytes:
    return b"".join(Engine("engine-0").stream(path, body))


CUTS = st.lists(st.integers(min_value=1, max_value=18), max_size=3)


@given(CUTS, st.booleans(), st.sampled_from([{}, {"max_tokens": 5}, {"max_completion_tokens": 30}]))
def test_wherever_a_chat_is_cut_the_client_gets_the_same_answer(
    cuts: list[int], usage: bool, limit: dict[str, int]
) -> None:
    body = chat(**limit, **(WITH_USAGE if usage else {}))
    out, _ = played(CHAT, body, cuts)
    chunks, whole = decoded(out), decoded(undisturbed(CHAT, body))
    assert text_of(chunks) == text_of(whole)
    assert [c.get("usage") for c in chunks if "usage" in c] == [
        c.get("usage") for c in whole if "usage" in c
    ]
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    roles = [c for c in chunks for one in c["choices"] if "role" in one["delta"]]
    assert len(roles) == 1
    ends = [one["finish_reason"] for c in chunks for one in c["choices"] if one["finish_reason"]]
    assert ends == ["length" if limit.get("max_tokens") else "stop"]


@given(CUTS, st.booleans(), st.booleans())
def test_wherever_a_completion_is_cut_the_client_gets_the_same_answer(
    cuts: list[int], usage: bool, ids: bool
) -> None:
    body = completion(**(WITH_USAGE if usage else {}))
    if ids:
        body = resume.asking_ids(body) or b""
    out, said = played(COMPLETION, body, cuts)
    whole = undisturbed(COMPLETION, completion(**(WITH_USAGE if usage else {})))
    chunks = decoded(out)
    assert text_of(chunks) == text_of(decoded(whole))
    assert [c["usage"] for c in chunks if "usage" in c] == [
        c["usage"] for c in decoded(whole) if "usage" in c
    ]
    assert len({c["id"] for c in chunks}) == 1
    if cuts and ids:
        assert said.mode == "tokens"


def test_a_prompt_of_token_ids_goes_on_as_token_ids() -> None:
    body = completion(prompt=[260, 261, 262], return_token_ids=True)
    engine, said = Engine("a"), Resume(read(COMPLETION, body), SAID_MAX)
    said.take(b"".join(engine.stream(COMPLETION, body)[:3]))
    assert said.mode == "tokens"
    assert said.cut() == Rest(b"", True)
    assert json.loads(said.body(None))["prompt"] == [260, 261, 262, 100_000, 100_001, 100_002]


def test_a_prompt_of_token_ids_cannot_be_extended_by_text() -> None:
    body = completion(prompt=[260, 261, 262])
    said = Resume(read(COMPLETION, body), SAID_MAX)
    said.take(b"".join(Engine("a").stream(COMPLETION, body)[:3]))
    assert said.mode is None
    assert said.cut() is None


def test_token_ids_that_the_client_did_not_ask_for_stay_here() -> None:
    asked = resume.asking_ids(completion())
    assert asked is not None
    events = b"".join(Engine("a").stream(COMPLETION, asked))
    assert b"token_ids" in events
    assert b"token_ids" not in Resume(read(COMPLETION, completion()), SAID_MAX).take(events)
    kept = Resume(read(COMPLETION, completion(return_token_ids=True)), SAID_MAX).take(events)
    assert kept == events
    assert resume.asking_ids(completion(return_token_ids=True)) is None


def test_a_stream_that_is_not_cut_passes_as_it_came() -> None:
    said = Resume(read(CHAT, chat(**WITH_USAGE)), SAID_MAX)
    events = b": alive\n\n" + undisturbed(CHAT, chat(**WITH_USAGE))
    assert said.take(events) == events
    assert said.ended


def test_what_was_said_goes_back_as_the_message_to_continue() -> None:
    said = Resume(read(CHAT, chat(max_tokens=10, temperature=0.5)), SAID_MAX)
    events = Engine("a").stream(CHAT, chat())
    said.take(b"".join(events[:4]))  # the role, and three tokens
    assert said.cut() == Rest(b"", True)
    asked = json.loads(said.body("other"))
    assert asked["messages"][-1] == {"role": "assistant", "content": "mock: turn 1. tell"}
    assert asked["continue_final_message"] is True
    assert asked["add_generation_prompt"] is False
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("other", 7, 0.5)


def test_a_message_that_the_client_had_continued_is_continued() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "mock:"}]
    more = {"continue_final_message": True, "add_generation_prompt": False}
    body = chat(messages=messages, **more)
    said = Resume(read(CHAT, body), SAID_MAX)
    said.take(b"".join(Engine("a").stream(CHAT, body)[:2]))
    assert said.cut() is not None
    assert json.loads(said.body(None))["messages"][1:] == [
        {"role": "assistant", "content": "mock: turn 1."}
    ]


def test_a_cut_before_the_first_word_asks_for_the_same_again() -> None:
    said = Resume(read(CHAT, chat()), SAID_MAX)
    said.take(Engine("a").stream(CHAT, chat())[0])
    assert said.cut() == Rest(b"", True)
    assert json.loads(said.body(None)) == json.loads(chat())


def test_after_the_last_word_only_the_usage_is_asked_for() -> None:
    body = chat(**WITH_USAGE)
    said = Resume(read(CHAT, body), SAID_MAX)
    said.take(b"".join(Engine("a").stream(CHAT, body)[:-2]))
    assert said.cut() == Rest(b"", True)
    assert json.loads(said.body(None))["max_tokens"] == 1


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"guided_regex": "a+"},
        {"modalities": ["text", "audio"]},
        {"stream": False},
        {"messages": []},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"messages": "hi"},
    ],
)
def test_what_could_come_out_wrong_is_not_resumed(more: dict[str, Any]) -> None:
    assert resume.read(CHAT, chat(**more)) is None


@pytest.mark.parametrize(
    "more",
    [{"best_of": 2}, {"echo": True}, {"suffix": "."}, {"logprobs": 0}, {"prompt": ["a", "b"]}],
)
def test_nor_is_such_a_completion(more: dict[str, Any]) -> None:
    assert resume.read(COMPLETION, completion(**more)) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/responses", chat()), ("/v1/messages", chat()), (CHAT, b"{"), (CHAT, b"[]"), (CHAT, b"")],
)
def test_nor_is_anything_else(path: str, body: bytes) -> None:
    assert resume.read(path, body) is None


def test_defaults_that_are_spelt_out_do_no_harm() -> None:
    more = {"n": 1, "tools": [], "response_format": {"type": "text"}, "logprobs": False}
    assert resume.read(CHAT, chat(**more)) is not None
    assert resume.read(COMPLETION, completion(prompt=["one"], suffix=None, echo=False)) is not None


def chunk(**choice: Any) -> bytes:
    return (
        b"data: " + msgspec.json.encode({"id": "x", "choices": [{"index": 0, **choice}]}) + b"\n\n"
    )


@pytest.mark.parametrize(
    "came",
    [
        chunk(delta={"reasoning_content": "hm"}),
        chunk(delta={"tool_calls": [{"index": 0}]}),
        b'data: {"choices":[{"index":1,"delta":{"content":"a"}}]}\n\n',
        chunk(delta={"content": ["a"]}),
        b"data: what?\n\n",
    ],
)
def test_an_answer_that_text_cannot_continue_is_not_resumed(came: bytes) -> None:
    said = Resume(read(CHAT, chat()), SAID_MAX)
    assert said.take(came) == came
    assert said.mode is None
    assert said.cut() is None
    assert said.ended  # and is left as it came


def test_a_text_above_the_limit_is_not_resumed() -> None:
    said = Resume(read(CHAT, chat()), 8)
    said.take(chunk(delta={"content": "12345678"}))
    assert said.mode == "text"
    said.take(chunk(delta={"content": "9"}))
    assert said.cut() is None


def test_an_error_told_midway_is_a_cut() -> None:
    said = Resume(read(CHAT, chat()), SAID_MAX)
    error = b'data: {"error": {"message": "engine is dead"}}\n\n'
    word = chunk(delta={"content": "a"})
    assert said.take(word + error + DONE) == word
    assert said.error == error
    assert not said.ended
    assert said.cut() == Rest(b"", True)
    assert not said.error


def test_line_ends_of_any_kind_are_read() -> None:
    said = Resume(read(CHAT, chat()), SAID_MAX)
    events = chunk(delta={"content": "a"}).replace(b"\n", b"\r\n") + b": b\r\r"
    assert said.take(events) == events
    assert json.loads((said.cut() and said.body(None)) or b"")["messages"][-1]["content"] == "a"
