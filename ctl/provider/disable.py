"""`creche provider disable NAME`: no request goes to it; its table stays."""

import argparse

from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.provider import status

HELP = "let no request go to a provider"
MORE = """\
Examples:
  creche provider disable openai --reload
"""
arguments = status.arguments


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    return await status.become("disabled", args, place, out)
