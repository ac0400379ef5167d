"""`creche config rollback [VERSION]`: a kept configuration comes back, in force and as the file."""

import argparse

from ctl.admin import RefusedReload, order, refused, told
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output

HELP = "bring a kept configuration back"
MORE = """\
Without VERSION the one before. It is put in force, and the file says it again; what the file said
is kept beside it.

Examples:
  creche config rollback
  creche config rollback 12                    creche config versions lists them
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", nargs="?", type=int)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    wanted = {} if args.version is None else {"version": args.version}
    try:
        return told(await order(place, "rollback", wanted), out)
    except RefusedReload as end:
        return refused(end, out)
