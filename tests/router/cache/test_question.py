"""Which requests may be answered from the cache, and what makes two of them the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cache.question import CANONICAL_BYTES_MAX, Question, read
from router.needs import NONE, Needs

CHAT = "/v1/chat/completions"
SAID: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COLD: dict[str, Any] = {**SAID, "temperature": 0}


def ask(
    body: object = COLD,
    path: str = CHAT,
    headers: dict[str, str] | list[tuple[str, str]] = {},  # noqa: B006 (never changed)
    *,
    served: object = "m",
    needs: Needs = NONE,
    who: object = None,
) -> Question | str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    items = headers.items() if isinstance(headers, dict) else headers
    return read(path, items, data, served=served, needs=needs, who=who)


def key(*args: Any, **more: Any) -> bytes:
    found = ask(*args, **more)
    assert isinstance(found, Question), found
    return found.key


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, COLD),
        ("/chat/completions", COLD),
        (CHAT, {**SAID, "temperature": 0.0}),
        (CHAT, {**COLD, "n": 1, "tools": [{"type": "function", "function": {"name": "f"}}]}),
        (CHAT, {**COLD, "stream": True, "stream_options": {"include_usage": True}}),
        ("/v1/completions", {"model": "m", "prompt": "hi", "temperature": 0}),
        ("/v1/messages", {**COLD, "tools": [{"name": "f", "input_schema": {}}]}),
        ("/v1/responses", {"model": "m", "input": "hi", "temperature": 0, "store": False}),
        ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}),
        ("/embedding", {"content": "a"}),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": ["a"]}),
        ("/score", {"model": "m", "text_1": "a", "text_2": "b"}),
        ("/v1/classify", {"model": "m", "input": "a"}),
    ],
)
def test_deterministic_requests_may(path: str, body: object) -> None:
    assert isinstance(ask(body, path), Question)


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        (CHAT, SAID, "temperature is not stated as 0"),
        (CHAT, {**SAID, "temperature": 0.01}, "temperature is not stated as 0"),
        (CHAT, {**SAID, "temperature": False}, "temperature is not stated as 0"),
        (CHAT, {**SAID, "temperature": "0"}, "temperature is not stated as 0"),
        (CHAT, {**COLD, "n": 2}, "it asks for several answers"),
        (CHAT, {**COLD, "best_of": 3}, "it asks for several answers"),
        (CHAT, {**COLD, "store": True}, "the engine stores the answer: store is not false"),
        (CHAT, {**COLD, "tools": [{"type": "web_search"}]}, "it names tools that the server runs"),
        (CHAT, {**COLD, "tools": {"type": "function"}}, "it names tools that the server runs"),
        (CHAT, {**COLD, "web_search_options": {"a": 1}}, "web_search_options has effects"),
        (CHAT, {**COLD, "kv_transfer_params": {"a": 1}}, "kv_transfer_params has effects"),
        ("/v1/responses", COLD, "the engine stores the answer: store is not false"),
        (
            "/v1/responses",
            {**COLD, "store": False, "previous_response_id": "r"},
            "previous_response_id has effects",
        ),
        ("/v1/responses", {**COLD, "store": False, "prompt": {"id": "p"}}, "prompt names a text"),
        ("/v1/messages", {**COLD, "tools": [{"type": "web_search_20250305"}]}, "it names tools"),
        ("/v1/messages", {**COLD, "mcp_servers": [{}]}, "mcp_servers has effects"),
        ("/v1/audio/speech", COLD, "answers of /v1/audio/speech are not kept"),
        ("/v1/images/generations?a=1", COLD, "answers of /v1/images/generations are not kept"),
        (CHAT, b'{"model":"m","temperature":1,"temperature":0}', "its body can be read in two"),
        (CHAT, b'{"model":"m","temperature":0,"a":{"b":1,"b":2}}', "its body can be read in two"),
        (CHAT, b'{"model":"m","temperature":0,"a":NaN}', "its body can be read in two"),
        (CHAT, b'{"model":"m","temperature":0,"a":"\\ud800"}', "its body can be read in two"),
        (CHAT, b'{"model":"m","temperature":0,"a":' + b"9" * 5000 + b"}", "its body can be read"),
        (CHAT, b"[" * 30_000, "its body can be read in two"),
        (CHAT, b"[1]", "its body can be read in two"),
    ],
)
def test_all_others_may_not(path: str, body: object, why: str) -> None:
    found = ask(body, path)
    assert isinstance(found, str)
    assert found.startswith(why)


def test_a_body_that_is_no_json_or_too_long_may_not() -> None:
    assert read(CHAT, [], None, served="m", needs=NONE, who=None) == (
        "its body is no JSON, or above 1 MiB"
    )


def test_neither_spacing_nor_the_order_of_keys_makes_a_difference() -> None:
    one = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"\\u0068i"}]}'
    other = b'{ "messages": [{"content": "hi", "role": "user"}],\n "temperature":0, "model":"m" }'
    assert key(one) == key(other) == key(COLD)


def test_what_only_steers_makes_no_difference() -> None:
    assert key({**COLD, "prompt_cache_key": "a", "stream": False}) == key(COLD)


@pytest.mark.parametrize(
    "other",
    [
        {**COLD, "model": "n"},
        {**COLD, "messages": [{"role": "user", "content": "ho"}]},
        {**COLD, "temperature": 0.0},
        {**COLD, "stream": True},
        {**COLD, "user": "ana"},
        {**COLD, "safety_identifier": "ana"},
        {**COLD, "max_tokens": 5},
        {**COLD, "seed": 1},
        {**COLD, "seed": 1.0},
        {**COLD, "seed": True},
        {**COLD, "seed": "1"},
        {**COLD, "cache_salt": "x"},
        {**COLD, "unheard_of": None},
    ],
)
def test_all_else_that_a_body_says_does(other: object) -> None:
    assert key(other) != key(COLD)


def test_numbers_and_texts_are_never_taken_for_each_other() -> None:
    bodies = ({"seed": 1}, {"seed": 1.0}, {"seed": True}, {"seed": "1.0"}, {"seed": "1"})
    assert len({key({**COLD, **body}) for body in bodies}) == len(bodies)


def test_tenant_target_path_needs_and_headers_make_a_difference() -> None:
    others = [
        key(),
        key(who=("tenant", "a")),
        key(who=("tenant", "b")),
        key(who=("key", "a")),
        key(served="n"),
        key(needs=Needs(privacy=3)),
        key(path="/chat/completions"),
        key(path=CHAT + "?api-version=2"),
        key(headers={"anthropic-beta": "a"}),
        key(headers={"anthropic-beta": "b"}),
        key(headers=[("anthropic-beta", "a"), ("anthropic-beta", "b")]),
        key(headers=[("anthropic-beta", "b"), ("anthropic-beta", "a")]),
        key(headers={"x-creche-tenant": "a"}),
        key(headers={"accept": "text/event-stream"}),
        key(headers={"cookie": "session=1"}),
        key(headers={"x-unheard-of": "1"}),
    ]
    assert len(set(others)) == len(others)


def test_a_text_in_one_place_is_not_taken_for_one_in_another() -> None:
    assert key(headers=[("a", "b"), ("c", "d")]) != key(headers=[("a", "bc"), ("", "d")])
    assert key(who="ab", served="c") != key(who="a", served="bc")


def test_the_order_of_headers_makes_none() -> None:
    assert key(headers=[("a", "1"), ("b", "2")]) == key(headers=[("b", "2"), ("a", "1")])


def test_who_asks_and_by_which_way_makes_none() -> None:
    more = {
        "authorization": "Bearer k",
        "user-agent": "curl",
        "x-request-id": "1",
        "traceparent": "00-1",
        "x-stainless-retry-count": "1",
        "x-forwarded-for": "10.0.0.1",
        "accept-encoding": "gzip",
        "x-session-id": "s",
    }
    assert key(headers=more) == key()


@pytest.mark.parametrize(
    ("said", "anew"),
    [("no-cache", True), ("max-age=0, private", True), ("max-age=60", False), ("", False)],
)
def test_a_client_may_want_its_answer_made_anew(said: str, anew: bool) -> None:
    found = ask(headers={"cache-control": said})
    assert isinstance(found, Question)
    assert (found.anew, found.key) == (anew, key())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://cam/now.jpg"}},
        {"type": "input_image", "image_url": "https://cam/now.jpg"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "image", "source": {"type": "url", "url": "http://cam/now.jpg"}},
    ],
)
def test_what_is_kept_elsewhere_may_change(part: dict[str, object]) -> None:
    body = {**COLD, "messages": [{"role": "user", "content": [part]}]}
    assert ask(body) == "it names what is kept elsewhere, which may change"


def test_what_the_body_holds_itself_may_not() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {**COLD, "messages": [{"role": "user", "content": [part]}]}
    assert isinstance(ask(body), Question)


def test_or_kept_by_nobody() -> None:
    why = "the request says cache-control: no-store"
    assert ask(headers={"cache-control": "no-cache, No-Store"}) == why


def test_a_long_body_counts_by_its_bytes() -> None:
    text = "x" * CANONICAL_BYTES_MAX
    long = {**COLD, "messages": [{"role": "user", "content": text}]}
    reversed_ = dict(reversed(long.items()))
    assert key(long) == key(long)
    assert key(long) != key(reversed_)
    assert ask({**long, "temperature": 1}) == "temperature is not stated as 0"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON)
def test_two_bodies_share_a_key_only_if_they_say_the_same(one: Any, other: Any) -> None:
    bodies = [json.dumps({**COLD, "x": said}).encode() for said in (one, other)]
    found = [ask(body) for body in bodies]
    if any(isinstance(f, str) for f in found):
        return
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (found[0] == found[1]) is same


@given(st.binary(max_size=200), st.sampled_from(["/v1/embeddings", CHAT]))
def test_no_bytes_break_it(body: bytes, path: str) -> None:
    assert isinstance(ask(body, path), Question | str)
