"""`creche provider enable NAME`: requests may go to it again."""

import argparse

from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.provider import status

HELP = "let requests go to a provider"
MORE = """\
Examples:
  creche provider enable openai --reload
"""
arguments = status.arguments


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    return await status.become("active", args, place, out)
