import pytest

from router.framing import Framing, chunk, of_client, of_upstream
from router.head import Headers, read_answer

LENGTH: Headers = [(b"content-length", b"5")]
CHUNKED: Headers = [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("method", "status", "headers", "framing"),
    [
        ("GET", 200, LENGTH, Framing.LENGTH),
        ("GET", 200, CHUNKED, Framing.CHUNKED),
        ("GET", 200, [], Framing.UNTIL_CLOSE),
        ("HEAD", 200, LENGTH, Framing.NO_BODY),
        ("GET", 204, LENGTH, Framing.NO_BODY),
        ("GET", 304, CHUNKED, Framing.NO_BODY),
        ("GET", 101, [], Framing.NO_BODY),
    ],
)
def test_how_an_upstream_tells_its_end(
    method: str, status: int, headers: Headers, framing: Framing
) -> None:
    assert of_upstream(method, read_answer(status, "1.1", headers)) is framing


@pytest.mark.parametrize("http10", [False, True])
@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("framing", list(Framing))
def test_how_a_client_is_told(framing: Framing, events: bool, http10: bool) -> None:
    told = of_client(framing, http10=http10, events=events)
    if framing is Framing.NO_BODY:
        assert told is Framing.NO_BODY
    elif framing is Framing.LENGTH and not events:
        assert told is Framing.LENGTH
    else:
        assert told is (Framing.UNTIL_CLOSE if http10 else Framing.CHUNKED)


def test_chunks() -> None:
    assert chunk(b"x" * 16) == b"10\r\n" + b"x" * 16 + b"\r\n"
