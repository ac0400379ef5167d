"""`creche engines`: every engine that a babysitter watches over, also those never registered."""

import argparse

from common.clock import wall
from ctl import render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.fleet import Fleet, look
from ctl.judge import age_s, duration
from ctl.output import Output
from ctl.render import Paint
from ctl.views import UNASKED, EngineView, engine_views

HELP = "every engine and its state, also those that never became ready"
MORE = """\
Examples:
  creche engines
  creche engines --json | jq -r '.engines[] | select(.state=="FATAL") | .service'
"""
HEAD = ("", "ENGINE", "STATE", "FOR", "KIND", "PORT", "PID", "RESTARTS", "MODELS")
MARKS = {"READY": "✓", "FATAL": "✗", "BACKOFF": "!"}


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        fleet = await look(client, place.url)
    views = engine_views(fleet)
    if out.json:
        out.value({"engines": views, "silent": fleet.babysitters_silent})
    else:
        out.lines(lines(views, fleet, wall(), out.paint))
    return Exit.WELL


def lines(
    views: list[EngineView], fleet: Fleet, now: float, paint: Paint = render.PLAIN
) -> list[str]:
    if not views:
        return ["No engine is known.", *_silence(fleet, paint)]
    rows, asides = [], []
    for one in views:
        age = age_s(one.since, now)
        rows.append(
            (
                "!" if _but(one) else MARKS.get(one.state, "·"),
                one.service,
                "not asked yet" if one.state == UNASKED else one.state + _but(one),
                "-" if age is None else duration(age),
                one.kind or "-",
                str(one.port or "-"),
                str(one.pid or "-"),
                str(one.restarts),
                ", ".join(one.models) or "-",
            )
        )
        asides += _aside(one, now, paint)
    head, *body = render.table(HEAD, rows, "<<<><>>><", paint)
    marked = [paint.mark(line[0]) + line[1:] for line in body]
    asides += _silence(fleet, paint)
    return [head, *marked, *([""] if asides else []), *asides]


def _but(one: EngineView) -> str:
    """What speaks against an engine that is READY by its own word."""
    if one.state != "READY":
        return ""
    if one.fit is False:
        return " unfit"
    if one.set_aside:
        return " set aside"
    if one.breaker == "open":
        return " breaker open"
    return " resting" if one.resting_s > 0 else ""


def _aside(one: EngineView, now: float, paint: Paint) -> list[str]:
    if one.conflict:
        return [f"{paint.mark('✗')} {one.service}   {one.conflict}"]
    if one.progress and one.state == "STARTING":
        return [f"{paint.mark('·')} {one.service}   {one.progress}"]
    if one.last_exit is not None:
        age = age_s(one.last_exit.at, now)
        ago = "" if age is None else f" {duration(age)} ago"
        mark = MARKS.get(one.state, "·") if one.state != "READY" else "·"
        return [f"{paint.mark(mark)} {one.service}   ended{ago}: {one.last_exit.text}"]
    return []


def _silence(fleet: Fleet, paint: Paint) -> list[str]:
    lines = [
        f"{paint.mark('!')} babysitter {one.url} did not tell: {one.why}"
        for one in fleet.babysitters_silent
    ]
    if fleet.registry_silent is not None:
        silent = fleet.registry_silent
        lines.append(f"{paint.mark('!')} registry {silent.url} did not tell: {silent.why}")
    return lines
