"""Compares plain data with a Struct's shape and names every difference. Pure.

msgspec stops at the first fault; operators want all. This walks the type's structure itself and
lets msgspec judge each leaf, so ranges, patterns and enumerations have one definition.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
from msgspec import Meta, Struct

from common import hints, wanted
from common.hints import LISTS, again, fits, is_kind, is_struct, members_of, origin, strip
from common.positions import Path
from common.redact import is_secret_name

#: How the text of such a fault begins.
UNKNOWN_KEY = "unknown key"
STOPS_START = "With this file the daemon does not start; a running one keeps the file it has."


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
    bare, metas = strip(hint)
    if isinstance(value, float) and not math.isfinite(value):
        yield _unfit(path, f"{_named(path)} is {value}", "a finite number is wanted")
        return
    members = members_of(bare)
    if len(members) > 1:
        fitting = [one for one in members if fits(value, one)]
        if len(fitting) == 1:
            yield from _walk(value, again(fitting[0], metas), path)
            return
        if not fitting and isinstance(value, dict) and (tags := hints.tags_of(members)):
            yield _mistagged(value, *tags, path)
            return
    elif is_struct(bare):
        if isinstance(value, dict):
            yield from _walk_struct(value, bare, path)
            return
    elif origin(bare) in LISTS:
        if isinstance(value, list):
            yield from _walk_list(value, bare, metas, path)
            return
    elif origin(bare) in {dict, Mapping} and isinstance(value, dict):
        yield from _walk_dict(value, bare, metas, path)
        return
    yield from _leaf(value, hint, path)


def _walk_struct(value: dict[str, Any], struct: Any, path: Path) -> Iterator[Fault]:
    config = struct.__struct_config__
    fields = {field.encode_name: field for field in hints.fields(struct)}
    clean = True
    tag = {config.tag_field} if config.tag_field else set()
    for key, item in value.items():
        if key in fields:
            for fault in _walk(item, fields[key].type, (*path, key)):
                clean = False
                yield fault
        elif config.forbid_unknown_fields and key not in tag:
            clean = False
            yield _unknown(key, item, [*fields, *tag], path)
    for key, field in fields.items():
        if field.required and key not in value:
            clean = False
            yield Fault(
                path=path,
                text=f'{_table(path)} has no "{key}"' if path else f'the key "{key}" is missing',
                effect=f"It wants {wanted.of(field.type)} there.\n{STOPS_START}",
                fix=f"add  {key} = {wanted.example(field.type)}",
                on_key=True,
            )
    if clean:
        yield from _judge(value, struct, path)


def _walk_list(value: list[Any], bare: Any, metas: tuple[Meta, ...], path: Path) -> Iterator[Fault]:
    arguments = get_args(bare)
    clean = True
    for index, item in enumerate(value):
        hint: Any = Any
        if origin(bare) is tuple and arguments and arguments[-1] is not Ellipsis:
            hint = arguments[index] if index < len(arguments) else Any
        elif arguments:
            hint = arguments[0]
        for fault in _walk(item, hint, (*path, index)):
            clean = False
            yield fault
    if clean:
        yield from _judge(value, again(bare, metas), path)


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
                fix=f"use {wanted.of(key_hint)}{wanted.close(key, key_hint)}",
                on_key=True,
            )
        if dotted := _dotted(key, item, item_hint):
            clean = False
            text = f"{_named((*path, key))} wants {wanted.of(item_hint)}, found a table"
            fix = f"a name with dots goes in quotes: {dotted}"
            yield Fault(path=(*path, key), text=text, effect=STOPS_START, fix=fix)
            continue
        for fault in _walk(item, item_hint, (*path, key)):
            clean = False
            yield fault
    if clean:
        yield from _judge(value, again(bare, metas), path)


def _judge(value: Any, hint: Any, path: Path) -> Iterator[Fault]:
    """Rules about a container as a whole: its length, a Struct's `__post_init__`."""
    if why := _complaint(value, hint):
        yield _unfit(path, f"{_named(path)}: {why}" if path else why, "", on_key=bool(path))


def _leaf(value: Any, hint: Any, path: Path) -> Iterator[Fault]:
    why = _complaint(value, hint)
    if why is None:
        return
    if isinstance(value, dict) and _wants_tables(hint):
        name = ".".join(part for part in path if isinstance(part, str))
        text = f'"{path[-1]}" is one table, wanted is an array of tables'
        fix = f"write [[{name}]]"
        yield Fault(path=path, text=text, effect=STOPS_START, fix=fix, on_key=True)
        return
    if not is_kind(value, hint):
        text = f"{_named(path)} wants {wanted.of(hint)}, found {wanted.found(value)}"
    elif hints.choices_of(hint):
        text = f"{_named(path)} cannot be {wanted.show(value)}"
    else:
        text = f"{_named(path)} is {wanted.show(value)}, wanted is {wanted.of(hint)}"
    yield Fault(path=path, text=text, effect=STOPS_START, fix=_fix(value, hint, path))


def _dotted(key: str, value: Any, hint: Any) -> str | None:
    """`llama-3.3-70b = 1`, which TOML takes for a table within a table: as it was meant."""
    name = key
    while isinstance(value, dict) and len(value) == 1:
        part, value = next(iter(value.items()))
        name = f"{name}.{part}"
    if (
        name == key
        or is_struct(strip(hint)[0])
        or isinstance(value, dict)
        or _complaint(value, hint) is not None
    ):
        return None
    return f'"{name}" = {wanted.show(value)}'


def _wants_tables(hint: Any) -> bool:
    bare = strip(hint)[0]
    return origin(bare) in LISTS and any(is_struct(strip(one)[0]) for one in get_args(bare))


def _complaint(value: Any, hint: Any) -> str | None:
    """What msgspec says against `value`, None when it fits."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as why:
        return str(why).split(" - at `")[0]
    return None


def _unknown(key: str, item: Any, known: list[str], path: Path) -> Fault:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if is_secret_name(key) and f"{key}_file" in known:
        fix = f'a secret goes into a file of its own: did you mean "{key}_file"?'
    elif close:
        fix = f'did you mean "{close[0]}"?'
    elif isinstance(item, dict) and len(path) > 1:
        # [models.llama-3.3-70b] is "3-70b" in "llama-3": TOML takes a dot for a table within.
        *outer, name = path
        fix = f"a name with dots goes in quotes: {_table((*outer, f'{name}.{key}'))}"
    else:
        fix = f"remove it; known here: {', '.join(sorted(known))}"
    inside = f" in {_table(path)}" if path else ""
    return Fault(path=(*path, key), text=f'{UNKNOWN_KEY} "{key}"{inside}', fix=fix, on_key=True)


def _mistagged(value: dict[str, Any], key: str, tags: list[str], path: Path) -> Fault:
    """A table of several kinds, whose own kind is missing or unknown."""
    said = value.get(key)
    choices = f"one of {', '.join(map(wanted.show, tags))}"
    if said is None:
        text = f'{_table(path)} has no "{key}"'
        fix = f"add  {key} = …  with {choices}"
        return Fault(path=path, text=text, effect=STOPS_START, fix=fix, on_key=True)
    text = f'"{key}" cannot be {wanted.show(said)}'
    close = difflib.get_close_matches(str(said).lower(), tags, n=1, cutoff=0.6)
    fix = f'did you mean "{close[0]}"?' if close else f"set it to {choices}"
    return Fault(path=(*path, key), text=text, effect=STOPS_START, fix=fix)


def _unfit(path: Path, text: str, fix: str, *, on_key: bool = False) -> Fault:
    return Fault(path=path, text=text, effect=STOPS_START, fix=fix, on_key=on_key)


def _fix(value: Any, hint: Any, path: Path) -> str:
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if close := wanted.close(value, hint):
        return close.removeprefix(": ")
    if isinstance(value, str) and not is_kind(value, hint):
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
    return f"set it to {wanted.of(hint)}"


def _named(path: Path) -> str:
    """`"port"`, `"models" item 2`: the key, and for array items which (from 1)."""
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the file"
    if isinstance(path[-1], int):
        return f'item {path[-1] + 1} of "{names[-1]}"'
    return f'"{names[-1]}"'


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _table(path: Path) -> str:
    if not path:
        return "the file"
    names = ".".join(_quoted(part) for part in path if isinstance(part, str))
    return f"[[{names}]]" if isinstance(path[-1], int) else f"[{names}]"
