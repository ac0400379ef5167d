"""Changing a configuration file: edit, check in full, show the difference, write, reload.

A result with errors is never written: the file stays as it was, and the report says why.
"""

import argparse
import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from common.config import ConfigError, Problem, has_errors, parse, report
from common.redact import hide_shapes
from common.wire.router import ReloadAnswer
from ctl import files, kinds
from ctl.admin import RefusedReload, file_of, order, refused, told
from ctl.config.check import problem_json
from ctl.edit import EditError
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.kinds import ROUTER, Kind
from ctl.output import Output
from ctl.render import PLAIN, Paint

Edit = Callable[[str], str]


class Editable(Struct, frozen=True):
    """A file as it was read. `shown` names it in messages."""

    path: Path
    text: str
    kind: Kind


def arguments(parser: argparse.ArgumentParser, *, changes: bool = True) -> None:
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        help=f"the router's own where it runs here, else {files.ROUTER_FILE}",
    )
    if changes:
        parser.add_argument("--reload", action="store_true", help="let the router read it again")
        parser.add_argument("--dry-run", action="store_true", help="show it, write nothing")


async def opened(file: Path | None, place: Place, kind: Kind | None = None) -> Editable:
    """The file that is meant. `kind`: it must be this daemon's. Raises CtlError."""
    path = file or await file_of(place)
    text = files.text_of(path)
    found = kinds.of(text, path.name)
    try:
        parse(text, str(path))
    except ConfigError as why:
        back = "\nor go back to the good one that the router runs with:  creche config rollback"
        raise CtlError(
            f"{path} is not TOML as it is: it was not touched",
            report(why.problems),
            f"Mend it by hand, then:  creche config check {path}"
            + (back if (kind or found or ROUTER) is ROUTER else ""),
        ) from why
    if kind is not None and found is not None and found is not kind:
        raise CtlError(
            f"{path} is the {found.name}'s file", f"the {kind.name}'s is wanted", "", Exit.USAGE
        )
    return Editable(path, text, kind or found or ROUTER)


async def run(
    args: argparse.Namespace, place: Place, out: Output, file: Editable, edit: Edit
) -> Exit:
    """Raises CtlError."""
    try:
        after = edit(file.text)
    except EditError as why:
        raise CtlError(str(why)) from why
    _, problems = file.kind.judge(after, str(file.path))
    if has_errors(problems):
        if out.json:
            out.value({"changed": False, "problems": [problem_json(one) for one in problems]})
        else:
            shown = difference(file.text, after, str(file.path), out.paint)
            out.lines([*shown, "", report(problems), ""])
            out.lines([f"{out.paint.mark('✗')} {file.path} is as it was: this change has errors"])
        return Exit.PROBLEMS
    changed = after != file.text and not args.dry_run
    if changed:
        files.replace(file.path, file.text, after)
    if not out.json:
        out.lines(_said(file, after, args, out))
        warnings = [str(one) for one in problems]
        out.lines([line for text in warnings for line in ("", *text.splitlines())])
    answer: ReloadAnswer | RefusedReload | None = None
    if args.reload and not args.dry_run:
        try:
            answer = await order(place, "reload")
        except RefusedReload as end:
            answer = end
    if out.json:
        found: dict[str, Any] = {
            "file": str(file.path),
            "changed": changed,
            "diff": "\n".join(difference(file.text, after, str(file.path))),
            "problems": [problem_json(one) for one in problems],
        }
        if answer is not None:
            found["reload"] = answer.refusal if isinstance(answer, RefusedReload) else answer
        out.value(found)
        return Exit.PROBLEMS if isinstance(answer, RefusedReload) else Exit.WELL
    if answer is None:
        return Exit.WELL
    if isinstance(answer, RefusedReload):
        return refused(answer, out)
    return told(_without(problems, answer), out)


def _without(problems: list[Problem], answer: ReloadAnswer) -> ReloadAnswer:
    """The answer without the warnings that were told before the file was written."""
    told = {str(one).partition("\n")[0] for one in problems}
    new = [text for text in answer.warnings if text.partition("\n")[0] not in told]
    return structs.replace(answer, warnings=new)


def _said(file: Editable, after: str, args: argparse.Namespace, out: Output) -> list[str]:
    if after == file.text:
        return [f"{out.paint.mark('✓')} {file.path} says so already"]
    shown = difference(file.text, after, str(file.path), out.paint)
    if args.dry_run:
        return [*shown, "", "Nothing was written (--dry-run)."]
    then = "" if args.reload or file.kind is not ROUTER else "   then:  creche config reload"
    return [*shown, "", f"{out.paint.mark('✓')} written{then}"]


def difference(before: str, after: str, name: str, paint: Paint = PLAIN) -> list[str]:
    """What changed, with two lines around it, without what looks like a secret."""
    found = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, name, n=2, lineterm=""
    )
    colours = {"+": "green", "-": "red", "@": "dim"}
    lines = [hide_shapes(line) for line in found][2:]  # the name is said elsewhere, twice here
    return [paint(line, *([colours[line[0]]] if line[0] in colours else [])) for line in lines]
