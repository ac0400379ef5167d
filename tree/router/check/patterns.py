"""[[patterns]]: they compile, a rewrite has the groups it names, each can be reached. Pure."""

import re
from collections.abc import Iterator

from common.config import Problem
from common.positions import Path
from router.check.file import File
from router.check.matcher import Matcher, why_not
from router.named import Pattern

#: Patterns that match every name.
MATCH_ALL = frozenset({".*", ".+", "^.*$", "^.+$", "(.*)", "(.+)", "^(.*)$", "^(.+)$"})

_REFERENCE = re.compile(r"\\(\\|\d)?|\$\{?\d")


def find(file: File) -> Iterator[Problem]:
    for at, pattern in enumerate(file.config.patterns):
        matcher = Matcher(pattern.match)
        if matcher.why is not None:
            yield uncompiled(file, ("patterns", at, "match"), pattern.match, matcher.why)
        else:
            yield from _rewrite(file, at, pattern, matcher.groups)
    yield from _unreached(file)


def uncompiled(file: File, path: Path, pattern: str, why: str) -> Problem:
    """The fault of a pattern that RE2 refused with `why`."""
    reason, fix = why_not(pattern, why)
    return file.error(
        path,
        f'the pattern "{pattern}" does not compile: {reason}',
        effect="No name could be matched against it.",
        fix=fix,
    )


def _rewrite(file: File, at: int, pattern: Pattern, groups: int) -> Iterator[Problem]:
    path = ("patterns", at, "rewrite")
    if pattern.rewrite is None:
        return
    if not pattern.rewrite:
        yield file.warning(
            path,
            "the rewrite is empty",
            effect="The asked name is sent on, as if the line were not there.",
            fix="take the line out, or write the name that the provider knows",
        )
        return
    for found in _REFERENCE.finditer(pattern.rewrite):
        text = found[0]
        if text.startswith("$"):
            yield file.error(
                path,
                f'"{text}" in the rewrite is no group: groups are written \\1 to \\9',
                effect=f'The provider would be asked for a model with "{text}" in its name.',
                fix=f"rewrite = '{pattern.rewrite.replace(text, chr(92) + text.strip('${'), 1)}'",
            )
            return
        if found[1] is None:
            yield file.error(
                path,
                "a backslash in the rewrite stands before no digit",
                effect="It names no group, and no model has a backslash in its name.",
                fix="write \\1 for the first group, \\\\ for a backslash",
            )
            return
        if found[1].isdigit() and int(found[1]) > groups:
            has = {0: "no group", 1: "one group"}.get(groups, f"{groups} groups")
            yield file.error(
                path,
                f'the rewrite names group {text}, the pattern "{pattern.match}" has {has}',
                effect="There would be nothing to put in its place.",
                fix="put ( ) around the part of the pattern that is to be kept",
            )
            return


def _unreached(file: File) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for_all: int | None = None
    for at, pattern in enumerate(file.config.patterns):
        before = first.setdefault(pattern.match, at)
        if for_all is not None or before < at:
            earlier = before if for_all is None else min(before, for_all)
            other = file.config.patterns[earlier].match
            line = file.line(("patterns", earlier))
            yield file.warning(
                ("patterns", at, "match"),
                f'the pattern "{pattern.match}" can never be reached',
                effect=f'"{other}" (line {line}) comes first and matches '
                f"{'the same names' if other == pattern.match else 'every name'}.",
                fix="put this one before it, or take it out",
            )
        elif pattern.match in MATCH_ALL:
            for_all = at
