"""Daemons of two versions understand each other, whichever is the newer.

`recorded/` has a file for each version whose messages were recorded: every type that travelled,
with every field filled, and which of its fields were always there. A file is never edited: a new
version gets another.

    the older one's message, read by us    ─▶ accepted, and every value still means what it did
    ours, read by the older one            ─▶ all that it was always given is still there
    a newer one's message, read by us      ─▶ fields that we do not know change nothing
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from common.wire import babysitter, registry, router

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
MODULES: dict[str, ModuleType] = {"registry": registry, "babysitter": babysitter, "router": router}


def cases() -> list[Any]:
    return [
        pytest.param(name, one["message"], set(one["always"]), id=f"{path.stem}-{name}")
        for path in RECORDED
        for name, one in json.loads(path.read_text()).items()
    ]


EVERY = pytest.mark.parametrize(("name", "message", "always"), cases())


def type_of(name: str) -> Any:
    module, _, struct = name.partition(".")
    return getattr(MODULES[module], struct)


def told(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def missing(older: Any, ours: Any, at: str = "") -> list[str]:
    """What the older message says and ours does not."""
    if isinstance(older, dict) and isinstance(ours, dict):
        return [
            one
            for key, value in older.items()
            for one in (
                missing(value, ours[key], f"{at}.{key}") if key in ours else [f"{at}.{key} is gone"]
            )
        ]
    if isinstance(older, list) and isinstance(ours, list) and len(older) == len(ours):
        pairs = zip(older, ours, strict=True)
        return [one for n, (a, b) in enumerate(pairs) for one in missing(a, b, f"{at}[{n}]")]
    return [] if older == ours else [f"{at} was {older!r}, and is {ours!r}"]


def with_more(message: Any, kind: inspect.Type) -> Any:
    """As a newer version might say it: one more field in each object of the wire's own."""
    match kind:
        case inspect.StructType():
            types = {field.encode_name: field.type for field in kind.fields}
            known = {key: with_more(value, types[key]) for key, value in message.items()}
            return {**known, "from_a_newer_one": {"a": [1]}}
        case inspect.ListType() | inspect.VarTupleType():
            return [with_more(one, kind.item_type) for one in message]
        case inspect.DictType():
            return {key: with_more(value, kind.value_type) for key, value in message.items()}
        case inspect.UnionType() if message is not None:
            [other] = [x for x in kind.types if not isinstance(x, inspect.NoneType)][:1]
            return with_more(message, other)
    return message


def least(kind: inspect.Type) -> Any:
    """The shortest message of a type: only what it must say."""
    match kind:
        case inspect.StructType():
            return {f.encode_name: least(f.type) for f in kind.fields if f.required}
        case inspect.EnumType():
            return next(iter(kind.cls)).value
        case inspect.StrType():
            return "text"
        case inspect.IntType() | inspect.FloatType():
            return 0
        case inspect.BoolType():
            return False
        case inspect.ListType() | inspect.VarTupleType():
            return []
        case inspect.DictType():
            return {}
        case inspect.UnionType() if any(isinstance(x, inspect.NoneType) for x in kind.types):
            return None
    raise AssertionError(f"no shortest message of {kind}")


@EVERY
def test_what_an_older_one_says_still_means_the_same(
    name: str, message: Any, always: set[str]
) -> None:
    read = msgspec.convert(message, type_of(name))
    assert missing(message, told(read)) == []


@EVERY
def test_what_an_older_one_needs_is_still_said(name: str, message: Any, always: set[str]) -> None:
    kind = type_of(name)
    shortest = told(msgspec.convert(least(inspect.type_info(kind)), kind))
    assert always <= shortest.keys()


@EVERY
def test_what_only_a_newer_one_knows_is_passed_over(
    name: str, message: Any, always: set[str]
) -> None:
    kind = type_of(name)
    body = json.dumps(with_more(message, inspect.type_info(kind))).encode()
    assert msgspec.json.decode(body, type=kind) == msgspec.convert(message, kind)


def test_an_older_one_may_leave_out_what_is_new() -> None:
    """No type has come to need a field that an older one does not send."""
    for path in RECORDED:
        for name, one in json.loads(path.read_text()).items():
            kind = inspect.type_info(type_of(name))
            assert isinstance(kind, inspect.StructType)
            needed = {field.encode_name for field in kind.fields if field.required}
            assert needed <= set(one["always"]), name


def test_something_was_recorded() -> None:
    assert RECORDED
    assert len(cases()) > 20
