"""`creche config show`: what the router runs with, and whether its file still says so."""

import argparse

from common.clock import parse_wire_time, wall
from common.wire.router import RouterConfig
from ctl.admin import in_force
from ctl.errors import Exit
from ctl.find import Place
from ctl.judge import duration
from ctl.output import Output
from ctl.render import PLAIN, Paint

HELP = "tell what configuration the router runs with"
MORE = """\
Examples:
  creche config show
  creche config show --json | jq -r .file
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    now = await in_force(place)
    if out.json:
        out.value(now)
    else:
        out.lines(lines(now, wall(), out.paint))
    return Exit.WELL


def lines(now: RouterConfig, wall_s: float, paint: Paint = PLAIN) -> list[str]:
    ago = duration(max(0.0, wall_s - parse_wire_time(now.loaded_at)))
    version = f"version {now.version}" if now.version is not None else "not kept as a version"
    found = [
        f"{now.file or 'no file: every default'}   {version}   {now.digest}   "
        f"by {now.by}, {ago} ago"
    ]
    if now.file_differs:
        found.append(
            f"{paint.mark('!')} the file says something else by now   creche config reload"
        )
    if now.needs_restart:
        found.append(
            f"{paint.mark('!')} only a restart brings into force   {', '.join(now.needs_restart)}"
        )
    if now.undo_until:
        left = parse_wire_time(now.undo_until) - wall_s
        found.append(f"{paint.mark('·')} the last reload may still undo itself, for {left:.0f} s")
    found += [f"{paint.mark('!')} {line}" for line in now.message.splitlines()[:1]]
    found += [f"  {line}" for line in now.message.splitlines()[1:]]
    return found
