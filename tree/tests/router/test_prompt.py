import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.envelope import EMPTY, PREFIX_KEPT_BYTES, Envelope, read_form, read_json, read_query
from router.prompt import NO_PROMPT, Prompt


def of(**body: Any) -> Envelope:
    return read_json(json.dumps({"model": "m", **body}).encode())


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    assert of(messages=[user("abcde")]).prompt() == Prompt(5, 2, 1, 1)
    assert of(messages=[user("é" * 8)]).prompt().tokens == 2
    assert of(prompt="").prompt().tokens == 0


def test_turns_are_those_of_user_and_assistant() -> None:
    said = [{"role": "system", "content": "s"}, user("a"), {"role": "assistant", "content": "b"}]
    assert of(messages=[*said, user("c")]).prompt().turns == 3
    assert of(prompt="once upon").prompt().turns == 1
    assert of(input="once upon").prompt().turns == 1
    assert of(input=[user("a"), {"role": "assistant", "content": "b"}]).prompt().turns == 2
    assert of().prompt() == NO_PROMPT


@pytest.mark.parametrize(
    ("body", "batch"),
    [
        ({"input": ["a", "b", "c"]}, 3),
        ({"prompt": ["a", "b"]}, 2),
        ({"input": "a"}, 1),
        ({"input": []}, 1),
        ({"input": [user("a"), user("b")]}, 1),
        ({"input": [1, 2, 3]}, 1),
        ({"input": [[1, 2], [3]]}, 2),
        ({"messages": [user("a"), user("b")]}, 1),
    ],
)
def test_a_batch_is_several_inputs(body: dict[str, Any], batch: int) -> None:
    assert of(**body).prompt().batch == batch


def test_tokens_that_came_as_such_are_counted() -> None:
    assert of(prompt=[1, 2, 3]).prompt() == Prompt(0, 3, 1, 1)
    assert of(input=[[1, 2], [3, 4, 5]]).prompt().tokens == 5


def test_every_dialects_text_counts() -> None:
    parts = [{"type": "input_text", "text": "ab"}, "cd", {"type": "image_url", "image_url": {}}]
    assert of(messages=[user(parts)]).prompt().characters == 4
    assert of(system="ab", messages=[user("cd")]).prompt().characters == 4
    assert of(system=[{"type": "text", "text": "abc"}]).prompt().characters == 3
    assert of(instructions="ab", input="cd").prompt().characters == 4
    result = {"type": "tool_result", "content": [{"type": "text", "text": "abcde"}]}
    assert of(messages=[user([result])]).prompt().characters == 5


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "hi"},
        {"messages": 1, "prompt": {}, "input": True},
        {"messages": [1, None, [], {"content": 5}, {"role": 1}]},
        {"messages": {"a": 1}, "tools": 1, "system": 5},
        {"input": [None, 1.5]},
    ],
)
def test_other_shapes_count_as_nothing_and_break_nothing(body: dict[str, Any]) -> None:
    found = of(**body)
    assert found.prompt().characters <= 2
    assert len(found.prefix(100)) <= 100


def test_what_was_read_off_the_loop_says_the_same() -> None:
    raw = json.dumps({"model": "m", "tools": [{"a": 1}], "messages": [user("x" * 1_000)]}).encode()
    lazy, measured = read_json(raw), read_json(raw, measure=True)
    assert lazy.prompt() == measured.prompt()
    assert lazy.text_bytes() == measured.text_bytes() == 1_000
    assert lazy.prefix(600) == measured.prefix(600)
    assert lazy.prefix(10) == measured.prefix(600)[:10]


def test_of_a_large_body_a_bounded_prefix_is_kept() -> None:
    raw = json.dumps({"model": "m", "prompt": "x" * (2 * PREFIX_KEPT_BYTES)}).encode()
    assert len(read_json(raw, measure=True).prefix(1 << 30)) == PREFIX_KEPT_BYTES


def test_a_prompt_of_endless_pieces_counts_by_its_length() -> None:
    raw = b'{"model":"m","messages":[' + b"{}," * 150_000 + b"{}]}"
    found = read_json(raw).prompt()
    assert found.characters > 400_000
    assert found.turns == 1


def test_a_form_and_a_query_say_nothing() -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'
    for found in (EMPTY, read_form(form, b"x"), read_query("model=m")):
        assert found.prompt() == NO_PROMPT
        assert found.prefix(100) == b""
        assert found.text_bytes() == 0


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", ""]), "content": TEXT})
MESSAGES = st.lists(MESSAGE, max_size=4)


@given(MESSAGES, MESSAGES)
def test_prefixes_are_equal_for_equal_conversations_alone(
    one: list[dict[str, str]], two: list[dict[str, str]]
) -> None:
    assert (of(messages=one).prefix(10_000) == of(messages=two).prefix(10_000)) == (one == two)


@given(MESSAGES, MESSAGES, st.integers(1, 200))
def test_a_longer_conversation_begins_as_the_shorter_one(
    one: list[dict[str, str]], more: list[dict[str, str]], limit: int
) -> None:
    short = of(messages=one).prefix(limit)
    long = of(messages=one + more).prefix(limit)
    assert long.startswith(short)
    assert len(long) <= limit


@given(TEXT, TEXT)
def test_a_text_that_grows_begins_as_before(one: str, more: str) -> None:
    assert of(prompt=one + more).prefix(1_000).startswith(of(prompt=one).prefix(1_000))
    grown = of(messages=[user(one + more)]).prefix(1_000)
    assert grown.startswith(of(messages=[user(one)]).prefix(1_000))


def test_how_json_spells_a_text_makes_no_difference() -> None:
    plain = '{"model":"m","messages":[{"content":"é\\u0041","role":"user"}]}'.encode()
    escaped = b'{ "messages": [ {"role": "user", "content": "\\u00e9A"} ], "model": "m" }'
    assert read_json(plain).prefix(99) == read_json(escaped).prefix(99)


def test_tools_and_instructions_come_before_messages() -> None:
    found = of(messages=[user("hello")], tools=[{"name": "t"}], instructions="rules").prefix(999)
    assert found.index(b'"t"') < found.index(b"rules") < found.index(b"hello")


def test_what_is_no_text_is_told_apart_and_takes_little_room() -> None:
    def image(data: str) -> bytes:
        part = {"type": "image_url", "image_url": {"url": "data:" + data}}
        return of(messages=[user([part, {"type": "text", "text": "what is it?"}])]).prefix(999)

    assert image("a" * 5_000) != image("a" * 4_999 + "b")
    assert len(image("a" * 5_000)) < 60
    calls = [{"role": "assistant", "content": None, "tool_calls": [{"id": n}]} for n in (1, 2)]
    assert of(messages=calls[:1]).prefix(99) != of(messages=calls[1:]).prefix(99)
