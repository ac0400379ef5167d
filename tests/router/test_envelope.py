import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.envelope import (
    EMPTY,
    FormReader,
    multipart_boundary,
    read,
    read_form,
    read_json,
    read_query,
    text_bytes,
)
from router.errors import RequestError
from router.route import resolve


def test_the_model_stands_anywhere_in_the_body() -> None:
    assert read_json(b'{"messages": [{"model": 1}], "stream": true, "model": "m"}').model == "m"


def test_stream_is_true_only_for_true() -> None:
    assert read_json(b'{"stream": true}').stream
    assert not read_json(b'{"stream": "true"}').stream
    assert not read_json(b'{"stream": 1}').stream


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"model": "m"',
        b'{"model": "m"} trailing',
        b'{"model": NaN}',
        b'["model"]',
        b'"model"',
        b"null",
        b"{}",
        b'{"model": null}',
        b'{"model": ""}',
        b"\xff\xfe",
        b"\x00" * 100,
    ],
)
def test_what_names_no_model_is_routed_without_one(body: bytes) -> None:
    assert read_json(body).model is None


@pytest.mark.parametrize(
    "rest", [b'"\xff"', b"01", b'"\t"'], ids=["no UTF-8", "no number", "a bare tab"]
)
def test_what_is_not_json_hides_no_second_model(rest: bytes) -> None:
    """msgspec skips over what it is not asked for, and so would have taken the last of the two."""
    assert read_json(b'{"model": "a", "model": "b", "x": ' + rest + b"}").model is None


def test_a_number_too_long_for_python_hides_no_second_model() -> None:
    with pytest.raises(RequestError, match="twice"):
        read_json(b'{"model": "a", "model": "b", "seed": ' + b"1" * 5_000 + b"}")


@pytest.mark.parametrize("value", [b"1", b"true", b"[]", b'{"a": 1}', b'"' + b"x" * 300 + b'"'])
def test_a_model_that_is_no_short_text_is_refused(value: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        read_json(b'{"model": ' + value + b"}")
    assert refused.value.problem.status == 400
    assert refused.value.problem.param == "model"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "a", "model": "b"}',
        b'{"model": "a", "model": "a"}',
        b'{"model": "a", "mode\\u006c": "b"}',
        b'{"\\u006dodel": "a", "model": "b"}',
        b'{"\\u006Dodel": "a", "m\\u006fdel": "b"}',
        b'  {"model": "a", "x": {"model": 1}, "model": "b"}',
    ],
)
def test_two_models_are_refused_however_they_are_spelt(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        read_json(body)
    assert refused.value.problem.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "a", "metadata": {"model": "b"}}',
        b'{"messages": [{"content": "say \\"model\\": twice \\"model\\""}], "model": "a"}',
        b'{"messages": [{"content": "\\u006dodel"}], "model": "a"}',
        b'{"tools": [{"model": "b"}, {"model": "c"}], "model": "a"}',
    ],
)
def test_the_word_elsewhere_in_the_body_harms_nothing(body: bytes) -> None:
    assert read_json(body).model == "a"


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=6), st.text(max_size=20))
def test_whatever_json_writes_is_read_alike(rest: dict[str, str], model: str) -> None:
    body = json.dumps({**rest, "model": model}).encode()
    assert read_json(body).model == (model or None)


def test_endless_nesting_is_refused() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    with pytest.raises(RequestError) as refused:
        read_json(b'{"a": ' + deep + b', "model": "m"}')
    assert refused.value.problem.status == 400
    with pytest.raises(RequestError):
        read_json(b'{"model": 1, "a": ' + deep + b', "model": "m"}')


def test_affinity_and_user_are_read() -> None:
    envelope = read_json(b'{"model": "m", "prompt_cache_key": "k", "user": "ana"}')
    assert (envelope.affinity_key, envelope.user) == ("k", "ana")
    assert read_json(b'{"prompt_cache_key": 1, "user": []}').affinity_key is None


def test_text_is_counted_in_utf8_over_messages_prompt_and_input() -> None:
    chat = {"messages": [{"content": "abc"}, {"content": [{"type": "text", "text": "é"}]}, {}]}
    assert text_bytes(json.dumps(chat, ensure_ascii=False).encode()) == 5
    assert text_bytes(b'{"prompt": ["ab", "c"]}') == 3
    assert text_bytes(b'{"prompt": "abcd"}') == 4
    assert text_bytes(b'{"input": "abcd", "instructions": "x"}') == 5
    assert text_bytes(b'{"input": [{"role": "user", "content": "abc"}]}') == 3
    assert text_bytes(b'{"input": [1, 2, 3]}') == 0
    assert text_bytes(b"no json") == 7


def test_text_is_counted_only_when_asked() -> None:
    assert read_json(b'{"prompt": "abc"}').text_bytes() == 3
    assert read_json(b'{"prompt": "abc"}', measure=True).text_bytes() == 3
    assert EMPTY.text_bytes() == 0


BOUNDARY = "xyz"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b""
    for disposition, content in parts:
        head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        body += head.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


FILE = ('name="file"; filename="a.wav"', b"\x00" * 5_000 + b'name="model"\r\n\r\nwrong')
MODEL = ('name="model"', b"whisper")


def test_a_forms_model_may_come_after_the_file() -> None:
    assert read_form(form(FILE, MODEL), BOUNDARY.encode()).model == "whisper"
    assert read_form(form(MODEL, FILE), BOUNDARY.encode()).model == "whisper"


@given(st.lists(st.integers(1, 400), max_size=60))
def test_a_form_is_read_alike_however_it_is_split(sizes: list[int]) -> None:
    body = form(FILE, MODEL, ('name="stream"', b"true"))
    reader = FormReader(BOUNDARY.encode())
    at = 0
    for size in sizes:
        reader.feed(body[at : at + size])
        at += size
    reader.feed(body[at:])
    envelope = reader.finish()
    assert (envelope.model, envelope.stream) == ("whisper", True)


def test_a_file_named_model_is_no_model() -> None:
    body = form(('name="model"; filename="model"', b"whisper"))
    assert read_form(body, BOUNDARY.encode()).model is None


def test_two_models_in_a_form_are_refused() -> None:
    with pytest.raises(RequestError):
        read_form(form(MODEL, MODEL), BOUNDARY.encode())


def test_a_forms_model_is_bounded() -> None:
    with pytest.raises(RequestError):
        read_form(form(('name="model"', b"x" * 100_000)), BOUNDARY.encode())


@pytest.mark.parametrize("body", [b"", b"junk", b"--xyz junk", form(*[MODEL] * 1_100)])
def test_what_is_no_form_names_no_model(body: bytes) -> None:
    assert read_form(body, BOUNDARY.encode()).model is None


def test_the_content_type_decides() -> None:
    route = resolve("POST", "/v1/audio/transcriptions")
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    assert read(route, kind, form(MODEL), "/").model == "whisper"
    assert read(route, "application/json", b'{"model": "m"}', "/").model == "m"
    assert read(route, "", b'{"model": "m"}', "/").model == "m"
    assert read(route, "multipart/form-data", form(MODEL), "/").model is None
    assert multipart_boundary("multipart/mixed; boundary=x") is None


def test_a_websockets_model_stands_in_its_query() -> None:
    route = resolve("GET", "/v1/realtime")
    assert read(route, "", b"", "/v1/realtime?model=gpt%2Fx&a=1").model == "gpt/x"
    assert read_query("a=1").model is None
    with pytest.raises(RequestError):
        read_query("model=a&model=b")
