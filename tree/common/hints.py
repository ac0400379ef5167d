"""Type hints taken apart: annotations, unions, containers, Structs. Pure."""

import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

LISTS = (list, tuple, set, frozenset, Sequence, AbstractSet)


@cache
def fields(struct: Any) -> tuple[Any, ...]:
    return msgspec.structs.fields(struct)


def strip(hint: Any) -> tuple[Any, tuple[Meta, ...]]:
    metas: list[Meta] = []
    while get_origin(hint) is Annotated:
        inner, *extra = get_args(hint)
        metas = [one for one in extra if isinstance(one, Meta)] + metas
        hint = inner
    return hint, tuple(metas)


def again(bare: Any, metas: tuple[Meta, ...]) -> Any:
    return Annotated[(bare, *metas)] if metas else bare


def members_of(bare: Any) -> tuple[Any, ...]:
    if get_origin(bare) in {Union, types.UnionType}:
        return tuple(inner for one in get_args(bare) for inner in members_of(one))
    return (bare,)


def origin(bare: Any) -> Any:
    return get_origin(bare) or bare


def is_struct(bare: Any) -> bool:
    return isinstance(bare, type) and issubclass(bare, Struct)


def fits(value: Any, member: Any) -> bool:
    """Whether `value` is of `member`'s kind, so that its faults are looked for there."""
    bare = strip(member)[0]
    if is_struct(bare):
        if not isinstance(value, dict):
            return False
        config = bare.__struct_config__
        return config.tag_field is None or value.get(config.tag_field) == config.tag
    if origin(bare) in LISTS:
        return isinstance(value, list)
    if origin(bare) in {dict, Mapping}:
        return isinstance(value, dict)
    return is_kind(value, bare)


def is_kind(value: Any, hint: Any) -> bool:
    """Whether `value` has the right kind, whatever its range."""
    for member in members_of(strip(hint)[0]):
        bare = strip(member)[0]
        if bare is Any:
            return True
        if get_origin(bare) is Literal:
            if any(type(one) is type(value) for one in get_args(bare)):
                return True
        elif isinstance(bare, type) and issubclass(bare, Enum):
            if isinstance(value, (str, int)) and not isinstance(value, bool):
                return True
        elif origin(bare) in LISTS:
            if isinstance(value, list):
                return True
        elif origin(bare) in {dict, Mapping} or is_struct(bare):
            if isinstance(value, dict):
                return True
        elif bare is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return True
        elif isinstance(bare, type) and type(value) is bare:
            return True
    return False


def choices_of(hint: Any) -> list[str]:
    """The texts that a Literal or Enum (or a union of only those, and None) allows."""
    found: list[str] = []
    for member in members_of(strip(hint)[0]):
        bare = strip(member)[0]
        if get_origin(bare) is Literal:
            found += [str(one) for one in get_args(bare)]
        elif isinstance(bare, type) and issubclass(bare, Enum):
            found += [str(one.value) for one in bare]
        elif bare not in {type(None), UnsetType}:
            return []
    return found


def tags_of(members: tuple[Any, ...]) -> tuple[str, list[str]] | None:
    """The key that tells tagged Structs apart, and its values; None where they have none."""
    configs = [one.__struct_config__ for one in map(bare_of, members) if is_struct(one)]
    tags = [str(one.tag) for one in configs if one.tag_field]
    return (str(configs[0].tag_field), tags) if tags else None


def bare_of(hint: Any) -> Any:
    """`hint` without annotations."""
    return strip(hint)[0]
