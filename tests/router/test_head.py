import pytest

from router.errors import RequestError
from router.head import (
    Head,
    Headers,
    Known,
    MalformedError,
    read_answer,
    read_request,
    retry_after_s,
    status_line,
)

HOST = (b"Host", b"api.test")


def read(
    *headers: tuple[bytes, bytes],
    method: bytes = b"POST",
    target: bytes = b"/v1/chat/completions",
    version: str = "1.1",
) -> Head:
    return read_request(method, target, version, list(headers))


def refused(*headers: tuple[bytes, bytes], **parts: object) -> int:
    with pytest.raises(RequestError) as caught:
        read(*headers, **parts)  # type: ignore[arg-type]
    return caught.value.problem.status


def test_path_and_query_are_kept_raw() -> None:
    head = read(HOST, target=b"/v1/x%2Fy?a=b&c=%20?d")
    assert (head.path, head.query) == ("/v1/x%2Fy", "a=b&c=%20?d")
    assert head.target == b"/v1/x%2Fy?a=b&c=%20?d"


def test_headers_pass_in_order_and_as_written() -> None:
    head = read(HOST, (b"X-B", b"2"), (b"x-a", b"1"), (b"X-B", b"3"))
    assert head.lines == b"X-B: 2\r\nx-a: 1\r\nX-B: 3\r\n"


@pytest.mark.parametrize(
    "name",
    [
        b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade", b"Proxy-Authorization",
        b"Authorization", b"X-Api-Key", b"api-key", b"X-Forwarded-For", b"X-Forwarded-Proto",
        b"X-Forwarded-Host", b"Forwarded", b"X_Forwarded_For", b"x_api_key", b"HTTP2-Settings",
    ],
)  # fmt: skip
def test_what_is_the_hops_or_the_routers_own_does_not_pass(name: bytes) -> None:
    assert read(HOST, (name, b"x"), (b"a", b"b")).lines == b"a: b\r\n"


def test_headers_that_connection_names_do_not_pass() -> None:
    head = read(HOST, (b"Connection", b"close, X-Secret , te"), (b"x-secret", b"1"), (b"y", b"2"))
    assert head.lines == b"y: 2\r\n"
    assert head.wants_close


@pytest.mark.parametrize("name", [b"Content_Length", b"transfer_encoding", b"Transfer-Encoding_"])
def test_underscore_variants_of_framing_headers(name: bytes) -> None:
    if name.endswith(b"_"):
        assert name in read(HOST, (name, b"x")).lines
    else:
        assert refused(HOST, (name, b"5")) == 400


@pytest.mark.parametrize("value", [b"+5", b"5,5", b"5, 5", b"-1", b"0x5", b"", b"5 5", b"1" * 20])
def test_malformed_lengths(value: bytes) -> None:
    assert refused(HOST, (b"Content-Length", value)) == 400


def test_two_lengths_even_equal_ones() -> None:
    assert refused(HOST, (b"Content-Length", b"5"), (b"content-length", b"5")) == 400


def test_length_and_coding_in_either_order() -> None:
    length, coding = (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")
    assert refused(HOST, length, coding) == 400
    assert refused(HOST, coding, length) == 400


@pytest.mark.parametrize(
    "value", [b"gzip, chunked", b"gzip", b"chunked, chunked", b"identity", b""]
)
def test_codings_other_than_one_chunked(value: bytes) -> None:
    assert refused(HOST, (b"Transfer-Encoding", value)) == 400


def test_codings_over_two_headers() -> None:
    te = b"Transfer-Encoding"
    assert refused(HOST, (te, b"gzip"), (te, b"chunked")) == 400
    assert refused(HOST, (te, b"chunked"), (te, b"chunked")) == 400


def test_a_coding_on_http10() -> None:
    assert refused(HOST, (b"Transfer-Encoding", b"chunked"), version="1.0") == 400


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2", ""])
def test_other_versions(version: str) -> None:
    assert refused(HOST, version=version) in (400, 505)


def test_host_is_wanted_once_and_well_formed() -> None:
    assert refused() == 400
    assert refused(HOST, HOST) == 400
    for bad in (
        b"",
        b"a b",
        b"a/b",
        b"a,b",
        b"a@b",
        b"[::1",
        b"a:b",
        b"a:123456",
        b"a\tb",
        b"\xff",
    ):
        assert refused((b"Host", bad)) == 400, bad
    for good in (b"a", b"a:80", b"1.2.3.4:8000", b"[::1]:80", b"[fe80::1%25eth0]", b"a_b.c"):
        assert read((b"Host", good)).host == good


def test_http10_may_do_without_host() -> None:
    assert read(version="1.0").http10


def test_an_absolute_target_must_name_the_same_host() -> None:
    assert read(HOST, target=b"http://api.test/x?y").target == b"/x?y"
    assert read(HOST, target=b"HTTP://API.test:80").target == b"/"
    assert read(HOST, target=b"http://api.test?q=1").target == b"/?q=1"
    for foreign in (b"http://other/x", b"http://api.test:81/x", b"http://u@api.test/x", b"ftp://a"):
        assert refused(HOST, target=foreign) == 400, foreign


def test_other_targets() -> None:
    assert read(HOST, method=b"OPTIONS", target=b"*").path == "*"
    assert refused(HOST, target=b"*") == 400
    assert refused(HOST, method=b"CONNECT", target=b"a:80") == 405
    assert refused(HOST, method=b"TRACE") == 405
    assert refused(HOST, target=b"/a#b") == 400
    assert refused(HOST, target=b"a") == 400


def test_expectations() -> None:
    assert read(HOST, (b"Expect", b"100-Continue")).expects
    assert not read(HOST, (b"Expect", b"100-continue"), version="1.0").expects
    assert refused(HOST, (b"Expect", b"200-maybe")) == 417


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"abc-1.2:3", b"abc-1.2:3"), (b"a b", None), (b"x" * 128, b"x" * 128), (b"x" * 129, None),
     (b"", None), (b'a"b', None)],
)  # fmt: skip
def test_a_request_id_is_kept_if_it_is_short_and_safe(given: bytes, kept: bytes | None) -> None:
    assert read(HOST, (b"X-Request-Id", given)).id == kept


def test_a_websocket_upgrade_is_seen_and_any_other_dropped() -> None:
    asked = ((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"WebSocket"))
    assert read(HOST, *asked, method=b"GET").websocket
    assert not read(HOST, *asked, method=b"POST").websocket
    assert not read(HOST, *asked, method=b"GET", version="1.0").websocket
    assert not read(HOST, *asked, (b"Content-Length", b"1"), method=b"GET").websocket
    assert not read(HOST, asked[1], method=b"GET").websocket
    assert not read(HOST, asked[0], (b"Upgrade", b"h2c"), method=b"GET").websocket


def test_connections_of_http10_close_unless_asked() -> None:
    assert read(version="1.0").wants_close
    assert not read((b"Connection", b"Keep-Alive"), version="1.0").wants_close
    assert not read(HOST).wants_close


def test_fields_are_found_by_lower_case_name() -> None:
    fields = read(HOST, (b"X-Session-Id", b" a "), (b"x-session-id", b"b")).fields
    assert fields.get("x-session-id") == "a"
    assert fields.get("none") is None
    assert fields.get("none", "x") == "x"


def test_a_compressed_body_is_noticed() -> None:
    assert read(HOST, (b"Content-Encoding", b"gzip")).encoded
    assert not read(HOST, (b"Content-Encoding", b"identity")).encoded


# --- answers ------------------------------------------------------------------------------------


def test_an_answers_hop_headers_and_our_own_are_dropped() -> None:
    headers: Headers = [
        (b"Connection", b"x-one"), (b"X-One", b"1"), (b"X-Creche-Service", b"lie"),
        (b"Keep-Alive", b"t"), (b"x-request-id", b"theirs"), (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"), (b"Trailer", b"x"), (b"Upgrade", b"h2c"),
    ]  # fmt: skip
    assert read_answer(200, "1.1", headers).lines == b"Set-Cookie: a\r\nSet-Cookie: b\r\n"


def test_what_an_engine_lets_web_pages_read_passes_only_where_that_is_wanted() -> None:
    headers: Headers = [(b"Access-Control-Allow-Origin", b"*"), (b"X", b"y")]
    assert read_answer(200, "1.1", headers).lines == b"X: y\r\n"
    assert b"Access-Control" in read_answer(200, "1.1", headers, cors=True).lines


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"Content-Length", b"1"), (b"Content-Length", b"1")],
        [(b"Content-Length", b"+1")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"gzip")],
    ],
)
def test_answers_that_could_be_read_in_two_ways(headers: Headers) -> None:
    with pytest.raises(MalformedError):
        read_answer(200, "1.1", headers)


def test_versions_and_statuses_that_nobody_may_send() -> None:
    for status, version in ((200, "2.0"), (200, "0.9"), (600, "1.1"), (99, "1.1")):
        with pytest.raises(MalformedError):
            read_answer(status, version, [])
    with pytest.raises(MalformedError):
        read_answer(200, "1.0", [(b"Transfer-Encoding", b"chunked")])


def test_keeping_an_upstream_connection() -> None:
    assert not read_answer(200, "1.1", []).close
    assert read_answer(200, "1.1", [(b"Connection", b"close")]).close
    assert read_answer(200, "1.0", []).close
    assert not read_answer(200, "1.0", [(b"Connection", b"keep-alive")]).close


def test_an_event_stream_is_known_by_its_type() -> None:
    assert read_answer(
        200, "1.1", [(b"content-type", b"Text/Event-Stream; charset=x")]
    ).event_stream
    head = read_answer(200, "1.1", [(b"Cache-Control", b"max-age=1")])
    assert (head.lines, head.cache_lines) == (b"", b"Cache-Control: max-age=1\r\n")


def test_retry_after_in_its_forms() -> None:
    assert retry_after_s(None, 0) is None
    assert retry_after_s(b"7", 0) == 7
    assert retry_after_s(b"Thu, 01 Jan 1970 00:01:00 GMT", 10) == 50
    assert retry_after_s(b"Thu, 01 Jan 1970 00:01:00 GMT", 100) == 0
    assert retry_after_s(b"soon", 0) is None


def test_status_lines() -> None:
    assert status_line(404) == b"HTTP/1.1 404 Not Found\r\n"
    assert status_line(599) == b"HTTP/1.1 599 Unknown\r\n"


# --- heads that come again --------------------------------------------------------------------


def test_a_known_head_matches_with_any_length_and_nothing_else() -> None:
    known = Known(b"POST / HTTP/1.1\r\nContent-Length: 12\r\nX: y\r\n\r\n")
    again = b"POST / HTTP/1.1\r\nContent-Length: 345\r\nX: y\r\n\r\n"
    assert known.match(again + b"body") == (345, len(again))
    for other in (
        again[:-1],
        again.replace(b"345", b"+345"),
        again.replace(b"345", b"3,4"),
        again.replace(b"345", b""),
        again.replace(b"345", b"3 45"),
        again.replace(b"345", b"345 "),
        again.replace(b"345", b"9" * 16),
        again.replace(b"X: y", b"X: z"),
        again.replace(b"POST", b"post"),
        b"\r\n" + again,
    ):
        assert known.match(other) is None, other


def test_a_known_head_without_a_length() -> None:
    known = Known(b"GET / HTTP/1.1\r\nX: y\r\n\r\n")
    assert known.match(b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET") == (None, 24)
    assert known.match(b"GET / HTTP/1.1\r\nX: y\r\nContent-Length: 1\r\n\r\n") is None


@pytest.mark.parametrize(
    "value",
    [
        b"Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
        b"Mon, 99999999999999999999999 Jan 2026 00:00:00 GMT",
        b"1 Jan 99999999999 0:0:0",
    ],
)
def test_a_retry_after_beyond_every_calendar_says_nothing(value: bytes) -> None:
    assert retry_after_s(value, 0.0) is None
