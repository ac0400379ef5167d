"""Whatever a body holds, an engine answers or refuses; it never fails."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from babysitter.mock.answers import Request, is_control, strip_v1
from babysitter.mock.engine import Engine
from babysitter.mock.multipart import form_fields
from babysitter.mock.script import Framing, script
from babysitter.mock.settings import Settings

PATHS = [
    "/v1/chat/completions",
    "/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/embedding",
    "/v1/audio/transcriptions",
    "/rerank",
]
KEYS = ["model", "messages", "prompt", "input", "content", "file", "stream", "max_tokens"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.just("m") | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def request(path: str, body: bytes, kind: bytes = b"application/json") -> Request:
    return Request(
        method="POST",
        target=path,
        headers=[(b"content-type", kind)],
        body=body,
        keep_alive=True,
        http10=False,
    )


@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(KEYS), values))
def test_any_body_is_answered_or_refused(path: str, body: dict[str, Any]) -> None:
    engine = Engine(Settings(models=("m",)))
    job = engine.decide(request(path, msgspec.json.encode(body)), [])
    assert job.answer.status in (200, 400, 404)
    assert list(script(job.answer, job.faults, Framing(b"a")))


@given(st.binary(max_size=200))
def test_any_form_is_read_or_left(body: bytes) -> None:
    form_fields('multipart/form-data; boundary="x"', b"--x\r\n" + body)
    form_fields("multipart/form-data", body)


def test_a_form_gives_texts_and_files() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n\xff\xfe\r\n"
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\xc3\xa4\r\n--b--\r\n'
    )
    found = form_fields("multipart/form-data; boundary=b", body)
    assert found == {"file": b"\xff\xfe", "model": "mä"}


@pytest.mark.parametrize(
    ("path", "control"),
    [
        ("/health", True),
        ("/v1/models", True),
        ("/models/org%2Fn", True),
        ("/api/tags", True),
        ("/v1/chat/completions", False),
        ("/v1/responses/x", False),
        ("/modelsx", False),
    ],
)
def test_control_paths_are_those_that_probes_ask(path: str, control: bool) -> None:
    assert is_control(path) is control


def test_v1_is_a_prefix_and_nothing_else() -> None:
    assert [strip_v1(p) for p in ("/v1/a", "/a", "/v1", "/v10/a")] == ["/a", "/a", "/v1", "/v10/a"]
