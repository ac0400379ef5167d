"""`creche services`: the router's table, one line per service."""

import argparse
from math import ceil

from common.wire.router import RouterService, RouterServices
from ctl import render
from ctl.client import Client
from ctl.errors import Exit
from ctl.find import Place
from ctl.output import Output
from ctl.render import Paint
from ctl.views import is_unasked

HELP = "the router's table: what it may send requests to"
MORE = """\
Examples:
  creche services
  creche services --model qwen3-coder
  creche services --json | jq -r '.services[] | select(.healthy|not) | .name'
"""
HEAD = ("", "SERVICE", "MODELS", "IN FLIGHT", "REQUESTS", "ERRORS", "RESPONSE", "WEIGHT", "URL")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="M", help="only services that offer this model")
    parser.add_argument("--all", action="store_true", help="babysitters' own records, too")


async def run(args: argparse.Namespace, place: Place, out: Output) -> Exit:
    async with Client(place.token) as client:
        wanted = "?type=any" if args.all else ""
        answer = await client.get(f"{place.url}/services{wanted}", RouterServices)
    chosen = [one for one in answer.services if args.model is None or args.model in one.models]
    if out.json:
        out.value({"services": chosen, "total": len(chosen), "registry_url": answer.registry_url})
    else:
        out.lines(lines(chosen, out.paint))
    return Exit.WELL


def lines(services: list[RouterService], paint: Paint = render.PLAIN) -> list[str]:
    if not services:
        return ["No service is known to the router."]
    rows, reasons = [], []
    for one in sorted(services, key=lambda one: one.name):
        out = why_out(one)
        mark = "✓" if one.healthy and not out else "!"
        rows.append(
            (
                "·" if one.draining or is_unasked(one) else mark,
                one.name,
                ", ".join(one.models) or "-",
                str(one.in_flight),
                str(one.request_count),
                str(one.error_count),
                render.milliseconds(one.response_time * 1000) if one.response_time else "-",
                f"{one.weight:g}",
                one.url,
            )
        )
        why = [reason.get("text") or reason.get("code", "") for reason in one.reasons]
        why += [out] if out else []
        why += ["a provider, not asked yet"] if is_unasked(one) else []
        why += ["draining: takes no new requests"] if one.draining else []
        if why:
            sign = "·" if is_unasked(one) else "!"
            reasons.append(f"{paint.mark(sign)} {one.name}   {'; '.join(filter(None, why))}")
    head, *body = render.table(HEAD, rows, "<<<>>>>><", paint)
    marked = [paint.mark(line[0]) + line[1:] for line in body]
    return [head, *marked, *([""] if reasons else []), *reasons]


def why_out(one: RouterService) -> str:
    """Why the router's own traffic leaves it out, in words; empty: it does not."""
    if one.set_aside:
        why = {
            "connect": "the router could not connect",
            "answers": "several requests in a row failed on it",
        }
        return f"set aside: {why.get(one.why_out, 'it was unreachable or failing')}"
    if one.breaker == "open":
        return "breaker open: several requests in a row failed on it"
    return f"resting for {ceil(one.resting_s)} s" if one.resting_s else ""
