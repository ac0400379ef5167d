"""`creche key list`: who may use the models, and how much."""

import argparse

from common.wire.router import KeyList
from ctl import render
from ctl.errors import Exit
from ctl.find import Place
from ctl.key import words
from ctl.output import Output
from ctl.render import Paint

HELP = "list the keys that hold"
MORE = """\
Examples:
  creche key list
  creche key list --all                        revoked and expired ones too
  creche key list --json | jq -r '.keys[].name'
"""
HEAD = ("", "KEY", "ID", "TENANT", "SCOPE", "MODELS", "LIMITS", "MADE", "UNTIL")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also those that hold no more")


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    found = await words.keys(place)
    if out.json:
        out.value(found)
        return Exit.WELL
    out.lines(lines(found, everything=args.all, paint=out.paint))
    if not found.required:
        out.aside('no key is asked for: router.toml needs  client_keys = "required"')
    return Exit.WELL


def lines(found: KeyList, *, everything: bool = False, paint: Paint = render.PLAIN) -> list[str]:
    shown = [one for one in found.keys if everything or one.state == "active"]
    if not shown:
        return ["No key holds.   creche key create NAME"]
    rows = [
        (
            "✓" if one.state == "active" else "✗",
            one.name,
            one.id,
            one.tenant or "-",
            one.scope,
            words.models(one),
            words.limits(one),
            words.date(one.created),
            "revoked" if one.state == "revoked" else words.date(one.expires),
        )
        for one in shown
    ]
    return render.table(HEAD, rows, "<<<<<<<<<", paint)
