"""`creche config versions`: the good configuration files that the router kept."""

import argparse

from common.clock import parse_wire_time, wall
from common.wire.router import ConfigVersion
from ctl import render
from ctl.admin import in_force
from ctl.errors import Exit
from ctl.find import Place
from ctl.judge import duration
from ctl.output import Output
from ctl.render import Paint

HELP = "list the good configuration files that were kept"
MORE = """\
Examples:
  creche config versions
  creche config rollback 12
"""
HEAD = ("", "VERSION", "KEPT", "DIGEST", "")


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    now = await in_force(place)
    if out.json:
        out.value({"versions": now.versions})
    else:
        out.lines(lines(now.versions, wall(), out.paint))
    return Exit.WELL


def lines(versions: list[ConfigVersion], wall_s: float, paint: Paint = render.PLAIN) -> list[str]:
    if not versions:
        return ["No version is kept yet."]
    rows = [
        (
            "▶" if one.in_force else " ",
            str(one.version),
            f"{duration(max(0.0, wall_s - parse_wire_time(one.kept_at)))} ago",
            one.digest,
            "in force" if one.in_force else "rolled back from" if one.rejected else "",
        )
        for one in versions
    ]
    return render.table(HEAD, rows, "<>><<", paint)
