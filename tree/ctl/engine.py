"""`creche engine start|stop|restart|kill NAME`: tell an engine's babysitter what to do with it."""

import argparse
import asyncio
from typing import Any
from urllib.parse import quote

from common.clock import monotonic
from common.wire.babysitter import Engine, EngineState
from ctl import which
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.fleet import look
from ctl.output import Output
from ctl.views import engine_views

HELP = "start, stop, restart or kill one engine"
MORE = """\
NAME is an engine, or NAME@HOST where several hosts run one of that name. start, stop and restart
come back when it is done (--no-wait: at once). stop drains first: requests in flight end in peace.
kill is SIGKILL, counted as a crash: its babysitter starts it again. It shows what a crash costs.

Examples:
  creche engine restart llama-70b@gpu-03
  creche engine stop coder                     until:  creche engine start coder
  creche engine kill mock-a && creche status
"""
ACTIONS = ("start", "stop", "restart", "kill")
#: How often the babysitter is asked whether it is done.
ASK_S = 0.2


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("name", metavar="NAME[@HOST]", help="which engine")
    parser.add_argument("--no-wait", action="store_true", help="come back at once")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=600.0,
        help="wait this long for it to be done (default 600)",
    )


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        views = engine_views(await look(client, place.url))
        view = which.engine(views, args.name)
        url = f"{which.babysitter_of(view)}/engines/{quote(view.name, safe='')}"
        # Before the order: how many lives it had, so that the old READY is not taken for the new.
        before = await client.get(url, Engine)
        if args.action == "kill" and before.pid is None:
            raise CtlError(f"{view.service} is {before.state}", "there is no process to kill")
        # A babysitter may answer when the order is carried out, so draining must fit.
        await client.post(f"{url}/{args.action}", dict[str, Any], timeout_s=args.timeout)
        if args.action == "kill" or args.no_wait:
            now = await client.get(url, Engine)
        else:
            now = await until_done(client, url, args.action, before, args.timeout)
    if out.json:
        out.value(now)
    else:
        out.lines([_told(args.action, now, out)])
    return Exit.WELL


async def until_done(
    client: Client, url: str, action: str, before: Engine, timeout_s: float
) -> Engine:
    """The engine once `action` is done. Raises CtlError when it fails or takes too long."""
    deadline = monotonic() + timeout_s
    while True:
        now = await client.get(url, Engine)
        if done(action, before, now):
            return now
        if now.state == EngineState.FATAL and now.since != before.since:
            why = now.last_exit.text if now.last_exit else ""
            raise CtlError(
                f"{now.service} did not come up", why, f"See why:  creche logs {now.service}"
            )
        if monotonic() >= deadline:
            raise CtlError(
                f"{now.service} is {now.state} after {timeout_s:g} s",
                now.progress or "",
                f"It goes on; wait longer:  creche wait {now.service}",
            )
        await asyncio.sleep(ASK_S)


def done(action: str, before: Engine, now: Engine) -> bool:
    """Whether `action`, told to `before`, is carried out in `now`. Pure."""
    if action == "stop":
        return now.state == EngineState.STOPPED
    if now.state != EngineState.READY:
        return False
    return action == "start" or now.instance_id != before.instance_id or now.pid != before.pid


def _told(action: str, now: Engine, out: Output) -> str:
    if action == "kill":
        return (
            f"{out.paint.mark('✓')} {now.service} was killed (SIGKILL); "
            f"its babysitter counts a crash and starts it again   creche status"
        )
    mark = "✓" if now.state in (EngineState.READY, EngineState.STOPPED) else "·"
    pid = f"   pid {now.pid}" if now.pid else ""
    return f"{out.paint.mark(mark)} {now.service} is {now.state}{pid}"
