"""What engines' error answers say, in the shapes that they have."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import errors, quoted
from router.route import Family

OPENAI = b'{"error":{"message":"too long","type":"invalid","param":"messages","code":"length"}}'
SHAPES = [
    (OPENAI, ("too long", "invalid", "messages", "length")),
    (
        b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}',
        ("too long", "BadRequestError", None, "400"),
    ),
    (
        b'{"type":"error","error":{"type":"overloaded_error","message":"later"}}',
        ("later", "overloaded_error", None, "400"),
    ),
    (b'{"error":"model not found"}', ("model not found", "invalid_request_error", None, "400")),
    (
        b'{"detail":[{"loc":["body"],"msg":"missing"}]}',
        ('[{"loc":["body"],"msg":"missing"}]', "invalid_request_error", None, "400"),
    ),
    (b"too long\n", ("too long", "invalid_request_error", None, "400")),
    (b"<html>no</html>", ("'gpu' answered 400", "invalid_request_error", None, "400")),
    (b"", ("'gpu' answered 400", "invalid_request_error", None, "400")),
    (b'{"error": {"mess', ("'gpu' answered 400", "invalid_request_error", None, "400")),
    (b"[]", ("'gpu' answered 400", "invalid_request_error", None, "400")),
]


@pytest.mark.parametrize(("body", "said"), SHAPES)
def test_what_an_engine_said_is_told(body: bytes, said: tuple[str | None, ...]) -> None:
    found = quoted.problem(400, body, "gpu")
    assert (found.message, found.type, found.param, found.code) == said


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "invalid_request_error"), (429, "rate_limit_exceeded"), (503, "server_error")],
)
def test_what_it_left_open_follows_from_its_status(status: int, kind: str) -> None:
    found = quoted.problem(status, b"", "gpu")
    assert (found.type, found.code, found.status) == (kind, str(status), status)


def test_a_long_text_is_cut() -> None:
    assert len(quoted.problem(400, b"x" * 100_000, "gpu").message) == quoted.TEXT_MAX


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("error", "message", "type", "code", "detail")), inner)
    ),
    max_leaves=10,
)


@given(
    body=st.binary(max_size=50) | _JSON.map(lambda value: json.dumps(value).encode()),
    family=st.sampled_from(Family),
)
def test_any_body_becomes_one_whole_event(body: bytes, family: Family) -> None:
    event = errors.event(quoted.problem(500, body, "gpu"), family)
    assert event.count(b"\n\n") == 1 and event.endswith(b"\n\n")
    json.loads(event.partition(b"data: ")[2])
