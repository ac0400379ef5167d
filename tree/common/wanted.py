"""What a type wants and what was found instead, in words for operators. Pure."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from msgspec import Meta, UnsetType

from common.hints import LISTS, choices_of, is_struct, members_of, origin, strip

#: By name: dates only pass through here, and decisions import no clock.
_KIND = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "datetime": "a date with a time",
    "date": "a date",
    "time": "a time",
    "NoneType": "nothing",
}


def of(hint: Any) -> str:
    bare, metas = strip(hint)
    described = [meta.description for meta in metas if meta.description]
    if described:
        return described[-1]
    if choices := choices_of(bare):
        return _one_of(choices)
    members = [one for one in members_of(bare) if one not in {type(None), UnsetType}]
    if len(members) > 1:
        return " or ".join(dict.fromkeys(map(of, members)))
    bare = members[0] if members else bare
    if bare is not hint and strip(bare)[1]:
        return of(bare)
    return _plain(bare) + _bounds(metas)


def _plain(bare: Any) -> str:
    if bare is Any:
        return "anything"
    if origin(bare) in LISTS:
        arguments = [one for one in get_args(bare) if one is not Ellipsis]
        return f"an array of {_plural(of(arguments[0]))}" if arguments else "an array"
    if origin(bare) in {dict, Mapping} or is_struct(bare):
        return "a table"
    name = getattr(bare, "__name__", str(bare))
    return _KIND.get(name, name)


def _plural(text: str) -> str:
    for article in ("an ", "a "):
        if text.startswith(article):
            head, *rest = text.removeprefix(article).split(" ", 1)
            return " ".join([head + "s", *rest])
    return text


def _bounds(metas: tuple[Meta, ...]) -> str:
    said: list[str] = []
    for meta in metas:
        said += [f"above {meta.gt}"] if meta.gt is not None else []
        if meta.ge is not None and meta.le is not None:
            said.append(f"from {meta.ge} to {meta.le}")
        else:
            said += [f"of at least {meta.ge}"] if meta.ge is not None else []
            said += [f"of at most {meta.le}"] if meta.le is not None else []
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


def example(hint: Any) -> str:
    wanted = members_of(strip(hint)[0])[0]
    bare = strip(wanted)[0]
    if choices := choices_of(bare):
        return f'"{choices[0]}"'
    if origin(bare) in LISTS:
        return "[…]"
    if origin(bare) in {dict, Mapping} or is_struct(bare):
        return "{ … }"
    return {bool: "true", int: "1", float: "1.0"}.get(bare, '"…"')


def found(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    name = type(value).__name__
    kind = _KIND.get(name, name)
    return f"{kind}, {show(value)}" if isinstance(value, (str, int, float)) else kind


def show(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1:]


def close(value: Any, hint: Any) -> str:
    choices = choices_of(hint)
    if not isinstance(value, str) or not choices:
        return ""
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.6)
    return f': did you mean "{close[0]}"?' if close else ""
