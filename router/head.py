"""What a head says, and whether it could be read in two ways. Pure: parsed parts in, a Head out.

llhttp finds where a message ends and refuses most of what is ambiguous; what it lets pass and this
module refuses (400 and close): codings other than one final `chunked`, Transfer-Encoding on
HTTP/1.0, versions other than 1.0 and 1.1, a missing, second or malformed Host, an absolute-form
target that names another host, fragments, paths with `.` or `..` as a part, `_` variants of the
framing headers, request lines that are not exactly `METHOD target HTTP/1.x`.

Both ways the same headers are dropped: hop-by-hop ones and those that `Connection` names. What the
router writes itself never passes: framing, Host, the client's key, X-Forwarded-*, x-creche-*.
"""

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar, overload

from router.caller import ANYBODY, Caller
from router.errors import Problem, RequestError, invalid

Headers = list[tuple[bytes, bytes]]
Learnt = TypeVar("Learnt", int, str)

# What becomes of a header, by its name.
_PASS, _DROP, _CONNECTION, _HOST, _LENGTH, _CODING, _TYPE, _EXPECT = range(8)
_UPGRADE, _ID, _ENCODING, _FORWARDED, _REFUSE, _RETRY_AFTER, _SSE_OWN, _PROXY, _CORS = range(8, 17)

_HOP_BY_HOP = (
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
)

_OF_REQUEST: dict[bytes, int] = {
    **dict.fromkeys(_HOP_BY_HOP, _DROP),
    b"connection": _CONNECTION,
    b"proxy-connection": _PROXY,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"content-type": _TYPE,
    b"content-encoding": _ENCODING,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    b"x-request-id": _ID,
    # The client's key is for the router; an engine's own key comes from its config.
    b"authorization": _DROP,
    b"x-api-key": _DROP,
    b"api-key": _DROP,
    b"forwarded": _DROP,
    b"x-forwarded-for": _FORWARDED,
    b"x-forwarded-proto": _FORWARDED,
    b"x-forwarded-host": _FORWARDED,
    b"http2-settings": _DROP,
}

_OF_ANSWER: dict[bytes, int] = {
    **dict.fromkeys(_HOP_BY_HOP, _DROP),
    b"proxy-connection": _DROP,
    # Proxy-Authenticate is hop-by-hop, WWW-Authenticate is the engine's word and passes.
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"content-type": _TYPE,
    b"content-encoding": _ENCODING,
    b"upgrade": _UPGRADE,
    b"x-request-id": _DROP,
    b"retry-after": _RETRY_AFTER,
    b"cache-control": _SSE_OWN,
    b"x-accel-buffering": _SSE_OWN,
    b"alt-svc": _DROP,
}

#: Kept names, so that a header costs one look-up. Bounded: names come from outside.
_KEPT_MAX, _KEPT_LENGTH_MAX = 2_048, 64
_request_codes: dict[bytes, int] = {}
_answer_codes: dict[bytes, int] = {}
_field_names: dict[bytes, str] = {}


def _learn_request(name: bytes) -> int:
    lower = name.lower()
    code = _OF_REQUEST.get(lower, _PASS)
    if b"_" in lower:
        # Some servers read `_` as `-`: what we drop or write must not come in by that door.
        like = _OF_REQUEST.get(lower.replace(b"_", b"-"), _PASS)
        if like in (_LENGTH, _CODING, _HOST, _CONNECTION):
            code = _REFUSE
        elif like not in (_PASS, _TYPE, _ENCODING):
            code = _DROP
    return _keep(_request_codes, name, code)


def _learn_answer(name: bytes) -> int:
    lower = name.lower()
    code = _DROP if lower.startswith(b"x-creche-") else _OF_ANSWER.get(lower, _PASS)
    if lower.startswith(b"access-control-"):
        code = _CORS
    if b"_" in lower and _OF_ANSWER.get(lower.replace(b"_", b"-")) in (_LENGTH, _CODING):
        code = _DROP
    return _keep(_answer_codes, name, code)


def _learn_field(name: bytes) -> str:
    return _keep(_field_names, name, name.decode("latin-1").lower())


def _keep(codes: dict[bytes, Learnt], name: bytes, code: Learnt) -> Learnt:
    if len(codes) < _KEPT_MAX and len(name) <= _KEPT_LENGTH_MAX:
        codes[name] = code
    return code


class Fields:
    """Headers for deciding: lower-case names, the first of several wins. Built when first asked."""

    __slots__ = ("_found", "_headers")

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._found: dict[str, bytes] | None = None

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    def get(self, name: str, default: str | None = None, /) -> str | None:
        found = self._found
        if found is None:
            found = self._build()
        known = found.get(name)
        return default if known is None else known.decode("latin-1").strip()

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._build() if self._found is None else self._found)

    def items(self) -> Iterator[tuple[str, str]]:
        """All of them, also the second of one name."""
        for name, value in self._headers:
            yield name.decode("latin-1").lower(), value.decode("latin-1").strip()

    def _build(self) -> dict[str, bytes]:
        found = self._found = {}
        for key, value in self._headers:
            name = _field_names.get(key)
            if name is None:
                name = _learn_field(key)
            if name not in found:
                found[name] = value
        return found


class Head:
    """A request's head, well formed. `lines` are the header lines that pass, each with its CRLF."""

    __slots__ = (
        "admitted_by",
        "caller",
        "chunked",
        "content_length",
        "content_type",
        "encoded",
        "expects",
        "fields",
        "forwarded",
        "host",
        "http10",
        "id",
        "lines",
        "method",
        "path",
        "query",
        "start",
        "tail",
        "target",
        "target_text",
        "upgrades",
        "wants_close",
        "websocket",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = "GET"
        #: Origin-form, raw: path and query.
        self.target = b"/"
        self.target_text = "/"
        self.path = "/"
        #: Without its `?`.
        self.query = ""
        self.http10 = False
        self.host = b""
        self.lines = b""
        self.content_length: int | None = None
        self.chunked = False
        self.content_type = ""
        #: The body has a content coding: its model cannot be read.
        self.encoded = False
        self.expects = False
        self.websocket = False
        #: The parser stops after this head, whatever it is an upgrade to.
        self.upgrades = False
        self.wants_close = False
        #: The client's x-request-id, if it may be used.
        self.id: bytes | None = None
        #: X-Forwarded-* as they came, for trusted proxies.
        self.forwarded: dict[bytes, bytes] | None = None
        self.fields: Fields
        #: Who sent it, and the keys by which that was known; None: nobody was asked for one.
        self.caller: Caller = ANYBODY
        self.admitted_by: object = None
        #: The request line and the last header lines for upstreams, once they were written.
        self.start = b""
        self.tail = b""


#: reg-name, IPv4 or [IPv6], and a port. Narrower than RFC 3986: nothing here needs sub-delims.
_HOST_FORM = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\])(?::\d{0,5})?\Z")
_ID_FORM = re.compile(rb"[A-Za-z0-9._:+/=@~-]{1,128}\Z")
_LENGTH_FORM = re.compile(rb"\d{1,18}[ \t]*\Z")

#: `.` and `..` as a part of a path, however it is written: an upstream that resolves them may take
#: the path out of its provider's base path, or for another route than the one judged here.
_DOTS = re.compile(
    rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:(?:;|%3b)[^/\\]*?)?(?:[/\\]|%2f|%5c|\Z)", re.IGNORECASE
)

#: Refused by name: proxies' and other protocols'. TRACE would echo what the router adds.
_METHODS_REFUSED = frozenset({"CONNECT", "TRACE", "SOURCE", "PRI"})


def _bad(text: str) -> RequestError:
    return RequestError(invalid(text))


def read_request(
    method: bytes, target: bytes, version: str, headers: Headers, fallback_host: bytes = b""
) -> Head:
    """Raises RequestError: answer with its Problem and close."""
    if version != "1.1" and version != "1.0":
        raise RequestError(
            Problem(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", "http_version")
            if version[:1] not in ("0", "")
            else invalid("only HTTP/1.0 and HTTP/1.1 are spoken here")
        )
    head = Head()
    head.method = method.decode("latin-1")
    head.http10 = http10 = version == "1.0"
    lines: list[bytes] = []
    named: list[bytes] | None = None
    host: bytes | None = None
    keep_alive = close = upgrade_named = False
    upgrade = b""
    for name, value in headers:
        code = _request_codes.get(name)
        if code is None:
            code = _learn_request(name)
        if code == _PASS:
            lines.append(name + b": " + value)
        elif code == _DROP:
            pass
        elif code == _HOST:
            if host is not None:
                raise _bad("a second Host header")
            host = value.rstrip(b" \t")
        elif code == _LENGTH:
            if head.content_length is not None or not _LENGTH_FORM.match(value):
                raise _bad("Content-Length is malformed or given twice")
            head.content_length = int(value)
        elif code == _TYPE:
            if head.content_type and head.content_type != value.decode("latin-1"):
                raise _bad("two Content-Type headers that differ")
            head.content_type = value.decode("latin-1")
            lines.append(name + b": " + value)
        elif code == _CONNECTION:
            for item in value.lower().split(b","):
                token = item.strip()
                if token == b"close":
                    close = True
                elif token == b"keep-alive":
                    keep_alive = True
                elif token == b"upgrade":
                    upgrade_named = True
                elif token:
                    named = [] if named is None else named
                    named.append(token)
        elif code == _CODING:
            if head.chunked or http10 or value.strip(b" \t").lower() != b"chunked":
                raise _bad("Transfer-Encoding other than one final chunked, or on HTTP/1.0")
            head.chunked = True
        elif code == _ENCODING:
            head.encoded = head.encoded or value.strip().lower() not in (b"", b"identity")
            lines.append(name + b": " + value)
        elif code == _EXPECT:
            if value.strip().lower() != b"100-continue":
                raise RequestError(invalid("only Expect: 100-continue is known", status=417))
            head.expects = not http10
        elif code == _UPGRADE:
            upgrade = value.strip().lower()
        elif code == _ID:
            given = value.strip()
            if head.id is None and _ID_FORM.match(given):
                head.id = given
        elif code == _FORWARDED:
            kept = head.forwarded = head.forwarded or {}
            lower = name.lower()
            kept[lower] = kept[lower] + b", " + value if lower in kept else value
        elif code == _PROXY:
            # The parser takes its `close` for Connection's, and nothing after it for a request.
            close = close or b"close" in value.lower()
        else:
            raise _bad(f"the header {name.decode('latin-1')!r} looks like a framing header")
    if head.chunked and head.content_length is not None:
        raise _bad("Content-Length with Transfer-Encoding")
    if host is None:
        if not http10:
            raise _bad("the Host header is missing")
        host = fallback_host
    elif not _HOST_FORM.match(host):
        raise _bad("the Host header is malformed")
    head.host = host
    _read_target(head, target)
    if head.method in _METHODS_REFUSED:
        raise RequestError(invalid(f"{head.method} is not relayed", status=405))
    head.wants_close = close or (http10 and not keep_alive)
    if (
        upgrade_named
        and upgrade == b"websocket"
        and head.method == "GET"
        and not http10
        and not head.chunked
        and not head.content_length
    ):
        head.websocket = True
    if named is not None:
        gone = frozenset(named)
        lines = [line for line in lines if line[: line.index(b":")].lower() not in gone]
    lines.append(b"")
    head.lines = b"\r\n".join(lines)
    head.fields = Fields(headers)
    return head


def _read_target(head: Head, target: bytes) -> None:
    if target[:1] != b"/":
        if target == b"*" and head.method == "OPTIONS":
            head.target, head.path = target, "*"
            return
        if head.method == "CONNECT":
            return
        target = _origin_form(target, head.host)
    if b"#" in target:
        raise _bad("the target has a fragment")
    if target[:2] == b"//":
        raise _bad("the target begins with //, which names a host to some")
    head.target = target
    head.target_text = text = target.decode("latin-1")
    path, _, head.query = text.partition("?")
    head.path = path
    # Most paths have neither, and looking for these costs a tenth of a search.
    if ("." in path or "%" in path) and _DOTS.search(target, 0, len(path)) is not None:
        raise _bad("the target's path has a . or .. as a part")


def request_line(method: bytes, target: bytes, version: str) -> bytes:
    """As it must have come. The parser also takes several spaces, and RTSP for HTTP."""
    return b"%b %b HTTP/1.%b\r\n" % (method, target, b"0" if version == "1.0" else b"1")


def _origin_form(target: bytes, host: bytes) -> bytes:
    scheme, found, rest = target.partition(b"://")
    scheme = scheme.lower()
    if not found or scheme not in (b"http", b"https"):
        raise _bad("the target is neither a path nor an http URL")
    end = next((i for i, c in enumerate(rest) if c in b"/?#"), len(rest))
    authority, path = rest[:end], rest[end:]
    if _with_port(authority, scheme) != _with_port(host, scheme):
        raise _bad("the target names another host than the Host header")
    if path[:1] != b"/":
        path = b"/" + path
    return path


def _with_port(authority: bytes, scheme: bytes) -> bytes:
    authority = authority.lower().rstrip(b":")
    default = b":443" if scheme == b"https" else b":80"
    return authority.removesuffix(default)


class AnswerHead:
    """An upstream's head. `lines` pass on; framing and what the router writes are left out."""

    __slots__ = (
        "cache_lines", "chunked", "close", "content_length", "encoded", "event_stream",
        "lines", "retry_after", "start", "status", "type", "upgrade",
    )  # fmt: skip

    def __init__(self, status: int) -> None:
        self.status = status
        self.lines = b""
        #: Cache-Control and X-Accel-Buffering: they pass, except on event streams.
        self.cache_lines = b""
        self.content_length: int | None = None
        self.chunked = False
        #: The upstream will close after this answer.
        self.close = False
        self.type = b""
        self.encoded = False
        self.event_stream = False
        self.retry_after: bytes | None = None
        self.upgrade = b""
        #: Status line and what passes, once they were written.
        self.start = b""


_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_DIGITS = re.compile(rb"\d{1,15}")


class Known:
    """A head that the parser has taken, as bytes. A connection says most heads again and again,
    and equal bytes mean the same: what differs in nothing but the digits of its length needs no
    parser. Only for heads without a transfer coding.
    """

    __slots__ = ("_after", "_before", "_count")

    def __init__(self, raw: bytes) -> None:
        found = _LENGTH_LINE.search(raw)
        if found is None:
            self._before, self._after = raw, b""
        else:
            self._before, self._after = raw[: found.start(1)], raw[found.end(1) :]
        self._count = len(self._before)

    def match(self, data: bytes) -> tuple[int | None, int] | None:
        """Length (None: it names none) and where the head ends; None for another head."""
        if not data.startswith(self._before):
            return None
        if not self._after:
            return None, self._count
        digits = _DIGITS.match(data, self._count)
        if digits is None:
            return None
        end = digits.end()
        if not data.startswith(self._after, end):
            return None
        return int(digits.group()), end + len(self._after)


class MalformedError(Exception):
    """An answer that nobody may send."""


def read_answer(status: int, version: str, headers: Headers, *, cors: bool = False) -> AnswerHead:
    """Raises MalformedError. `cors`: what an engine lets foreign web pages do is let."""
    if version != "1.1" and version != "1.0":
        raise MalformedError(f"HTTP version {version}")
    if status < 100 or status > 599:
        raise MalformedError(f"status {status}")
    head = AnswerHead(status)
    lines: list[bytes] = []
    named: list[bytes] | None = None
    close = version == "1.0"
    for name, value in headers:
        code = _answer_codes.get(name)
        if code is None:
            code = _learn_answer(name)
        if code == _PASS:
            lines.append(name + b": " + value)
        elif code == _DROP:
            pass
        elif code == _LENGTH:
            if head.content_length is not None or not _LENGTH_FORM.match(value):
                raise MalformedError("Content-Length")
            head.content_length = int(value)
        elif code == _TYPE:
            head.type = value
            head.event_stream = value[:17].lower() == b"text/event-stream"
            lines.append(name + b": " + value)
        elif code == _CONNECTION:
            for item in value.lower().split(b","):
                token = item.strip()
                if token == b"close":
                    close = True
                elif token == b"keep-alive":
                    close = False
                elif token and token != b"upgrade":
                    named = [] if named is None else named
                    named.append(token)
        elif code == _CODING:
            if head.chunked or version == "1.0" or value.strip(b" \t").lower() != b"chunked":
                raise MalformedError("Transfer-Encoding")
            head.chunked = True
        elif code == _ENCODING:
            head.encoded = head.encoded or value.strip().lower() not in (b"", b"identity")
            lines.append(name + b": " + value)
        elif code == _RETRY_AFTER:
            head.retry_after = value.strip()
            lines.append(name + b": " + value)
        elif code == _CORS:
            if cors:
                lines.append(name + b": " + value)
        elif code == _SSE_OWN:
            head.cache_lines += name + b": " + value + b"\r\n"
        else:
            head.upgrade = value.strip().lower()
    if head.chunked and head.content_length is not None:
        raise MalformedError("Content-Length with Transfer-Encoding")
    if named is not None:
        gone = frozenset(named)
        lines = [line for line in lines if line[: line.index(b":")].lower() not in gone]
    head.close = close
    lines.append(b"")
    head.lines = b"\r\n".join(lines)
    return head


_STATUS_LINES: dict[int, bytes] = {
    s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus
}
_STATUS_LINES[529] = b"HTTP/1.1 529 Overloaded\r\n"


def status_line(status: int) -> bytes:
    """The first line of an answer, with its CRLF."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def retry_after_s(value: bytes | None, unix_s: float) -> float | None:
    """Seconds of a Retry-After, given as such or as a date; None for none and for nonsense."""
    if value is None:
        return None
    if value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value.decode("latin-1"))
    except (ValueError, OverflowError):
        return None
    return max(moment.timestamp() - unix_s, 0.0)
