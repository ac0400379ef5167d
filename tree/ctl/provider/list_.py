"""`creche provider list`: the providers of the router's file."""

import argparse
from collections.abc import Mapping

from common.config import has_errors, report
from ctl import change, render
from ctl.errors import Exit
from ctl.find import Place
from ctl.kinds import ROUTER
from ctl.output import Output
from ctl.render import Paint
from router.named import Provider

HELP = "list the providers of the router's file"
MORE = """\
Examples:
  creche provider list
  creche provider list --json | jq -r '.providers[] | select(.status != "active") | .name'
"""
HEAD = ("", "PROVIDER", "TYPE", "STATUS", "MODELS", "KEY", "BASE URL")
#: More names than this on one line hide the rest of the table.
NAMED_MAX = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    change.arguments(parser, changes=False)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    file = await change.opened(args.file, place, ROUTER)
    chosen, problems = ROUTER.judge(file.text, str(file.path))
    if chosen is None:
        out.lines([report(problems)])
        return Exit.PROBLEMS
    if out.json:
        out.value(
            {"file": str(file.path), "providers": [_row(*one) for one in _all(chosen.providers)]}
        )
    else:
        out.lines(lines(chosen.providers, str(file.path), out.paint))
    if has_errors(problems):
        out.aside(f"{file.path} has errors:  creche config check {file.path}")
    return Exit.WELL


def lines(providers: Mapping[str, Provider], file: str, paint: Paint = render.PLAIN) -> list[str]:
    if not providers:
        return [f"{file} has no provider.   creche provider add NAME --type … --base-url …"]
    rows = [
        (
            "✓" if one.status == "active" else "·",
            name,
            one.type,
            one.status.replace("_", " "),
            _models(one.models),
            _key(one),
            one.base_url,
        )
        for name, one in _all(providers)
    ]
    return render.table(HEAD, rows, "<<<<<<<", paint)


def _all(providers: Mapping[str, Provider]) -> list[tuple[str, Provider]]:
    """Those that are asked first, each group in the file's order."""
    return sorted(providers.items(), key=lambda one: one[1].status != "active")


def _models(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more or "-"


def _key(one: Provider) -> str:
    """Where its key is, never the key."""
    return f"${one.api_key_env}" if one.api_key_env else one.api_key_file or "-"


def _row(name: str, one: Provider) -> dict[str, object]:
    return {
        "name": name,
        "type": one.type,
        "status": one.status,
        "base_url": one.base_url,
        "models": one.models,
        "api_key_env": one.api_key_env,
        "api_key_file": one.api_key_file,
    }
