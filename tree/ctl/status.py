"""`creche status`: what is broken, who feels it, what next."""

import argparse

from common.clock import wall
from ctl import render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.fleet import look
from ctl.judge import judge
from ctl.output import Output

HELP = "what is broken, who feels it, what next"
MORE = """\
Exit status: 0 all well, 1 problems, 2 the router is unreachable.

Examples:
  creche status
  creche status --json | jq -r '.problems[].subject'
  creche status >/dev/null || echo 'look at the fleet'
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        report = judge(await look(client, place.url), wall())
    if out.json:
        out.value(report)
    else:
        out.lines(render.status(report, out.paint))
    return Exit.PROBLEMS if report.problems else Exit.WELL
