"""Compares plain data with a Struct's shape and names every difference. Pure.

msgspec stops at the first fault; operators want all. This walks the type's structure itself and
lets msgspec judge each leaf, so ranges, patterns and enumerations have one definition.
"""

import difflib
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

from common.positions import Path

STOPS_START = "With this file the daemon does not start; a running one keeps the file it has."
_KIND = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    datetime: "a date with a time",
    date: "a date",
    time: "a time",
    type(None): "nothing",
}
_LISTS = (list, tuple, set, frozenset, Sequence, AbstractSet)


class Fault(Struct, frozen=True, kw_only=True):
    """One difference. `on_key`: the key is at fault, not its value."""

    path: Path
    text: str
    effect: str = ""
    fix: str = ""
    on_key: bool = False


def faults(data: Any, type: Any) -> list[Fault]:
    """Every way in which `data` (as tomllib gives it) is not a `type`."""
    return list(_walk(data, type, ()))


def _walk(value: Any, hint: Any, path: Path) -> Iterator[Fault]:
    bare, metas = _strip(hint)
    if isinstance(value, float) and not math.isfinite(value):
        yield _unfit(path, f"{_named(path)} is {value}", "a finite number is wanted")
        return
    members = _members(bare)
    if len(members) > 1:
        fitting = [one for one in members if _fits(value, one)]
        if len(fitting) == 1:
            yield from _walk(value, _again(fitting[0], metas), path)
            return
    elif _is_struct(bare):
        if isinstance(value, dict):
            yield from _walk_struct(value, bare, path)
            return
    elif _origin(bare) in _LISTS:
        if isinstance(value, list):
            yield from _walk_list(value, bare, metas, path)
            return
    elif _origin(bare) in {dict, Mapping} and isinstance(value, dict):
        yield from _walk_dict(value, bare, metas, path)
        return
    yield from _leaf(value, hint, path)


def _walk_struct(value: dict[str, Any], struct: Any, path: Path) -> Iterator[Fault]:
    config = struct.__struct_config__
    fields = {field.encode_name: field for field in _fields(struct)}
    clean = True
    tag = {config.tag_field} if config.tag_field else set()
    for key, item in value.items():
        if key in fields:
            for fault in _walk(item, fields[key].type, (*path, key)):
                clean = False
                yield fault
        elif config.forbid_unknown_fields and key not in tag:
            clean = False
            yield _unknown(key, [*fields, *tag], path)
    for key, field in fields.items():
        if field.required and key not in value:
            clean = False
            yield Fault(
                path=path,
                text=f'{_table(path)} has no "{key}"' if path else f'the key "{key}" is missing',
                effect=f"It wants {_wanted(field.type)} there. {STOPS_START}",
                fix=f"add  {key} = {_example(field.type)}",
                on_key=True,
            )
    if clean:
        yield from _judge(value, struct, path)


def _walk_list(value: list[Any], bare: Any, metas: tuple[Meta, ...], path: Path) -> Iterator[Fault]:
    arguments = get_args(bare)
    clean = True
    for index, item in enumerate(value):
        hint: Any = Any
        if _origin(bare) is tuple and arguments and arguments[-1] is not Ellipsis:
            hint = arguments[index] if index < len(arguments) else Any
        elif arguments:
            hint = arguments[0]
        for fault in _walk(item, hint, (*path, index)):
            clean = False
            yield fault
    if clean:
        yield from _judge(value, _again(bare, metas), path)


def _walk_dict(
    value: dict[str, Any], bare: Any, metas: tuple[Meta, ...], path: Path
) -> Iterator[Fault]:
    key_hint, item_hint = get_args(bare) or (str, Any)
    clean = True
    for key, item in value.items():
        if why := _complaint(key, key_hint):
            clean = False
            yield Fault(
                path=(*path, key),
                text=f'"{key}" is no name for an entry of {_table(path)}: {why}',
                effect=STOPS_START,
                fix=f"use {_wanted(key_hint)}{_close(key, key_hint)}",
                on_key=True,
            )
        for fault in _walk(item, item_hint, (*path, key)):
            clean = False
            yield fault
    if clean:
        yield from _judge(value, _again(bare, metas), path)


def _judge(value: Any, hint: Any, path: Path) -> Iterator[Fault]:
    """Rules about a container as a whole: its length, a Struct's `__post_init__`."""
    if why := _complaint(value, hint):
        yield _unfit(path, f"{_named(path)}: {why}" if path else why, "", on_key=bool(path))


def _leaf(value: Any, hint: Any, path: Path) -> Iterator[Fault]:
    why = _complaint(value, hint)
    if why is None:
        return
    if not _is_kind(value, hint):
        text = f"{_named(path)} wants {_wanted(hint)}, found {_found(value)}"
    elif _choices(hint):
        text = f"{_named(path)} cannot be {_show(value)}"
    else:
        text = f"{_named(path)} is {_show(value)}, wanted is {_wanted(hint)}"
    yield Fault(path=path, text=text, effect=STOPS_START, fix=_fix(value, hint, path))


def _complaint(value: Any, hint: Any) -> str | None:
    """What msgspec says against `value`, None when it fits."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as why:
        return str(why).split(" - at `")[0]
    return None


def _unknown(key: str, known: list[str], path: Path) -> Fault:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        fix = f'did you mean "{close[0]}"?'
    else:
        fix = f"remove it; known here: {', '.join(sorted(known))}"
    inside = f" in {_table(path)}" if path else ""
    return Fault(path=(*path, key), text=f'unknown key "{key}"{inside}', fix=fix, on_key=True)


def _unfit(path: Path, text: str, fix: str, *, on_key: bool = False) -> Fault:
    return Fault(path=path, text=text, effect=STOPS_START, fix=fix, on_key=on_key)


def _fix(value: Any, hint: Any, path: Path) -> str:
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if close := _close(value, hint):
        return close.removeprefix(": ")
    if isinstance(value, str) and not _is_kind(value, hint):
        for kind in (int, float):
            try:
                plain = kind(value)
            except ValueError:
                continue
            if _complaint(plain, hint) is None:
                return f"without quotes: {key} = {plain}"
        if value.lower() in {"true", "false"} and _complaint(value.lower() == "true", hint) is None:
            return f"without quotes: {key} = {value.lower()}"
        if _complaint([value], hint) is None:
            return f'in brackets: {key} = ["{value}"]'
    if isinstance(value, (int, float)) and _complaint(str(value), hint) is None:
        return f'in quotes: {key} = "{value}"'
    return f"set it to {_wanted(hint)}"


def _close(value: Any, hint: Any) -> str:
    choices = _choices(hint)
    if not isinstance(value, str) or not choices:
        return ""
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.6)
    return f': did you mean "{close[0]}"?' if close else ""


# What a type wants, in words.


def _wanted(hint: Any) -> str:
    bare, metas = _strip(hint)
    described = [meta.description for meta in metas if meta.description]
    if described:
        return described[-1]
    if choices := _choices(bare):
        return _one_of(choices)
    members = [one for one in _members(bare) if one not in {type(None), UnsetType}]
    if len(members) > 1:
        return " or ".join(dict.fromkeys(map(_wanted, members)))
    bare = members[0] if members else bare
    if bare is not hint and _strip(bare)[1]:
        return _wanted(bare)
    return _plain(bare) + _bounds(metas)


def _plain(bare: Any) -> str:
    if bare is Any:
        return "anything"
    if _origin(bare) in _LISTS:
        arguments = [one for one in get_args(bare) if one is not Ellipsis]
        return f"an array of {_plural(_wanted(arguments[0]))}" if arguments else "an array"
    if _origin(bare) in {dict, Mapping} or _is_struct(bare):
        return "a table"
    return _KIND.get(bare, getattr(bare, "__name__", str(bare)))


def _plural(text: str) -> str:
    for article in ("an ", "a "):
        if text.startswith(article):
            head, *rest = text.removeprefix(article).split(" ", 1)
            return " ".join([head + "s", *rest])
    return text


def _bounds(metas: tuple[Meta, ...]) -> str:
    said: list[str] = []
    for meta in metas:
        if meta.ge is not None and meta.le is not None:
            said.append(f"from {meta.ge} to {meta.le}")
        else:
            said += [f"of at least {meta.ge}"] if meta.ge is not None else []
            said += [f"of at most {meta.le}"] if meta.le is not None else []
        said += [f"above {meta.gt}"] if meta.gt is not None else []
        said += [f"below {meta.lt}"] if meta.lt is not None else []
        said += [f"that is a multiple of {meta.multiple_of}"] if meta.multiple_of else []
        said += [f"like {meta.pattern}"] if meta.pattern is not None else []
        if meta.min_length == 1 and meta.max_length is None:
            said.append("that is not empty")
        else:
            said += [f"of length {meta.min_length} or more"] if meta.min_length else []
            said += [f"of length {meta.max_length} or less"] if meta.max_length is not None else []
    return " " + " and ".join(said) if said else ""


def _one_of(choices: list[str]) -> str:
    quoted = [f'"{one}"' for one in choices]
    return quoted[0] if len(quoted) == 1 else f"one of {', '.join(quoted)}"


def _choices(hint: Any) -> list[str]:
    """The texts that a Literal or Enum (or a union of only those, and None) allows."""
    found: list[str] = []
    for member in _members(_strip(hint)[0]):
        bare = _strip(member)[0]
        if get_origin(bare) is Literal:
            found += [str(one) for one in get_args(bare)]
        elif isinstance(bare, type) and issubclass(bare, Enum):
            found += [str(one.value) for one in bare]
        elif bare not in {type(None), UnsetType}:
            return []
    return found


def _example(hint: Any) -> str:
    wanted = _members(_strip(hint)[0])[0]
    bare = _strip(wanted)[0]
    if choices := _choices(bare):
        return f'"{choices[0]}"'
    if _origin(bare) in _LISTS:
        return "[…]"
    if _origin(bare) in {dict, Mapping} or _is_struct(bare):
        return "{ … }"
    return {bool: "true", int: "1", float: "1.0"}.get(bare, '"…"')


def _found(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    kind = _KIND.get(type(value), type(value).__name__)
    return f"{kind}, {_show(value)}" if isinstance(value, (str, int, float)) else kind


def _show(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1:]


def _named(path: Path) -> str:
    """`"port"`, `"models" item 2`: the key, and for array items which (from 1)."""
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the file"
    if isinstance(path[-1], int):
        return f'item {path[-1] + 1} of "{names[-1]}"'
    return f'"{names[-1]}"'


def _table(path: Path) -> str:
    if not path:
        return "the file"
    names = ".".join(str(part) for part in path if isinstance(part, str))
    return f"[[{names}]]" if isinstance(path[-1], int) else f"[{names}]"


# The types themselves.


@cache
def _fields(struct: Any) -> tuple[Any, ...]:
    return msgspec.structs.fields(struct)


def _strip(hint: Any) -> tuple[Any, tuple[Meta, ...]]:
    metas: list[Meta] = []
    while get_origin(hint) is Annotated:
        inner, *extra = get_args(hint)
        metas = [one for one in extra if isinstance(one, Meta)] + metas
        hint = inner
    return hint, tuple(metas)


def _again(bare: Any, metas: tuple[Meta, ...]) -> Any:
    return Annotated[(bare, *metas)] if metas else bare


def _members(bare: Any) -> tuple[Any, ...]:
    if get_origin(bare) in {Union, types.UnionType}:
        return tuple(inner for one in get_args(bare) for inner in _members(one))
    return (bare,)


def _origin(bare: Any) -> Any:
    return get_origin(bare) or bare


def _is_struct(bare: Any) -> bool:
    return isinstance(bare, type) and issubclass(bare, Struct)


def _fits(value: Any, member: Any) -> bool:
    """Whether `value` is of `member`'s kind, so that its faults are looked for there."""
    bare = _strip(member)[0]
    if _is_struct(bare):
        if not isinstance(value, dict):
            return False
        config = bare.__struct_config__
        return config.tag_field is None or value.get(config.tag_field) == config.tag
    if _origin(bare) in _LISTS:
        return isinstance(value, list)
    if _origin(bare) in {dict, Mapping}:
        return isinstance(value, dict)
    return _is_kind(value, bare)


def _is_kind(value: Any, hint: Any) -> bool:
    """Whether `value` has the right kind, whatever its range."""
    for member in _members(_strip(hint)[0]):
        bare = _strip(member)[0]
        if bare is Any:
            return True
        if get_origin(bare) is Literal:
            if any(type(one) is type(value) for one in get_args(bare)):
                return True
        elif isinstance(bare, type) and issubclass(bare, Enum):
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                return True
        elif _origin(bare) in _LISTS:
            if isinstance(value, list):
                return True
        elif _origin(bare) in {dict, Mapping} or _is_struct(bare):
            if isinstance(value, dict):
                return True
        elif bare is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return True
        elif isinstance(bare, type) and type(value) is bare:
            return True
    return False
