"""`creche config import litellm FILE`, `import providers FILE…`: others' files as a router.toml."""

import argparse
from pathlib import Path

from common.config import has_errors, report
from ctl import files
from ctl.config.check import problem_json
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.imports import litellm, providers
from ctl.imports.draft import Draft
from ctl.imports.reading import FILE_BYTES_MAX, Yaml, YamlFault, read
from ctl.kinds import ROUTER
from ctl.output import Output

HELP = "make a router.toml of another product's files"
MORE = """\
  litellm FILE        the config.yaml of a LiteLLM proxy
  providers FILE…     providers.yaml and model-mappings.yaml of the older unified backend

What cannot be carried over is told, each with its place and why, and stands at the end of the
result. Keys are never written into it: they stay in the environment or go into files of their own.

Examples:
  creche config import litellm config.yaml -o router.toml
  creche config import providers providers.yaml model-mappings.yaml
                                               exit: 0 the result may run, 1 its errors are told
"""
CONVERTERS = {"litellm": litellm.convert, "providers": providers.convert}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", choices=list(CONVERTERS))
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, help="default: standard output")
    parser.add_argument("--force", action="store_true", help="replace OUT")


def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    draft = CONVERTERS[args.source]([_read(path) for path in args.files])
    text = draft.text([path.name for path in args.files])
    name = str(args.output or "the result")
    _, problems = ROUTER.judge(text, name)
    if args.output:
        files.create(args.output, text, force=args.force)
    if out.json:
        out.value(
            {
                "toml": text,
                "file": args.output and str(args.output),
                "not_carried": [{"path": one.path, "why": one.why} for one in draft.lost],
                "notes": draft.notes,
                "problems": [problem_json(one) for one in problems],
            }
        )
    elif not args.output:
        out.lines(text.splitlines())
    _tell(draft, args.output, out)
    if problems:
        out.aside(report(problems))
    return Exit.PROBLEMS if has_errors(problems) else Exit.WELL


def _tell(draft: Draft, written: Path | None, out: Output) -> None:
    if draft.lost:
        out.aside(f"not carried over ({len(draft.lost)}):")
        for one in draft.lost:
            out.aside(f"  {one.path}\n      {one.why}")
    for note in draft.notes:
        out.aside(f"· {note}")
    if written:
        out.aside(f"✓ {written}   check it:  creche config check {written} --live")


def _read(path: Path) -> Yaml:
    try:
        with path.open("rb") as opened:
            return read(opened.read(FILE_BYTES_MAX + 1), path.name)
    except OSError as why:
        raise CtlError(f"cannot read {path}: {why.strerror}", code=Exit.USAGE) from why
    except YamlFault as why:
        raise CtlError(f"{path}: {why}") from why
