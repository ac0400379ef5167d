"""A configuration's manual, made from its Structs: types, defaults and the comments in the source.

    python -m common.reference registry.config:Config            a Markdown page
    python -m common.reference registry.config:Config --toml     every key with its default

A field's comment is the `#:` lines above it; a table's is its Struct's docstring.
"""

import argparse
import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

import msgspec
import tomlkit
from msgspec import NODEFAULT, Struct

from common import hints, wanted
from common.positions import positions

#: Stand in a path for a name that the operator gives, and for an item of an array of tables.
NAMED = "*"
ITEM = "#"
_HEADER = re.compile(r"\[{1,2}([\w.\"'<>-]+)\]{1,2}\s*(?:#.*)?$")
_KEY = re.compile(r"([A-Za-z0-9_-]+)\s*=")


class Key(Struct, frozen=True, kw_only=True):
    """One key of a table. `default` is TOML, empty where none is set."""

    name: str
    wants: str
    default: str
    comment: str
    required: bool


class Table(Struct, frozen=True, kw_only=True):
    """One table. `path` holds NAMED and ITEM where the operator decides."""

    path: tuple[str, ...]
    header: str
    comment: str
    keys: tuple[Key, ...]


def tables(config: type[Struct]) -> list[Table]:
    """Every table of `config`, the top level first, then in the order of the fields."""
    return list(_tables(config, (), frozenset()))


def markdown(config: type[Struct], level: int = 3) -> str:
    """One section per table, each a Markdown table of its keys."""
    parts: list[str] = []
    for table in tables(config):
        title = f"`{table.header}`" if table.header else "Top level"
        parts.append(f"{'#' * level} {title}\n")
        if table.comment:
            parts.append(f"{table.comment}\n")
        if table.keys:
            rows = ["| key | wants | default | meaning |", "|---|---|---|---|"]
            rows += [_row(key) for key in table.keys]
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def toml(config: type[Struct]) -> str:
    """Every key with its comment and default; what has none, or wants a name, commented out."""
    parts: list[str] = []
    for table in tables(config):
        lines = _commented(table.comment) if table.header else []
        example = NAMED in table.path or ITEM in table.path
        mark = "# " if example else ""
        lines += [f"{mark}{table.header}"] if table.header else []
        for key in table.keys:
            lines += _commented(key.comment)
            hint = f"   # {key.wants}"
            if key.default and not example:
                lines.append(f"{key.name} = {key.default}")
            else:
                lines.append(f"# {key.name} = {key.default or '…'}{hint}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def missing(config: type[Struct], text: str) -> list[str]:
    """Keys of `config` that a text (a file that shows every key) neither sets nor comments out.

    A key in a comment (`# token_file = "…"`) counts for the table that it stands in, and for the
    header in a comment above it.
    """
    shown = _shown(text)
    return [
        ".".join((*table.path, key.name))
        for table in tables(config)
        for key in table.keys
        if (table.path, key.name) not in shown
    ]


def _shown(text: str) -> set[tuple[tuple[str, ...], str]]:
    """(table, key) of all that is set, or stands commented out under a (commented) header."""
    found: set[tuple[tuple[str, ...], str]] = set()
    for path in positions(text):
        if isinstance(path[-1], str):
            within = tuple(ITEM if isinstance(part, int) else part for part in path[:-1])
            found |= {(one, path[-1]) for one in _spellings(within)}
    table: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    arrays: set[tuple[str, ...]] = set()
    for raw in text.splitlines():
        line = raw.lstrip("# \t")
        if header := _HEADER.match(line):
            noted = tuple(part.strip(" \"'") for part in header[1].split("."))
            if line.startswith("[["):
                arrays.add(noted)
            noted = _with_items(noted, arrays)
            table = table if raw.lstrip().startswith("#") else noted
        elif key := _KEY.match(line):
            found |= {(one, key[1]) for at in (table, noted) for one in _spellings(at)}
    return found


def _with_items(header: tuple[str, ...], arrays: set[tuple[str, ...]]) -> tuple[str, ...]:
    """`[rules.when]` below `[[rules]]` is of its latest item."""
    found: tuple[str, ...] = ()
    for end, part in enumerate(header, 1):
        found += (part, ITEM) if header[:end] in arrays else (part,)
    return found


def _spellings(table: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """`[models.code]` shows the keys of `models.*`."""
    yield table
    for index in range(1, len(table)):
        yield (*table[:index], NAMED, *table[index + 1 :])


def _tables(struct: Any, path: tuple[str, ...], within: frozenset[Any]) -> Iterator[Table]:
    if struct in within:  # a table inside itself is told once
        return
    keys: list[Key] = []
    inner: list[tuple[Any, tuple[str, ...]]] = []
    comments = field_comments(struct)
    tag = struct.__struct_config__
    if tag.tag_field:
        keys.append(
            Key(name=tag.tag_field, wants=f'"{tag.tag}"', default="", comment="", required=True)
        )
    for field in hints.fields(struct):
        nested = list(_nested(field.type))
        if not nested:
            keys.append(_key(field, comments.get(field.name, "")))
        inner += [(kind, (*path, field.encode_name, *between)) for kind, between in nested]
    yield Table(path=path, header=_header(path), comment=_docstring(struct), keys=tuple(keys))
    for kind, at in inner:
        yield from _tables(kind, at, within | {struct})


def _header(path: tuple[str, ...]) -> str:
    if not path:
        return ""
    names = ".".join("<name>" if part == NAMED else part for part in path if part != ITEM)
    return f"[[{names}]]" if path[-1] == ITEM else f"[{names}]"


def _nested(hint: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Structs that a field holds, each with what stands between: nothing, NAMED or ITEM."""
    for member in hints.members_of(hints.strip(hint)[0]):
        bare = hints.strip(member)[0]
        arguments = get_args(bare)
        if hints.is_struct(bare):
            yield bare, ()
        elif hints.origin(bare) in {dict, Mapping} and arguments:
            yield from ((kind, (NAMED, *rest)) for kind, rest in _nested(arguments[1]))
        elif hints.origin(bare) in hints.LISTS and arguments:
            yield from ((kind, (ITEM, *rest)) for kind, rest in _nested(arguments[0]))


def _key(field: Any, comment: str) -> Key:
    default: Any = field.default
    if default is NODEFAULT and field.default_factory is not NODEFAULT:
        default = field.default_factory()
    return Key(
        name=field.encode_name,
        wants=wanted.of(field.type),
        default="" if default is NODEFAULT else _literal(default),
        comment=comment,
        required=bool(field.required),
    )


def _literal(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if plain is None:
        return ""
    return tomlkit.item(plain).as_string() if plain != {} else "{}"


def _row(key: Key) -> str:
    default = f"`{key.default}`" if key.default else ("required" if key.required else "–")
    cells = (f"`{key.name}`", key.wants, default, key.comment)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _commented(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 96)]


def _docstring(struct: Any) -> str:
    """Its own docstring (not a base's), as one line."""
    own = struct.__dict__.get("__doc__") or ""
    return " ".join(own.split())


def field_comments(struct: Any) -> dict[str, str]:
    """Field name → the `#:` lines above it in the source, bases included."""
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if base is not Struct and isinstance(base, type) and issubclass(base, Struct):
            found.update(_module_comments(base.__module__).get(base.__qualname__, {}))
    return found


@cache
def _module_comments(module: str) -> dict[str, dict[str, str]]:
    """Of every class in a module: what stands above each annotated field."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except OSError:
        return {}
    lines = source.splitlines()
    found: dict[str, dict[str, str]] = {}
    for node, name in _classes(ast.parse(source), ""):
        own = found.setdefault(name, {})
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                own[item.target.id] = _above(lines, item.lineno - 1)
    return found


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[ast.ClassDef, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child, prefix + child.name
            yield from _classes(child, f"{prefix}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _classes(child, f"{prefix}{child.name}.<locals>.")


def _above(lines: list[str], index: int) -> str:
    """The `#:` lines right above line `index`, as one text."""
    found: list[str] = []
    while index > 0 and lines[index - 1].strip().startswith("#:"):
        index -= 1
        found.insert(0, lines[index].strip().removeprefix("#:").strip())
    return " ".join(found)


def load(name: str) -> type[Struct]:
    """The Struct at `module:Name`. Raises ValueError."""
    module, colon, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None) if colon else None
    if not hints.is_struct(found):
        raise ValueError(f"{name!r} is no Struct: write module:Name")
    return found  # type: ignore[return-value]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m common.reference")
    parser.add_argument("struct", metavar="MODULE:STRUCT")
    parser.add_argument("--toml", action="store_true", help="commented TOML, not Markdown")
    arguments = parser.parse_args(argv)
    config = load(arguments.struct)
    sys.stdout.write(toml(config) if arguments.toml else markdown(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
