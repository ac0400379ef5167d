"""`creche provider disable NAME`: no request goes to it; its table stays."""

import argparse

from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.provider import status

HELP = "let no request go to a provider"
MORE = """\
Where the file still needs it, the places are told, each with the command that takes it out. --force
takes its models out of the fallback chains that would name what nobody lists; the difference shows
them.

Examples:
  creche provider disable openai --reload
  creche provider disable openai --force --dry-run
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    status.arguments(parser)
    parser.add_argument(
        "--force", action="store_true", help="take its models out of the chains that name them"
    )


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    return await status.become("disabled", args, place, out)
