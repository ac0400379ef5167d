"""`creche drain SERVICE|HOST`: no new requests; what is under way ends by itself, up to a limit."""

import argparse
import asyncio

from common.clock import monotonic
from ctl import durations, leaving
from ctl.client import Client
from ctl.errors import CtlError, Exit
from ctl.find import Place
from ctl.fleet import Fleet, look
from ctl.judge import plural
from ctl.leaving import Meant
from ctl.marks import Counts, Ending, engine_url, mark
from ctl.output import Output
from ctl.views import engine_views

HELP = "send a service, or a whole host, nothing new; what runs ends by itself"
MORE = """\
The mark is the operator's: it stays over beats, restarts and new lives until creche undrain. Every
router obeys it. It comes back when nothing is left under way, or after --limit: then what is left
goes on. A drain that would leave a model without an engine is refused, unless --force.

Exit status: 0 nothing is left (or --no-wait), 1 refused, or some is left after the limit.

Examples:
  creche drain gpu-07                          every engine of that host, before its maintenance
  creche drain coder@gpu-07 --limit 30m        one; its streams may be long
  creche drain gpu-07 --no-wait                until:  creche undrain gpu-07
"""
LIMIT_S = 600.0
#: What is left is told when it changes, but no more often than this.
TOLD_EVERY_S = 2.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", metavar="SERVICE|HOST", nargs="+", help="a service, or all of a host"
    )
    parser.add_argument(
        "--limit",
        metavar="TIME",
        type=durations.seconds,
        default=LIMIT_S,
        help="wait this long for requests to end: 90s, 10m, 1h (default 10m)",
    )
    parser.add_argument("--force", action="store_true", help="even if a model has no engine then")
    parser.add_argument("--no-wait", action="store_true", help="come back at once")


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        fleet = await look(client, place.url)
        who = [leaving.meant(fleet, name) for name in args.names]
        services = list(dict.fromkeys(one for each in who for one in each.services))
        if not services:
            none = "  ".join(one for each in who for one in each.unregistered)
            raise CtlError(
                f"{_name(who)}: no engine is registered", f"no router sends anything to  {none}"
            )
        models = leaving.served(fleet.services.services, services)
        _refuse(leaving.stranded(fleet.services.services, services, models), args, who)
        await _mark_all(client, fleet, services)
        views = {one.service: one for one in engine_views(fleet)}
        urls = {one: url for one in services if (url := engine_url(views.get(one))) is not None}
        ending = Ending(client, place.url, services, urls)
        heard = await ending.seen()
        lost = leaving.stranded(ending.table, services, models)
        if lost and not args.force:  # others left meanwhile: what was true before no longer is
            await _unmark(client, fleet, services)
            _refuse(lost, args, who)
        counts = await ending.count()
        _say(out, _begun(who, services, counts, args))
        if not heard:
            out.aside(
                f"! {place.url} does not know of it yet: does it follow {fleet.registry_url}?"
            )
        if not args.no_wait:
            counts = await _wait(ending, args.limit, who, out)
    return _told(args, who, services, counts, lost, out)


def _refuse(lost: list[str], args: argparse.Namespace, who: list[Meant]) -> None:
    if lost and not args.force:
        nobody = f"nobody else serves  {'  '.join(lost)}"
        raise CtlError(
            f"{_name(who)} is not drained: {plural(len(lost), 'model')} would have no engine",
            nobody,
            f"If that is what you want:  creche drain --force {' '.join(args.names)}",
        )


async def _mark_all(client: Client, fleet: Fleet, services: list[str]) -> None:
    """All or none. Raises CtlError."""
    done: list[str] = []
    try:
        for one in services:
            done.append(one)
            await mark(client, fleet.registry_url or "", one, on=True)
    except BaseException:
        await _unmark(client, fleet, done)
        raise


async def _unmark(client: Client, fleet: Fleet, services: list[str]) -> None:
    """Back to what was: marks that were there before stay."""
    before = {one.name for one in leaving.records(fleet) if one.draining}
    for one in services:
        if one not in before:
            await mark(client, fleet.registry_url or "", one, on=False)


async def _wait(ending: Ending, limit_s: float, who: list[Meant], out: Output) -> Counts:
    said: tuple[float, Counts] = (monotonic(), {})

    def told(counts: Counts) -> None:
        nonlocal said
        if any(counts.values()) and counts != said[1] and monotonic() - said[0] >= TOLD_EVERY_S:
            said = (monotonic(), counts)
            out.aside(f"  {_line(ending.services, counts, out, who)}")

    try:
        return await ending.until_none_left(limit_s, told)
    except asyncio.CancelledError:
        out.aside(f"No longer waited for; the drain goes on. Undo: {_undo(who)}")
        raise


def _begun(who: list[Meant], services: list[str], counts: Counts, args: argparse.Namespace) -> str:
    count = len(services)
    limit = "not waited for" if args.no_wait else f"limit {durations.told(args.limit)}"
    takes = "takes" if count == 1 else "take"
    return (
        f"{_name(who)}: {plural(count, 'engine')} {takes} no new requests; "
        f"{plural(sum(counts.values()), 'request')} ending ({limit})"
    )


def _told(
    args: argparse.Namespace,
    who: list[Meant],
    services: list[str],
    counts: Counts,
    lost: list[str],
    out: Output,
) -> Exit:
    left = sum(counts.values())
    unregistered = [one for each in who for one in each.unregistered]
    if out.json:
        out.value(
            {
                "services": [{"service": one, "left": counts[one]} for one in services],
                "unregistered": unregistered,
                "left": left,
                "limit_s": args.limit,
                "models_without_engine": lost,
                "undo": _undo(who),
            }
        )
    else:
        lines = [f"  {_line(services, counts, out, who)}"]
        lines += [f"  · {one} is not registered: nothing is sent to it" for one in unregistered]
        if left and not args.no_wait:
            lines.append(
                f"{out.paint.mark('!')} {plural(left, 'request')} left after "
                f"{durations.told(args.limit)}; they go on, no new ones come"
            )
        elsewhere = f"all but {', '.join(lost)}" if lost else "all"
        lines.append(f"Models still served elsewhere: {elsewhere}. Undo: {_undo(who)}")
        out.lines(lines)
    return Exit.PROBLEMS if left and not args.no_wait else Exit.WELL


def _line(services: list[str], counts: Counts, out: Output, who: list[Meant]) -> str:
    """`✓ qwen3-32b  0 left     … coder  5 left`; of one host each is named without it."""
    short = len(who) == 1 and who[0].services != (who[0].name,)
    parts = []
    for one in services:
        name = one.removesuffix(f"@{who[0].name}") if short else one
        mark = out.paint.mark("…" if counts[one] else "✓")
        parts.append(f"{mark} {name}  {counts[one]} left")
    return "     ".join(parts)


def _say(out: Output, text: str) -> None:
    if not out.json:
        out.line(text)


def _name(who: list[Meant]) -> str:
    return ", ".join(one.name for one in who)


def _undo(who: list[Meant]) -> str:
    return f"creche undrain {' '.join(one.name for one in who)}"
