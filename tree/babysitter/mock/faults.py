"""What may go wrong with an answer, and for which requests. Pure.

One list of faults, three ways to ask for them:

    a request's header    x-mock-delay-ms: 300           this request
    a flag at the start   --fault status=500,times=3     standing, until used up
    POST /mock/faults     [{"hang": "before"}]           standing, replaces those before

A standing rule without `path` spares the control paths (/health, models, /metrics): the engine then
looks well and serves badly, which is the fault that health checks miss.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Where = Literal["before", "head", "middle"]
Cut = Literal["before", "head", "between", "event", "chunk", "middle"]
ErrorShape = Literal["openai", "object", "detail", "html", "empty"]

HEADER_PREFIX = b"x-mock-"
_EARLY = r"^(1[0-9][0-9](\+1[0-9][0-9])*)?$"


def _means(text: str, **limits: Any) -> Any:
    return Meta(description=text, **limits)


_Ms = Annotated[float, Meta(ge=0)]
_Count = Annotated[int, Meta(ge=0)]
_Status = Annotated[int, Meta(ge=200, le=599)]
_Positive = Annotated[int, Meta(ge=1)]


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Field `delay_ms` is header `x-mock-delay-ms` and key `delay-ms`. Described below, for --help.

    Where: `before` means no byte of answer yet, `head` after (or, for `cut`, inside) the head,
    `middle` after `after` events or half of a plain body. Streams can be cut `between` events,
    inside an `event`, or inside a `chunk` of the transfer coding.
    """

    delay_ms: Annotated[_Ms, _means("wait before the first byte")] = 0.0
    status: Annotated[_Status | None, _means("answer with this status at once")] = None
    retry_after: Annotated[float | None, _means("seconds, as Retry-After of `status`")] = None
    error_shape: Annotated[ErrorShape, _means("body of `status`")] = "openai"
    hang: Annotated[Where | None, _means("send nothing more, hold the connection")] = None
    cut: Annotated[Cut | None, _means("end the connection with a FIN")] = None
    reset: Annotated[Where | None, _means("end the connection with an RST")] = None
    exit: Annotated[Where | None, _means("end the whole process at once, status 1")] = None
    after: Annotated[_Count, _means("events that come before `middle`")] = 2
    dead: Annotated[bool, _means("the same as hang=before")] = False
    error_event: Annotated[_Count | None, _means("this event is an error; 0 is the first")] = None
    oversize_event: Annotated[_Positive | None, _means("one event of so many bytes")] = None
    no_done: Annotated[bool, _means("leave out [DONE], or the stream's closing event")] = False
    comments: Annotated[bool, _means("an SSE comment before each event")] = False
    garbage_head: Annotated[bool, _means("bytes that are not HTTP, then a FIN")] = False
    endless_head: Annotated[bool, _means("header lines without end")] = False
    two_answers: Annotated[bool, _means("a second whole answer in the last write")] = False
    early: Annotated[str, _means("1xx answers before: 103 or 100+103", pattern=_EARLY)] = ""
    close_delimited: Annotated[bool, _means("no length: the connection's end ends it")] = False
    split_bytes: Annotated[_Positive | None, _means("write in pieces of so many bytes")] = None
    slow_read: Annotated[_Positive | None, _means("read bodies at so many bytes/s")] = None
    drop_reused: Annotated[bool, _means("close used connections without a byte")] = False
    silent_close: Annotated[bool, _means("close after the answer, unannounced")] = False
    tokens: Annotated[_Count | None, _means("tokens of this answer")] = None
    pace_ms: Annotated[_Ms | None, _means("time between this answer's events")] = None


NO_FAULTS = Faults()


class Rule(Struct, frozen=True, kw_only=True):
    """Standing faults. `path` and `model` narrow it, `times` ends it after so many requests."""

    faults: Faults
    path: str | None = None
    model: str | None = None
    times: int | None = None


def faults_from_headers(pairs: list[tuple[bytes, bytes]]) -> Faults:
    """Of `x-mock-…` headers, names in any case. Raises ValueError with a sentence."""
    table = {
        name[len(HEADER_PREFIX) :].decode("latin-1").lower(): value.decode("latin-1").strip()
        for name, value in pairs
    }
    return _faults(table)


def rule_from_flag(text: str) -> Rule:
    """Of `key=value,key=value`; a key alone means true. Raises ValueError with a sentence."""
    table: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.partition("=")
        table[key.strip()] = value.strip() or "true"
    return rule_from_table(table)


def rule_from_table(table: dict[str, Any]) -> Rule:
    """Of a JSON object: a fault's keys beside `path`, `model` and `times`. Raises ValueError."""
    rest = dict(table)
    path, model, times = rest.pop("path", None), rest.pop("model", None), rest.pop("times", None)
    try:
        count = None if times is None else int(times)
    except (TypeError, ValueError):
        raise ValueError(f"times is a number of requests, not {times!r}") from None
    return Rule(faults=_faults(rest), path=path, model=model, times=count)


def rules_from_json(body: bytes) -> tuple[Rule, ...]:
    """Of one rule or a list of them; an empty body, {} or [] clears. Raises ValueError."""
    if not body.strip():
        return ()
    tables = msgspec.json.decode(body)
    if isinstance(tables, dict):
        tables = [tables] if tables else []
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("want a JSON object of faults, or a list of them")
    return tuple(rule_from_table(table) for table in tables)


class Standing:
    """The rules in force. Owned by the engine; `find` uses up `times`."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._rules: list[tuple[Rule, int | None]] = [(rule, rule.times) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def peek(self, path: str) -> Faults:
        """The first rule that this path may meet, before its model is known. Uses nothing up."""
        for rule, _ in self._rules:
            if rule.path is None or path.startswith(rule.path):
                return rule.faults
        return NO_FAULTS

    def find(self, path: str, model: str | None, control: bool) -> Faults:
        """The first rule that fits this request, counted as used."""
        for index, (rule, left) in enumerate(self._rules):
            if rule.path is None and control:
                continue
            if rule.path is not None and not path.startswith(rule.path):
                continue
            if rule.model is not None and rule.model != model:
                continue
            if left is not None:
                if left <= 1:
                    del self._rules[index]
                else:
                    self._rules[index] = (rule, left - 1)
            return rule.faults
        return NO_FAULTS


_NAMES = tuple(Faults.__struct_encode_fields__)


def described() -> Iterator[tuple[str, str]]:
    """Each fault's name, and what it does with the values it takes: for --help and the docs."""
    schema = msgspec.json.schema(Faults)["$defs"]["Faults"]["properties"]
    for name, entry in schema.items():
        options = [value for one in entry.get("anyOf", [entry]) for value in one.get("enum", [])]
        places = f" ({', '.join(map(str, filter(None, options)))})" if options else ""
        yield name, entry.get("description", "") + places


def _faults(table: dict[str, Any]) -> Faults:
    spelled = {key.replace("_", "-"): value for key, value in table.items()}
    for key in spelled:
        if key not in _NAMES:
            raise ValueError(f"no fault is called {key!r}; there are: {', '.join(_NAMES)}")
    try:
        found = msgspec.convert(spelled, Faults, strict=False)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        choice = dict(described()).get(name, "").partition(" (")[2]
        raise ValueError(f"{name}: {text}{' of ' + choice[:-1] if choice else ''}") from None
    return msgspec.structs.replace(found, hang="before") if found.dead else found
