"""`creche models`: what clients may ask for, and who serves it."""

import argparse
import asyncio
from typing import Any

from common.wire.router import RouterServices, RouterStats
from ctl import render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.render import Paint

HELP = "what clients may ask for, and who serves it"
MORE = """\
Examples:
  creche models
  creche models --json | jq -r '.data[].id'
"""
HEAD = ("MODEL", "READY", "IN FLIGHT", "OWNED BY", "SERVED BY")
#: More names than this on one line hide the rest of the table.
NAMED_MAX = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        listing = await client.get(f"{place.url}/v1/models", dict[str, Any])
        if out.json:
            out.value(listing)
            return Exit.WELL
        services, stats = await asyncio.gather(
            client.get(f"{place.url}/services", RouterServices),
            client.get(f"{place.url}/stats", RouterStats),
        )
    out.lines(lines(listing.get("data", []), services, stats, out.paint))
    return Exit.WELL


def lines(
    models: list[dict[str, Any]],
    services: RouterServices,
    stats: RouterStats,
    paint: Paint = render.PLAIN,
) -> list[str]:
    known = {str(model.get("id", "")) for model in models}
    # What the file names and nobody can serve now is no answer to /v1/models.
    models = [
        *models,
        *(
            {"id": name}
            for name, one in stats.models.items()
            if one.configured and name not in known
        ),
    ]
    if not models:
        return ["No model is served now.   creche status tells why"]
    rows = []
    for model in sorted(models, key=lambda one: str(one.get("id", ""))):
        name = str(model.get("id", ""))
        told = stats.models.get(name)
        behind = told.services if told else ()
        serving = [one for one in services.services if one.name in behind or name in one.models]
        if behind:
            serving = [one for one in serving if one.name in behind]
        ready = told.ready if told else sum(one.healthy for one in serving)
        total = max(told.total if told else 0, len(serving))
        flight = told.in_flight if told else sum(one.in_flight for one in serving)
        names = [one.name for one in serving]
        by = ", ".join(names[:NAMED_MAX]) + (
            f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        )
        rows.append(
            (
                name,
                render.ready(ready, total, told.unasked if told else 0),
                str(flight),
                str(model.get("owned_by") or "-"),
                by or ("its fallbacks" if told and told.by_chain else "-"),
            )
        )
    return render.table(HEAD, rows, "<>><<", paint)
