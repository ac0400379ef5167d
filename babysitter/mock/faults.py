"""What may go wrong with an answer, and for which requests. Pure.

One list of faults, three ways to ask for them:

    a request's header    x-mock-delay-ms: 300           this request
    a flag at the start   --fault status=500,times=3     standing, until used up
    POST /mock/faults     [{"hang": "before"}]           standing, replaces those before

A standing rule without `path` spares the control paths (/health, models, /metrics): the engine then
looks well and serves badly, which is the fault that health checks miss.
"""

from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

Where = Literal["before", "head", "middle"]
Cut = Literal["before", "head", "between", "event", "chunk", "middle"]
ErrorShape = Literal["openai", "object", "detail", "html", "empty"]

HEADER_PREFIX = b"x-mock-"


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Field `delay_ms` is header `x-mock-delay-ms` and key `delay-ms`.

    `before` means no byte of answer yet, `head` after (or, for `cut`, inside) the head, `middle`
    after `after` events or half of a plain body. Streams can be cut `between` events, inside an
    `event`, or inside a `chunk` of the transfer coding.
    """

    delay_ms: float = 0.0
    """before the first byte"""
    status: int | None = None
    """answer with this status instead, at once"""
    retry_after: float | None = None
    """seconds, as Retry-After on that answer"""
    error_shape: ErrorShape = "openai"
    hang: Where | None = None
    """send nothing more, hold the connection"""
    cut: Cut | None = None
    """end the connection with a FIN"""
    reset: Where | None = None
    """end the connection with an RST"""
    exit: Where | None = None
    """end the whole process, at once, with status 1"""
    after: int = 2
    """how many events count as `middle`"""
    dead: bool = False
    """the same as hang=before"""
    error_event: int | None = None
    """the event with this index is an error, the last before [DONE]; 0 is the first"""
    oversize_event: int | None = None
    """one event of so many bytes, after `after` events"""
    no_done: bool = False
    """leave out [DONE], and the closing event of the other streams"""
    comments: bool = False
    """an SSE comment before each event"""
    garbage_head: bool = False
    endless_head: bool = False
    two_answers: bool = False
    """a second whole answer in the same write"""
    early: str = ""
    """1xx answers before the real one: 103 or 100,103"""
    close_delimited: bool = False
    """no length and no chunks: the answer ends with the connection"""
    split_bytes: int | None = None
    """write everything in pieces of so many bytes, a millisecond apart"""
    slow_read: int | None = None
    """read the request's body at so many bytes a second"""
    drop_reused: bool = False
    """close without a byte if the connection was used before (the keep-alive race)"""
    silent_close: bool = False
    """close after the answer without having said so"""
    tokens: int | None = None
    pace_ms: float | None = None


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
    for part in text.split(","):
        key, _, value = part.partition("=")
        if part and not key.isdigit():
            table[key.strip()] = value.strip() or "true"
        elif table:  # early=100,103
            table["early"] = f"{table.get('early', '')},{part}"
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


def _faults(table: dict[str, Any]) -> Faults:
    spelled = {key.replace("_", "-"): value for key, value in table.items()}
    for key in spelled:
        if key not in _NAMES:
            raise ValueError(f"no fault is called {key!r}; there are: {', '.join(_NAMES)}")
    try:
        found = msgspec.convert(spelled, Faults, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}; places are {', '.join(get_args(Cut))}") from None
    return msgspec.structs.replace(found, hang="before") if found.dead else found
