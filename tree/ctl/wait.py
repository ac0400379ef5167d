"""`creche wait`: come back when a model or a service is served, for scripts and unit files."""

import argparse
import asyncio
from typing import Any

from common.clock import monotonic
from common.wire.babysitter import EngineState
from common.wire.router import RouterServices
from ctl.client import Client
from ctl.errors import CtlError, Exit, UnreachableError
from ctl.find import Place
from ctl.fleet import look
from ctl.output import Output
from ctl.views import EngineView, engine_views

HELP = "come back when a model or a service is served"
MORE = """\
Exit status: 0 it is served, 1 it is not and will not be in time, 2 the router was unreachable
throughout. It ends early when every engine of that name has given up (FATAL).

Examples:
  creche wait qwen3-coder                      a model
  creche wait llama-70b@gpu-03 --timeout 1800  a service: NAME@HOST, or NAME where it is one
  creche wait tiny-llama && creche chat --model tiny-llama hello
"""
#: How often the router is asked; a table that it has at hand costs it next to nothing.
ASK_S = 0.2
#: How often everyone is asked whether there is still hope.
HOPE_S = 2.0
#: A wait that is longer than this says what it waits for: silence would look like a hang.
TOLD_AFTER_S = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="MODEL|SERVICE", help="a model's or a service's name")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=600.0,
        help="give up after this long (default 600: large models load slowly)",
    )


def _seconds(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    began = monotonic()
    deadline = began + args.timeout
    next_hope = began + HOPE_S
    away: UnreachableError | None = None
    told = False
    async with Client(place.token) as client:
        while True:
            try:
                services = await client.get(f"{place.url}/services", RouterServices)
                listing = await client.get(f"{place.url}/v1/models", dict[str, Any])
                away = None
                by = served(args.name, services, listing)
                if by is not None:
                    return _served(args.name, by, monotonic() - began, out)
                if monotonic() >= next_hope:
                    next_hope = monotonic() + HOPE_S
                    _hopeless(args.name, engine_views(await look(client, place.url)))
            except UnreachableError as error:
                away = error
            if not told and monotonic() >= began + TOLD_AFTER_S:
                told = True
                why = f"{away.what}: {away.why}" if away else "not served yet"
                out.aside(f"… {args.name}   {why}   waiting up to {args.timeout:g} s")
            if monotonic() >= deadline:
                raise away or _late(args.name, args.timeout)
            await asyncio.sleep(min(ASK_S, max(0.0, deadline - monotonic())))


def served(name: str, services: RouterServices, listing: dict[str, Any]) -> list[str] | None:
    """The fit services behind `name` (none for a configured one), or None if it is not served."""
    fit = [one for one in services.services if one.healthy]
    if any(model.get("id") == name for model in listing.get("data", [])):
        return [one.name for one in fit if name in one.models]
    named = [one.name for one in fit if one.name == name or one.name.split("@", 1)[0] == name]
    return named or None


def _served(name: str, by: list[str], took_s: float, out: Output) -> Exit:
    if out.json:
        out.value({"name": name, "served": True, "by": by, "took_s": round(took_s, 3)})
    else:
        who = f"   by {', '.join(by)}" if by and by != [name] else ""
        out.lines([f"{out.paint.mark('✓')} {name} is served{who}   {took_s:.1f} s"])
    return Exit.WELL


def _hopeless(name: str, views: list[EngineView]) -> None:
    """Raises CtlError when every engine that could ever serve `name` has given up."""
    concerned = [one for one in views if name in (one.service, one.name) or name in one.models]
    if not concerned or any(one.state != EngineState.FATAL for one in concerned):
        return
    first = concerned[0]
    raise CtlError(
        f"{name} will not come: {first.service} is FATAL",
        first.last_exit.text if first.last_exit else "",
        f"See why:  creche logs {first.service}",
    )


def _late(name: str, timeout_s: float) -> CtlError:
    return CtlError(
        f"{name} is not served after {timeout_s:g} s",
        "",
        "What is there, and what is wrong:  creche status",
    )
