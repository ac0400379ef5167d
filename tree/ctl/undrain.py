"""`creche undrain SERVICE|HOST`: takes an operator's drain marks away."""

import argparse

from ctl import leaving
from ctl.client import Client
from ctl.errors import CtlError, Exit, RefusedError
from ctl.find import Place
from ctl.fleet import Fleet, look
from ctl.judge import plural
from ctl.leaving import Meant
from ctl.marks import mark
from ctl.output import Output

HELP = "take the mark of creche drain away"
MORE = """\
Marks of engines that are stopped, or gone from the registry, are taken away too.

Examples:
  creche undrain gpu-07
  creche undrain coder@gpu-07
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", metavar="SERVICE|HOST", nargs="+", help="a service, or all of a host"
    )


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        fleet = await look(client, place.url)
        who = [_meant(fleet, name) for name in args.names]
        undrained: list[str] = []
        for each in who:
            undrained += await _undrain(client, fleet, each)
    if out.json:
        out.value({"undrained": undrained})
        return Exit.WELL
    name = ", ".join(args.names)
    if undrained:
        takes = "takes" if len(undrained) == 1 else "take"
        said = f"{name}: {plural(len(undrained), 'engine')} {takes} requests again"
        if undrained != list(args.names):
            said += f"   {'  '.join(undrained)}"
        out.lines([f"{out.paint.mark('✓')} {said}"])
    else:
        out.lines([f"· {name} was not drained"])
    return Exit.WELL


def _meant(fleet: Fleet, name: str) -> Meant:
    """A mark outlives its service: a full name is tried even where nobody knows it."""
    try:
        return leaving.meant(fleet, name)
    except CtlError:
        if "@" not in name or fleet.registry is None:
            raise
        return Meant(name=name, services=(), unregistered=(name,))


async def _undrain(client: Client, fleet: Fleet, who: Meant) -> list[str]:
    drained = {one.name for one in leaving.records(fleet) if one.draining}
    done = []
    for one in who.services:
        if one in drained:
            await mark(client, fleet.registry_url or "", one, on=False)
            done.append(one)
    for one in who.unregistered:
        try:
            await mark(client, fleet.registry_url or "", one, on=False)
        except RefusedError as why:
            if why.status != 404:
                raise
            if one == who.name:
                raise CtlError(f"no service is called {one}", "and no mark is kept of it") from why
        else:
            done.append(one)
    return done
