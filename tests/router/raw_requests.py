# ruff: noqa: E501  (a row to a line: the eye compares them)
"""Raw requests, and the one right behaviour of each: the table behind test_raw_requests.

A row says what a client sends, the statuses that come back, whether the relay closes then, and
what reached the upstream byte for byte. In that, `Host: upstream` stands for the upstream's own
address and `x-request-id: *` for an id that the router made.
"""

from msgspec import Struct

OK = 200
CHAT = b'{"model":"m","messages":[]}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
#: What a relay that is fooled would take for a second request.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


class Row(Struct, frozen=True):
    name: str
    sent: bytes
    #: The statuses of all answers, in order, without interim ones.
    answers: tuple[int, ...]
    closes: bool
    reached: bytes = b""


def on(start: bytes, *lines: bytes, body: bytes | None = None, host: bytes = b"a") -> bytes:
    """A request as the upstream gets it. `body` None: the request has no body at all."""
    head = [start + b" HTTP/1.1", b"Host: upstream", *lines]
    head += [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http"]
    head += [b"X-Forwarded-Host: " + host, b"x-request-id: *"]
    if body is not None:
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")


def passes(name: str, sent: bytes, reached: bytes, *more: bytes, closes: bool = False) -> Row:
    """Answered by the upstream, as often as something reached it."""
    return Row(name, sent, (OK,) * (1 + len(more)), closes, b"".join((reached, *more)))


def refused(name: str, sent: bytes, status: int = 400) -> Row:
    """Answered by the router, closed, and the upstream never heard of it."""
    return Row(name, sent, (status,), True)


def of_body(name: str, sent: bytes, body: bytes = b"{}") -> Row:
    return passes(name, sent, on(b"POST /v1/chat/completions", body=body))


def of_get(name: str, sent: bytes, *lines: bytes, **more: bytes) -> Row:
    return passes(name, sent, on(b"GET /x", *lines, **more))


X = on(b"GET /x")
BODY = on(b"POST /v1/chat/completions", body=b"{}")

LENGTHS = (
    of_body("a length", POST + b"Content-Length: 2\r\n\r\n{}"),
    of_body("a length with leading zeros", POST + b"Content-Length: 0002\r\n\r\n{}"),
    of_body("a length between blanks", POST + b"Content-Length: \t 2 \t\r\n\r\n{}"),
    of_body("a length without a blank", POST + b"Content-Length:2\r\n\r\n{}"),
    of_body("a length of nothing", POST + b"Content-Length: 0\r\n\r\n", b""),
    passes("a POST without a body", POST + b"\r\n", on(b"POST /v1/chat/completions")),
    passes(
        "a GET with a body",
        GET + b"Content-Length: 2\r\n\r\n{}",
        on(b"GET /x", body=b"{}"),
    ),
    refused("two lengths that differ", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    refused("a length twice", POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    refused("a list of one length", POST + b"Content-Length: 2, 2\r\n\r\n{}"),
    refused("a length with a plus", POST + b"Content-Length: +2\r\n\r\n{}"),
    refused("a negative length", POST + b"Content-Length: -2\r\n\r\n{}"),
    refused("a hexadecimal length", POST + b"Content-Length: 0x2\r\n\r\n{}"),
    refused("a length with a fraction", POST + b"Content-Length: 2.0\r\n\r\n{}"),
    refused("a length with a blank inside", POST + b"Content-Length: 2 0\r\n\r\n{}"),
    refused("a length that a vertical tab begins", POST + b"Content-Length: \x0b2\r\n\r\n{}"),
    refused("an empty length", POST + b"Content-Length:\r\n\r\n"),
    refused("a length above 64 bits", POST + b"Content-Length: 18446744073709551618\r\n\r\n{}"),
    refused("a length of 19 digits", POST + b"Content-Length: 0000000000000000002\r\n\r\n{}"),
    refused("a length in other digits", POST + b"Content-Length: \xb2\r\n\r\n{}"),
    refused("a body above the limit", POST + b"Content-Length: 536870913\r\n\r\n", 413),
)

CODINGS = (
    of_body("chunked", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"),
    of_body("chunked in capitals", CHUNKED.replace(b": ch", b": Ch") + b"2\r\n{}\r\n0\r\n\r\n"),
    of_body("chunked between blanks", POST + b"Transfer-Encoding: \t chunked \r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    refused("a length, then a coding", POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("a coding, then a length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + SMUGGLED),
    refused("a length of nothing and a coding", POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    refused("a length, and a coding that Connection names", POST + b"Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("gzip, then chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked, then gzip", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    refused("chunked twice in one header", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked in two headers", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("codings in two headers", POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("identity", POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}"),
    refused("identity alone", POST + b"Transfer-Encoding: identity\r\n\r\n"),
    refused("an empty coding", POST + b"Transfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}"),
    refused("an unknown coding", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    refused("chunked with a parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    refused("chunked with a comma before it", POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    refused("chunked in quotes", POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    refused("a vertical tab before chunked", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    refused("a folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    refused("a coding on HTTP/1.0", b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    refused("Transfer_Encoding", POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    refused("Content_Length", POST + b"Content_Length: 5\r\nContent-Length: 2\r\n\r\n{}"),
    refused("a blank before the coding's colon", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    refused("a coding that ends in LF", POST + b"Transfer-Encoding: chunked\n\r\n0\r\n\r\n"),
    passes("a coding on a GET", GET + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", on(b"GET /x", body=b"{}")),
    passes("a GET chunked to nothing", GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", on(b"GET /x", body=b"")),
    of_body("TE is the hop's", POST + b"TE: trailers\r\nConnection: TE\r\nContent-Length: 2\r\n\r\n{}"),
)  # fmt: skip

CHUNKS = (
    of_body("two chunks", CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    of_body("a size with leading zeros", CHUNKED + b"0000000000000002\r\n{}\r\n0\r\n\r\n"),
    of_body("a last chunk of many zeros", CHUNKED + b"2\r\n{}\r\n0000\r\n\r\n"),
    of_body("sizes in capitals", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    of_body("an extension", CHUNKED + b"2;a=b\r\n{}\r\n0;c\r\n\r\n"),
    of_body("a quoted extension", CHUNKED + b'2;a="b;c"\r\n{}\r\n0\r\n\r\n'),
    of_body("a trailer goes no further", CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: y\r\n\r\n"),
    of_body("trailers that look like the hop's", CHUNKED + b"2\r\n{}\r\n0\r\nHost: b\r\nAuthorization: c\r\n\r\n"),
    refused("a size with a plus", CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n"),
    refused("a negative size", CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n"),
    refused("a size in 0x form", CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n"),
    refused("a size with an underscore", CHUNKED + b"1_0\r\n{}\r\n0\r\n\r\n"),
    refused("a blank before a size", CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n"),
    refused("a blank after a size", CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n"),
    refused("a blank before an extension", CHUNKED + b"2 ;a\r\n{}\r\n0\r\n\r\n"),
    refused("an empty size", CHUNKED + b"\r\n{}\r\n0\r\n\r\n"),
    refused("a size above 64 bits", CHUNKED + b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    refused("a size line that ends in LF", CHUNKED + b"2\n{}\r\n0\r\n\r\n"),
    refused("a size line that ends in CR", CHUNKED + b"2\r{}\r\n0\r\n\r\n"),
    refused("an extension with a bare CR", CHUNKED + b"2;a\rb\r\n{}\r\n0\r\n\r\n"),
    refused("an extension with a bare LF", CHUNKED + b"2;a\n{}\r\n0\r\n\r\n"),
    refused("a line end in a quoted extension", CHUNKED + b'2;a="\r\n{}\r\n0\r\n\r\n'),
    refused("an extension with NUL", CHUNKED + b"2;a\0\r\n{}\r\n0\r\n\r\n"),
    refused("an empty extension", CHUNKED + b"2;\r\n{}\r\n0\r\n\r\n"),
    refused("a chunk longer than its size", CHUNKED + b"2\r\n{}x\r\n0\r\n\r\n"),
    refused("a chunk shorter than its size", CHUNKED + b"3\r\n{}\r\n0\r\n\r\n"),
    refused("a chunk that ends in LF", CHUNKED + b"2\r\n{}\n0\r\n\r\n"),
    refused("a chunk that ends in CR", CHUNKED + b"2\r\n{}\r0\r\n\r\n"),
    refused("a last chunk that ends in LF", CHUNKED + b"2\r\n{}\r\n0\n\n" + SMUGGLED),
    refused("a length as trailer", CHUNKED + b"0\r\nContent-Length: 2\r\n\r\n"),
    refused("a coding as trailer", CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    refused("a trailer without a colon", CHUNKED + b"0\r\nabc\r\n\r\n"),
    refused("a folded trailer", CHUNKED + b"0\r\na: b\r\n c\r\n\r\n"),
    refused("trailers above the limit", CHUNKED + b"0\r\n" + b"a: %b\r\n" % (b"x" * 1_000) * 70 + b"\r\n", 431),
)  # fmt: skip

LINES = (
    refused("a head whose lines end in LF", b"GET /x HTTP/1.1\nHost: a\n\n"),
    refused("one line that ends in LF", GET + b"X: a\n\r\n"),
    refused("a head that ends in LF LF", GET + b"X: a\r\n\n"),
    refused("a line that ends in CR", GET + b"X: a\rY: b\r\n\r\n"),
    refused("CR CR LF", GET + b"X: a\r\r\n\r\n"),
    refused("a bare CR in a value", GET + b"X: a\rb\r\n\r\n"),
    refused("a folded header", GET + b"X: a\r\n b\r\n\r\n"),
    refused("a fold by tab", GET + b"X: a\r\n\tb\r\n\r\n"),
    refused("a fold of nothing", GET + b"X: a\r\n \r\n\r\n"),
    refused("a blank before the first header", b"GET /x HTTP/1.1\r\n Host: a\r\n\r\n"),
    refused("a blank before a colon", GET + b"X : a\r\n\r\n"),
    refused("a tab before a colon", GET + b"X\t: a\r\n\r\n"),
    refused("a line without a colon", GET + b"X\r\n\r\n"),
    refused("a header without a name", GET + b": a\r\n\r\n"),
    refused("a name in brackets", GET + b"(X): a\r\n\r\n"),
    refused("a name beyond ASCII", GET + b"X\xe9: a\r\n\r\n"),
    refused("NUL in a name", GET + b"X\0: a\r\n\r\n"),
    refused("NUL in a value", GET + b"X: a\0b\r\n\r\n"),
    refused("a control character in a value", GET + b"X: a\x01b\r\n\r\n"),
    refused("DEL in a value", GET + b"X: a\x7fb\r\n\r\n"),
    of_get("a value beyond ASCII", GET + b"X: \xc3\xa9\r\n\r\n", b"X: \xc3\xa9"),
    of_get("an empty value", GET + b"X:\r\n\r\n", b"X: "),
    of_get("blanks around a value", GET + b"X: \t a b \t\r\n\r\n", b"X: a b \t"),
    of_get("a header twice", GET + b"X: a\r\nX: b\r\n\r\n", b"X: a", b"X: b"),
    of_get("empty lines before it", b"\r\n\r\n" + GET + b"\r\n"),
    refused("a head above the limit", GET + b"X: %b\r\n" % (b"x" * 1_000) * 70 + b"\r\n", 431),
    refused("one header above the limit", GET + b"X: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    refused("a target above the limit", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    refused("a name above the limit", GET + b"x" * 70_000 + b": a\r\n\r\n", 431),
    refused("a head without an end", GET + b"X: " + b"x" * 70_000, 431),
)  # fmt: skip

STARTS = (
    refused("HTTP/0.9 without a version", b"GET /x\r\n\r\n"),
    refused("HTTP/0.9 with one", b"GET /x HTTP/0.9\r\nHost: a\r\n\r\n"),
    refused("HTTP/1.2", b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n"),
    refused("HTTP/2.0", b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    refused("HTTP/1.10", b"GET /x HTTP/1.10\r\nHost: a\r\n\r\n"),
    refused("HTTP/01.1", b"GET /x HTTP/01.1\r\nHost: a\r\n\r\n"),
    refused("HTTP/1", b"GET /x HTTP/1\r\nHost: a\r\n\r\n"),
    refused("http/1.1", b"GET /x http/1.1\r\nHost: a\r\n\r\n"),
    refused("RTSP", b"OPTIONS /x RTSP/1.0\r\nHost: a\r\n\r\n"),
    refused("a method of RTSP", b"DESCRIBE /x RTSP/1.0\r\nHost: a\r\n\r\n"),
    refused("ICE", b"GET /x ICE/1.0\r\nHost: a\r\n\r\n"),
    refused("HTTP/2 with prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    refused("an unknown method", b"FOO /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a method in small letters", b"get /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a blank before the method", b" GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("two blanks after the method", b"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a tab after the method", b"GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("two blanks before the version", b"GET /x  HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a blank after the version", b"GET /x HTTP/1.1 \r\nHost: a\r\n\r\n"),
    refused("a blank in the target", b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a request line in the target", b"GET /x HTTP/1.1 /y HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    refused("TRACE", b"TRACE /x HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    passes("DELETE", b"DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", on(b"DELETE /x")),
    passes("HTTP/1.0 closes", b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n", X, closes=True),
    passes("HTTP/1.0 kept when asked", b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", X),
    passes("HTTP/1.0 needs no Host", b"GET /x HTTP/1.0\r\n\r\n", on(b"GET /x", host=b"localhost"), closes=True),
)  # fmt: skip

HOSTS = (
    refused("no Host", b"GET /x HTTP/1.1\r\n\r\n"),
    refused("two Hosts", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    refused("Host twice", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    refused("two Hosts on HTTP/1.0", b"GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    refused("an empty Host", b"GET /x HTTP/1.1\r\nHost:\r\n\r\n"),
    refused("a Host with a path", b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    refused("a Host with a user", b"GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    refused("a list of Hosts", b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    refused("a Host with a blank", b"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
    refused("a Host whose port is a word", b"GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    refused("a Host with two ports", b"GET /x HTTP/1.1\r\nHost: a:1:2\r\n\r\n"),
    refused("an open bracket", b"GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    refused("a Host beyond ASCII", b"GET /x HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"),
    refused("Host_ by another spelling", b"GET /x HTTP/1.1\r\nHo_st: b\r\n\r\n"),
    passes("an IPv6 Host", b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", on(b"GET /x", host=b"[::1]:80")),
    passes("a Host named by Connection", b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", X),
    passes("an absolute target", b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", X),
    passes("one with the default port", b"GET HTTP://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n", X),
    passes("one without a path", b"GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n", on(b"GET /?q")),
    refused("another host in the target", b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("another port in the target", b"GET http://a:81/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("a user in the target", b"GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("no host in the target", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("another scheme", b"GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("an authority as target", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
)  # fmt: skip


def _path(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path


def of_path(name: str, path: bytes) -> Row:
    return passes(name, _path(path), on(b"GET " + path))


def bad_path(name: str, path: bytes) -> Row:
    return refused(name, _path(path))


TARGETS = (
    of_path("a path that is coded stays so", b"/a%2Fb%20c?d=%2e%2e/../e"),
    of_path("dots inside a name", b"/a..b/.c/d./...?../"),
    of_path("two slashes later", b"/a//b"),
    bad_path("two slashes first: a host, to some", b"//a/b"),
    bad_path("those in an absolute target", b"http://a//b"),
    of_path("coded line ends", b"/a%0d%0aX:%20y"),
    of_path("control paths match as written alone", b"/%68ealth"),
    of_path("nor with a slash", b"/metrics/"),
    bad_path("up", b"/v1/../admin/reload"),
    bad_path("up from the root", b"/.."),
    bad_path("up at the end, before a query", b"/v1/..?x"),
    bad_path("here", b"/v1/./x"),
    bad_path("up, coded", b"/v1/%2e%2e/x"),
    bad_path("up, half coded", b"/v1/.%2E/x"),
    bad_path("up behind a coded slash", b"/v1%2f..%2fx"),
    bad_path("up behind a backslash", b"/v1\\..\\x"),
    bad_path("up behind a coded backslash", b"/v1%5C..%5Cx"),
    bad_path("up with a parameter", b"/v1/..;a=b/x"),
    bad_path("up with a coded parameter", b"/v1/..%3ba/x"),
    bad_path("up from one model", b"/v1/models/../../metrics"),
    bad_path("a fragment", b"/x#y"),
    bad_path("a target beyond ASCII", b"/\xc3\xa9"),
    bad_path("NUL in the target", b"/x\0"),
    bad_path("a tab in the target", b"/x\ty"),
    bad_path("a bare CR in the target", b"/x\ry"),
    bad_path("a relative path", b"x"),
    bad_path("no path at all", b""),
    bad_path("an asterisk for GET", b"*"),
    Row("an asterisk for OPTIONS is answered here", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", (204,), False),
    passes("OPTIONS of a path is the upstream's", b"OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", on(b"OPTIONS /x")),
)  # fmt: skip

HOPS = (
    of_get("headers that Connection names", GET + b"Connection: X-A, close-not\r\nX-A: b\r\nY: c\r\n\r\n", b"Y: c"),
    of_get("Keep-Alive", GET + b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n"),
    of_get("what is for a proxy", GET + b"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n\r\n"),
    passes("Proxy-Connection: close", GET + b"Proxy-Connection: close\r\n\r\n", X, closes=True),
    of_get("the client's key", GET + b"Authorization: Bearer k\r\nX-Api-Key: k\r\napi-key: k\r\n\r\n"),
    of_get("the client's key with underscores", GET + b"X_Api_Key: k\r\napi_key: k\r\n\r\n"),
    of_get("X-Forwarded-For of a stranger", GET + b"X-Forwarded-For: 9.9.9.9\r\nX_Forwarded_For: 9.9.9.9\r\n\r\n"),
    of_get("Forwarded of a stranger", GET + b"Forwarded: for=9.9.9.9\r\nX-Forwarded-Host: b\r\n\r\n"),
    refused("Connection_ by an underscore", GET + b"Transfer_encoding: chunked\r\n\r\n"),
    passes("Connection: close", GET + b"Connection: close\r\n\r\n", X, closes=True),
    passes("close among others", GET + b"Connection: keep-alive, CLOSE\r\n\r\n", X, closes=True),
    refused("two types that differ", POST + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
)  # fmt: skip

PIPELINES = (
    passes("two at once", GET + b"\r\n" + GET + b"\r\n", X, X),
    passes("three, one with a body", GET + b"\r\n" + POST + b"Content-Length: 2\r\n\r\n{}" + GET + b"\r\n", X, BODY, X),
    passes("a chunked one, then another", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n" + GET + b"\r\n", BODY, X),
    passes("an empty line between", POST + b"Content-Length: 2\r\n\r\n{}\r\n" + GET + b"\r\n", BODY, X),
    passes("nothing after close", GET + b"Connection: close\r\n\r\n" + SMUGGLED, X, closes=True),
    passes("nothing after HTTP/1.0", b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n" + SMUGGLED, X, closes=True),
    Row("a good one, then a bad one", GET + b"\r\n" + GET + b"X : a\r\n\r\n", (OK, 400), True, X),
    Row("nothing after a bad one", GET + b"X : a\r\n\r\n" + GET + b"\r\n", (400,), True),
    Row("a body longer than its length", POST + b"Content-Length: 2\r\n\r\n{}x", (OK, 400), True, BODY),
    passes("a body that looks like a request", POST + b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED), on(b"POST /v1/chat/completions", body=SMUGGLED)),
    passes("a chunk that looks like one", CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), on(b"POST /v1/chat/completions", body=SMUGGLED)),
    Row("a second one that is stricter", GET + b"\r\nGET  /x HTTP/1.1\r\nHost: a\r\n\r\n", (OK, 400), True, X),
)  # fmt: skip

EXPECTATIONS = (
    Row("Expect, and the body with it", POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", (OK,), False, BODY),
    Row("Expect without a body", GET + b"Expect: 100-continue\r\n\r\n", (OK,), False, X),
    Row("Expect on HTTP/1.0", b"POST /v1/chat/completions HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", (OK,), True, BODY),
    refused("Expect of something else", POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 417),
    refused("Expect of two things", POST + b"Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\n{}", 417),
    refused("Expect before a body that is too long", POST + b"Expect: 100-continue\r\nContent-Length: 536870913\r\n\r\n", 413),
    refused("Expect behind a bad length", POST + b"Expect: 100-continue\r\nContent-Length: 2x\r\n\r\n"),
)  # fmt: skip

UPGRADES = (
    passes("an upgrade that the upstream declines", GET + WEBSOCKET + b"Sec-WebSocket-Key: k\r\n\r\n", b"GET /x HTTP/1.1\r\nHost: upstream\r\nSec-WebSocket-Key: k\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nx-request-id: *\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"),
    of_get("h2c is not offered on", GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
    of_get("an upgrade that Connection does not name", GET + b"Upgrade: websocket\r\n\r\n"),
    of_get("Connection: upgrade to nothing", GET + b"Connection: Upgrade\r\n\r\n"),
    of_get("two protocols", GET + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n"),
    of_body("a websocket by POST", POST + WEBSOCKET + b"Content-Length: 2\r\n\r\n{}"),
    of_body("h2c with a chunked body", POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    passes("a websocket with a body is none", GET + WEBSOCKET + b"Content-Length: 2\r\n\r\n{}", on(b"GET /x", body=b"{}")),
    passes("a websocket by HTTP/1.0 is none", b"GET /x HTTP/1.0\r\nHost: a\r\n" + WEBSOCKET + b"\r\n", X, closes=True),
    passes("h2c, then another request", GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + b"\r\n", X, X),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    *LENGTHS, *CODINGS, *CHUNKS, *LINES, *STARTS, *HOSTS, *TARGETS, *HOPS, *PIPELINES,
    *EXPECTATIONS, *UPGRADES,
)  # fmt: skip
