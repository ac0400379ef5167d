"""`creche key log`: who ordered what of this router."""

import argparse

from common.wire.router import AuditEntry, AuditList
from ctl import admin, render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.render import Paint

HELP = "show the audit log: keys made and revoked, reloads, rollbacks"
MORE = """\
Each router writes down what it was ordered itself, in audit.jsonl of its state folder.

Examples:
  creche key log
  creche key log --last 500 --json
"""
HEAD = ("TIME", "WHO", "FROM", "ORDER", "STATUS", "WHAT")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", metavar="N", type=int, default=50, help="so many (50)")


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        with admin.explaining(place):
            found = await client.get(f"{place.url}/admin/audit?last={args.last}", AuditList)
    if out.json:
        out.value(found)
    else:
        out.lines(lines(found.entries, out.paint))
    return Exit.WELL


def lines(entries: list[AuditEntry], paint: Paint = render.PLAIN) -> list[str]:
    if not entries:
        return ["Nothing was ordered yet."]
    rows = [
        (
            one.ts[:19].replace("T", " "),
            one.who,
            one.peer or "-",
            f"{one.method} {one.path}",
            str(one.status),
            "  ".join(f"{name} {value}" for name, value in one.what.items()) or "-",
        )
        for one in entries
    ]
    return render.table(HEAD, rows, "<<<<><", paint)
