"""`creche config reload`: the router reads its file again."""

import argparse

from ctl.admin import RefusedReload, order, refused, told
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output

HELP = "let the router read its file again"
MORE = """\
A file with errors changes nothing: the router keeps what it has, and this tells what  check  would.
No running request is cut. SIGHUP does the same.

Examples:
  creche config reload                         exit: 0 in force, 1 refused
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    try:
        return told(await order(place, "reload"), out)
    except RefusedReload as end:
        return refused(end, out)
