"""`creche config unset KEY`: a key or table out of a configuration file."""

import argparse

from ctl import change, edit
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output

HELP = "remove keys or tables from a configuration file"
MORE = """\
Examples:
  creche config unset retry.attempts_max       back to its default
  creche config unset models.code              the whole table
  creche config unset rules.0                  the first rule
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="+")
    change.arguments(parser)


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    def drop(text: str) -> str:
        for key in args.keys:
            text = edit.drop(text, edit.path_of(key))
        return text

    return await change.run(args, place, out, await change.opened(args.file, place), drop)
